package internal_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/fleetlog/fleetlog"

// mayImport is the table of rooms in DESIGN.md, "The house": room, and the other
// rooms it may import.
var mayImport = map[string][]string{
	"proto":       {},
	"ingest":      {"internal", "proto"},
	"processors":  {"internal", "proto", "rules"},
	"rules":       {"internal"},
	"projections": {"internal", "proto"},
	"query":       {"internal", "proto", "rules"},
	"export":      {"internal", "proto"},
	"edge":        {"internal", "proto", "rules"},
	"cmd":         {"proto", "ingest", "processors", "rules", "projections", "query", "export", "edge", "internal"},
	"internal":    {"proto"},
}

// rulesMayNot are packages that would end the rule engine's purity, by prefix:
// what they bring in, it gets as values instead.
var rulesMayNot = []string{
	"net", "os", "database/sql", "log", "math/rand", "crypto/rand",
	"github.com/twmb/", "github.com/ClickHouse/", "google.golang.org/grpc",
	module + "/internal/eventlog", module + "/internal/engine",
}

type goPackage struct {
	path                 string
	imports, testImports []string
}

// TestRoomsImportOnlyWhatTheDesignAllows enforces the table. Tests count too,
// except that they may use internal/enginetest wherever they are.
func TestRoomsImportOnlyWhatTheDesignAllows(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, problem := range problems(*p) {
			t.Error(problem)
		}
	}
}

func problems(p goPackage) []string {
	var found []string
	for _, imported := range slices.Concat(p.imports, p.testImports) {
		if rule := broken(p.path, imported); rule != "" {
			found = append(found, fmt.Sprintf("%s imports %s: %s", p.path, imported, rule))
		}
	}
	for _, imported := range p.imports {
		if imported == module+"/internal/enginetest" {
			found = append(found, fmt.Sprintf("%s imports %s: that is for tests only", p.path, imported))
		}
	}
	return found
}

// broken says which rule an import breaks and what to do; empty when it is fine.
func broken(from, imported string) string {
	room := roomOf(from)
	allowed, known := mayImport[room]
	if !known {
		return fmt.Sprintf("%q is no room of the house: move the package into a room of DESIGN.md, or add the room there and here", room)
	}
	if room == "rules" {
		for _, prefix := range rulesMayNot {
			if imported == prefix || strings.HasPrefix(imported, strings.TrimSuffix(prefix, "/")+"/") {
				return "rules are pure (no Kafka, no network, no database, no I/O, no randomness): pass what is needed in as a value, and do the I/O in processors or query"
			}
		}
	}
	to := roomOf(imported)
	if to == "" || to == room || slices.Contains(allowed, to) {
		return ""
	}
	if to == "cmd" {
		return "nothing imports cmd: move what is needed into the room it belongs to"
	}
	return fmt.Sprintf("%s may import %s: move what both need into internal, or talk through the log", room, list(allowed))
}

func list(rooms []string) string {
	if len(rooms) == 0 {
		return "no other room"
	}
	return "only " + strings.Join(rooms, ", ")
}

// roomOf is the package's first directory; empty for packages of others.
func roomOf(path string) string {
	inside, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	room, _, _ := strings.Cut(inside, "/")
	return room
}

// listPackages reads the imports of every Go file of the module, whatever its
// build constraints. It reads the files itself so that go test knows what the
// result depends on, and does not repeat an old one.
func listPackages(t *testing.T) map[string]*goPackage {
	t.Helper()
	packages := map[string]*goPackage{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != ".." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || strings.HasPrefix(name, "fleetlog-data")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		importPath := module + "/" + filepath.ToSlash(dir)
		p := packages[importPath]
		if p == nil {
			p = &goPackage{path: importPath}
			packages[importPath] = p
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if strings.HasSuffix(path, "_test.go") {
				p.testImports = append(p.testImports, imported)
			} else {
				p.imports = append(p.imports, imported)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, packages)
	return packages
}

// TestRoomsRulesHaveTeeth shows that each rule refuses what it is there for.
func TestRoomsRulesHaveTeeth(t *testing.T) {
	for _, tc := range []struct {
		name, from, imported string
		want                 string // part of the message; empty when allowed
	}{
		{"room to internal", "ingest/mqtt", module + "/internal/eventlog", ""},
		{"room to itself", "query/rest", module + "/query/sql", ""},
		{"standard library", "ingest/mqtt", "net", ""},
		{"sideways", "ingest/mqtt", module + "/query", "ingest may import only internal, proto"},
		{"processors to rules", "processors/rulehost", module + "/rules", ""},
		{"ingest to rules", "ingest/mqtt", module + "/rules", "ingest may import only"},
		{"internal upwards", "internal/eventlog", module + "/query", "internal may import only proto"},
		{"proto imports nothing", "proto/fleetlog/api/v1", module + "/internal/device", "no other room"},
		{"nobody imports cmd", "query", module + "/cmd/fleetlog", "nothing imports cmd"},
		{"cmd imports all", "cmd/fleetlog", module + "/edge", ""},
		{"rules and Kafka", "rules", "github.com/twmb/franz-go/pkg/kgo", "rules are pure"},
		{"rules and the log client", "rules/window", module + "/internal/eventlog", "rules are pure"},
		{"rules and the network", "rules", "net/http", "rules are pure"},
		{"rules and ClickHouse", "rules", "github.com/ClickHouse/clickhouse-go/v2", "rules are pure"},
		{"rules and domain types", "rules", module + "/internal/device", ""},
		{"rules and proto", "rules", module + "/proto/fleetlog/events/v1", "rules may import only internal"},
		{"a drawer", "helpers", "fmt", "no room of the house"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := broken(module+"/"+tc.from, tc.imported)
			if tc.want == "" {
				require.Empty(t, got)
				return
			}
			require.Contains(t, got, tc.want)
		})
	}
	require.Len(t, problems(goPackage{path: module + "/query", imports: []string{module + "/internal/enginetest"}}), 1)
	require.Empty(t, problems(goPackage{path: module + "/query", testImports: []string{module + "/internal/enginetest"}}))
}
