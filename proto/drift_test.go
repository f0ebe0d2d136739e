package proto_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGeneratedCodeIsCurrent makes everything that is generated from the
// contracts anew and compares it with what is checked in.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	tools := filepath.Join(root, ".bin")
	buf := filepath.Join(tools, "buf")
	require.FileExists(t, buf, "the generators are not installed: run `make tools`")

	// go test repeats an old result unless it sees what the new one depends on;
	// it does not see what buf reads.
	for _, input := range []string{"../buf.yaml", "../buf.gen.yaml", ".", "../third_party", "../.bin/.stamp"} {
		touchTree(t, input)
	}
	fresh := t.TempDir()
	generate := exec.CommandContext(t.Context(), buf, "generate", "--output", fresh)
	generate.Dir = root
	generate.Env = append(os.Environ(), "PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := generate.CombinedOutput()
	require.NoError(t, err, "buf generate: %s", out)

	want, got := generatedFiles(t, filepath.Join(fresh, "proto")), generatedFiles(t, ".")
	for path, content := range want {
		switch have, ok := got[path]; {
		case !ok:
			t.Errorf("proto/%s is missing: run `make generate` and check it in", path)
		case have != content:
			t.Errorf("proto/%s is not what its contract generates: run `make generate` and check the result in (generated files are never edited by hand)", path)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("proto/%s belongs to no contract any more: delete it", path)
		}
	}
	require.NotEmpty(t, want)
}

// touchTree reads the files below path.
func touchTree(t *testing.T, path string) {
	t.Helper()
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
	require.NoError(t, err)
}

// generatedFiles reads the generated files below dir, by their path in it.
func generatedFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := d.Name()
		if !strings.HasSuffix(name, ".pb.go") && !strings.HasSuffix(name, ".pb.gw.go") && !strings.HasSuffix(name, ".swagger.json") {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(relative)] = string(content)
		return err
	})
	require.NoError(t, err)
	return files
}
