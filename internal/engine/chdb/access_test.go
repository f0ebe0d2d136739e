package chdb

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/sqltext"
)

func TestStatementsStayWithinTheStorage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a & b <c>")
	_, url := startEngineIn(t, dir)
	secret := filepath.Join(t.TempDir(), "secret.tsv")
	require.NoError(t, os.WriteFile(secret, []byte("secret\n"), 0o600))

	for _, statement := range []string{
		"SELECT * FROM file('" + secret + "', 'LineAsString')",
		"SELECT * FROM `" + secret + "`",
		"INSERT INTO FUNCTION file('" + secret + "', 'LineAsString', 'a String') VALUES ('x')",
		"CREATE TABLE f (a String) ENGINE = File(LineAsString, '" + secret + "')",
		"CREATE DATABASE f ENGINE = Filesystem('/etc')",
		"SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
		"SELECT * FROM remote('127.0.0.1:1', system.one)",
		"SELECT * FROM s3('http://127.0.0.1:1/bucket/key.csv', 'CSV')",
		"SYSTEM SHUTDOWN",
		"CREATE USER other",
		"GRANT ALL ON *.* TO default",
		"BACKUP DATABASE default TO File('/tmp/fleetlog-never.zip')",
		"SELECT file('" + secret + "')",
		"SELECT * APPLY(file) FROM (SELECT '" + secret + "')",
		"SELECT arrayMap(file, ['" + secret + "'])",
		"EXPLAIN QUERY TREE SELECT `file`('" + secret + "')",
		"SELECT 1 FORMAT Template SETTINGS format_template_row = '" + secret + "'",
		"CREATE DICTIONARY d (x String) PRIMARY KEY x SOURCE(EXECUTABLE(command 'cat " + secret + "' format 'LineAsString')) LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)",
		"CREATE FUNCTION f AS x -> x",
		"CREATE TABLE f (a String) ENGINE = EmbeddedRocksDB(0, '/tmp/fleetlog-never') PRIMARY KEY a",
		"CREATE TABLE f (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://127.0.0.1:1/')",
		"SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1",
		"SELECT * FROM arrowstream('1')",
		"SELECT * FROM system.stack_trace",
		"SELECT 1 AS x FORMAT Protobuf SETTINGS output_format_schema = '/tmp/fleetlog-never'",
		"SELECT 1 SETTINGS additional_result_filter = 'file(\\'" + secret + "\\') = 1'",
	} {
		t.Run(statement, func(t *testing.T) {
			got := post(t, url, call{body: statement})
			require.Equal(t, http.StatusForbidden, got.status, got.body)
			require.Contains(t, got.body, "Code: 497.")
		})
	}
	for _, statement := range []string{
		"CREATE DATABASE d", "CREATE TABLE d.t (a Int64) ENGINE = MergeTree ORDER BY a", "INSERT INTO d.t VALUES (1)",
		"CREATE MATERIALIZED VIEW d.v (a Int64) ENGINE = SummingMergeTree ORDER BY a AS SELECT a FROM d.t",
		"CREATE VIEW d.w AS SELECT a FROM d.t", "CREATE OR REPLACE VIEW d.w AS SELECT a AS b FROM d.t",
		"ALTER TABLE d.t ADD COLUMN c String", "ALTER TABLE d.t DELETE WHERE a = 1", "ALTER TABLE d.t MODIFY TTL toDateTime(a) + INTERVAL 1 DAY",
		"OPTIMIZE TABLE d.t FINAL", "CREATE TABLE d.n (a Int64) ENGINE = Null", "RENAME TABLE d.n TO d.m", "EXCHANGE TABLES d.m AND d.t",
		"SELECT * FROM system.parts", "SELECT * FROM numbers(1)",
		"TRUNCATE TABLE d.t", "SHOW CREATE TABLE d.t", "SYSTEM FLUSH LOGS", "DROP TABLE d.t SYNC", "DROP DATABASE d SYNC",
	} {
		t.Run(statement, func(t *testing.T) {
			got := post(t, url, call{body: statement})
			require.NotContains(t, got.body, "Code: 497.")
		})
	}
}

// Rows of VALUES are not looked at; they must not be expressions.
func TestInsertedValuesAreNoExpressions(t *testing.T) {
	_, url := startEngine(t)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	ask(t, url, "CREATE TABLE x (a String) ENGINE = MergeTree ORDER BY a")
	for _, c := range []call{
		{body: "INSERT INTO x VALUES (file('" + secret + "'))"},
		{body: "INSERT INTO x SETTINGS input_format_values_interpret_expressions = 1 VALUES (file('" + secret + "'))"},
		{query: "INSERT INTO x VALUES", body: "(file('" + secret + "'))", params: map[string]string{"input_format_values_interpret_expressions": "1"}},
		{query: "INSERT INTO x VALUES", body: "(file('" + secret + "'))", params: map[string]string{"input_format_values_deduce_templates_of_expressions": "1"}},
	} {
		require.NotEqual(t, http.StatusOK, post(t, url, c).status)
	}
	require.Equal(t, "0\n", ask(t, url, "SELECT count() FROM x"))
}

// What a new version of the engine brings has to be looked at by a person: put each
// table into a list of access.go, and each function, when it neither reaches outside
// nor tells of other tenants, into testdata/functions.txt, else into sqltext's lists.
func TestEverythingOfTheEngineIsKnown(t *testing.T) {
	_, url := startEngine(t)
	known := slices.Concat(openTables, closedTables, slices.Collect(maps.Keys(ownTables)))
	for _, table := range strings.Fields(ask(t, url, "SELECT name FROM system.tables WHERE database = 'system'")) {
		require.Contains(t, known, table)
	}
	content, err := os.ReadFile("testdata/functions.txt")
	require.NoError(t, err)
	functions := map[string]bool{}
	for _, name := range strings.Fields(string(content)) {
		functions[name] = true
	}
	for _, name := range strings.Fields(ask(t, url, "SELECT name FROM system.functions UNION DISTINCT SELECT name FROM system.table_functions")) {
		require.True(t, functions[name] || sqltext.Analyst("SELECT * FROM "+name+"('x')", "tenant_a") != nil, name)
	}
}

// With the analyst's role, what a statement does not ask for by a refused name is
// still kept by grants, row filters and the guards of views.
func TestAnalystSeesOwnViewsOnly(t *testing.T) {
	engine, url := startEngine(t)
	for _, statement := range []string{
		"CREATE DATABASE inner", "CREATE TABLE inner.t (tenant String, x Int32) ENGINE = MergeTree ORDER BY tenant", "INSERT INTO inner.t VALUES ('a', 1), ('b', 2)",
		"CREATE DATABASE tenant_a", "CREATE DATABASE tenant_b",
		"CREATE VIEW tenant_a.v SQL SECURITY DEFINER AS SELECT * FROM inner.t WHERE tenant = 'a' AND startsWith(getSetting('log_comment'), 'tenant_a ')",
		"CREATE VIEW tenant_b.v SQL SECURITY DEFINER AS SELECT * FROM inner.t WHERE tenant = 'b' AND startsWith(getSetting('log_comment'), 'tenant_b ')",
	} {
		ask(t, url, statement)
	}
	asAnalyst := call{params: map[string]string{"role": AnalystRole, "database": "tenant_a", "log_comment": "tenant_a me", "readonly": "1"}}
	asAnalyst.body = "SELECT * FROM v"
	require.Equal(t, "a\t1\n", post(t, url, asAnalyst).body)
	asAnalyst.body = "SELECT * FROM tenant_b.v"
	require.Equal(t, http.StatusForbidden, post(t, url, asAnalyst).status)

	s, err := engine.open(t.Context())
	require.NoError(t, err)
	defer engine.release(s)
	require.NoError(t, s.prepare(&request{role: AnalystRole, database: "tenant_a", readOnly: 1, settings: []parameter{{"log_comment", "tenant_a me"}}}))
	for statement, want := range map[string]string{
		"SELECT count() FROM tenant_b.v": "0\n", "SELECT * FROM merge(REGEXP('tenant_.*'), 'v')": "a\t1\n", "SELECT name FROM system.databases": "tenant_a\n",
		"SELECT database, name FROM system.tables": "tenant_a\tv\n", "SHOW TABLES FROM tenant_b": "", "SELECT DISTINCT database FROM system.columns": "tenant_a\n",
		"SELECT name FROM system.tables WHERE database = 'inner'": "",
	} {
		got, err := s.run(statement, "TSV", nil)
		require.NoError(t, err, statement)
		chunk, err := got.next()
		if want != "" {
			require.NoError(t, err)
		}
		require.Equal(t, want, string(chunk), statement)
		got.close()
	}
	for _, statement := range []string{
		"SELECT * FROM inner.t", "DESCRIBE inner.t", "EXISTS inner.t", "INSERT INTO inner.t VALUES ('a', 3)", "CREATE TABLE tenant_a.x (a Int8) ENGINE = Memory",
		"CREATE TEMPORARY TABLE x (a Int8)", "SELECT * FROM v SETTINGS log_comment = 'tenant_b '", "SET log_comment = 'tenant_b '", "SET readonly = 0",
		"DROP VIEW tenant_a.v", "SELECT * FROM file('/etc/passwd')", "SELECT * FROM url('http://127.0.0.1:1/', CSV)", "SYSTEM FLUSH LOGS",
	} {
		require.Error(t, s.exec(statement), statement)
	}
	for _, table := range closedTables {
		if sqltext.Outside("SELECT * FROM system."+table) != nil {
			continue // reading them harms the process
		}
		got, err := s.run("SELECT count() FROM (SELECT 1 FROM system."+table+" LIMIT 1)", "TSV", nil)
		if err != nil {
			continue
		}
		chunk, err := got.next()
		require.NoError(t, err)
		require.Equal(t, "0\n", string(chunk), table)
		got.close()
	}
}

// What operators run on a ClickHouse of theirs names the same roles, and ClickHouse
// can read it.
func TestOperatorsStatementsAreReadable(t *testing.T) {
	_, url := startEngine(t)
	content, err := os.ReadFile("../../../deploy/clickhouse/analysts.sql")
	require.NoError(t, err)
	require.Contains(t, string(content), "CREATE ROLE IF NOT EXISTS "+NodeRole+";")
	require.Contains(t, string(content), "CREATE ROLE IF NOT EXISTS "+AnalystRole+";")
	var statements []string
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "--") {
			statements = append(statements, line)
		}
	}
	for statement := range strings.SplitSeq(strings.Join(statements, ""), ";") {
		if strings.TrimSpace(statement) != "" {
			ask(t, url, "EXPLAIN AST "+strings.TrimSpace(statement))
		}
	}
}
