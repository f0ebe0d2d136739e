package sqltext

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOutsideIsRefused(t *testing.T) {
	for _, statement := range []string{
		"SELECT file('/etc/passwd')", "SELECT FILE('/etc/passwd')", "SELECT `file`('x')", `SELECT "file"('x')`, "SELECT `fi\\x6ce`('x')",
		"SELECT file/**/('x')", "SELECT file\n-- x\n('x')", "SELECT * APPLY(file) FROM (SELECT 'x')", "SELECT * APPLY file FROM t",
		"SELECT arrayMap(file, ['x'])", "SELECT arrayMap((file), ['x'])", "EXPLAIN QUERY TREE SELECT file('x')", "SELECT 1, file  ('x')",
		"INSERT INTO t SELECT file('x')", "CREATE FUNCTION f AS (x) -> file(x)", "SELECT file\u00a0('x')", "SELECT file\u2003('x')",
		"SELECT catboostEvaluate('x', 1)", "SELECT * FROM eval('SELECT 1')", "SELECT * FROM arrowstream('1')", "SELECT aiGenerate('x', 'y')",
		"CREATE TABLE r (a String) ENGINE = EmbeddedRocksDB(0, '/tmp/x') PRIMARY KEY a", "CREATE TABLE r (a String) ENGINE FileLog('/', 'CSV')",
		"CREATE TABLE r (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://x/')",
		"SELECT 1 FORMAT Template SETTINGS format_template_row = '/etc/passwd'", "SET format_schema = 'x'", "SELECT 1 FORMAT Protobuf SETTINGS output_format_schema = '/tmp/x'", "SET dialect = 'prql'",
		"SELECT 1 SETTINGS additional_result_filter = 'file(1)'", "SET `dialect` = 'kusto'", "SELECT * FROM system.stack_trace", "SELECT * FROM system.models",
		"INSERT INTO t SETTINGS input_format_values_interpret_expressions = 1 VALUES", "SELECT * FROM system . `stack_trace`",
	} {
		require.Error(t, Outside(statement), statement)
		require.Error(t, Analyst(statement, "tenant_a"), statement)
	}
	for _, statement := range []string{
		"SELECT t.file FROM t", "SELECT 1 AS file", "SELECT 'file(1)' -- file('x')", "SELECT disk, eval FROM t", "SELECT file.x FROM (SELECT 1 AS x) AS file",
		"INSERT INTO t FORMAT Native", "SELECT body.`stack_trace` FROM t WHERE t.dialect = 'x' AND additional_info = 'y'", "SELECT body.`file` FROM t", "SELECT 'ä'",
	} {
		require.NoError(t, Outside(statement), statement)
	}
}

func TestAnalystsAskOnly(t *testing.T) {
	for _, statement := range []string{
		"SELECT 1", "select avg(uptime), max(disk) from thermostat", "WITH x AS (SELECT 1) SELECT * FROM x;", "(SELECT 1) UNION ALL (SELECT 2)",
		"SELECT * FROM tenant_a.thermostat", "SELECT * FROM `tenant_a`.\"thermostat\" /* a comment */ -- another", "SHOW TABLES", "SHOW CREATE TABLE thermostat",
		"DESCRIBE TABLE thermostat", "EXISTS tenant_a.telemetry", "EXPLAIN SELECT 1", "EXPLAIN PIPELINE SELECT 1", "SELECT region FROM thermostat",
		"SELECT number FROM system.numbers LIMIT 3", "SELECT name FROM system.tables", "SELECT {x:String}", "SELECT count() FROM t WHERE url LIKE 'http://#/%' AND remote",
		"SELECT displayName(), version(), revision(), timezone()", "SELECT '/* not a comment */'", "SELECT arrayMap(x -> x + 1, [1])",
		"SELECT a FROM t FORMAT JSON", "SELECT 5 / 2, 'ü'", "SELECT $1",
	} {
		require.NoError(t, Analyst(statement, "tenant_a"), statement)
	}
	for _, statement := range []string{
		"", " -- nothing", "INSERT INTO telemetry VALUES (1)", "CREATE TABLE t (a Int8) ENGINE = Memory", "CREATE TEMPORARY TABLE t (a Int8)", "DROP VIEW thermostat",
		"ALTER TABLE telemetry DELETE WHERE 1", "SET readonly = 0", "USE system", "KILL QUERY WHERE 1", "SYSTEM SHUTDOWN", "GRANT node TO default", "SET ROLE node",
		"SHOW PROCESSLIST", "SHOW GRANTS", "SHOW CLUSTERS", "EXPLAIN ESTIMATE SELECT 1", "ATTACH TABLE x", "CHECK TABLE x", "FROM x SELECT 1", "TABLE x",
		"SELECT 1; SELECT 2", "SELECT 1; DROP TABLE x", "SELECT 1 INTO OUTFILE '/tmp/x'", "SELECT * FROM tenant_b.telemetry", "SELECT * FROM `tenant_b`.telemetry",
		`SELECT * FROM "tenant_b"."telemetry"`, "SELECT * FROM 'tenant_b.telemetry'", "SELECT * FROM /**/tenant_b/**/./**/telemetry", "DESCRIBE tenant_b.telemetry",
		"SHOW TABLES FROM tenant_b", "EXISTS DATABASE tenant_b", "SELECT * FROM tenant_ab.telemetry", "SELECT * FROM `\\x74enant_b`.telemetry", "SELECT * FROM tenant_A.t",
		"SELECT * FROM system.processes", "SELECT * FROM system.`query_log`", "SELECT * FROM system . parts", "SELECT * FROM information_schema.tables",
		"SELECT * FROM INFORMATION_SCHEMA.TABLES", "SELECT * FROM merge('tenant_.*', 'telemetry')", "SELECT * FROM merge(REGEXP('.*'), '.*')", "SELECT * FROM remote('127.0.0.1', system.one)",
		"SELECT * FROM url('http://127.0.0.1', CSV)", "SELECT * FROM s3('http://x/y.csv')", "SELECT * FROM loop(system, processes)", "SELECT * FROM dictionary('x')",
		"SELECT dictGet('x', 'y', 1)", "SELECT hasColumnInTable('ten' || 'ant_b', 'x', 'y')", "SELECT joinGet('x', 'y', 1)", "SELECT hostName()", "SELECT sleep(3)",
		"SELECT * APPLY(hostName) FROM t", "SELECT * FROM {t:Identifier}", "SELECT getServerSetting('path')", "SELECT 1 // x\n, hostname", "SELECT 1 # x", "SELECT 1 #! x",
		"SELECT /* /* */ 1 */ 2", "SELECT $a$x$a$", "SELECT ‘x’", "SELECT “x”", "SELECT 1\x00", "SELECT `a\\b`", "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))",
		"SELECT /* x", "SELECT __getScalar('x')", "SELECT 'tenant_b'", "SELECT 1 /* // */",
	} {
		require.Error(t, Analyst(statement, "tenant_a"), statement)
	}
}

func TestUnquoted(t *testing.T) {
	for text, want := range map[string]string{
		"`a``b`": "a`b", `'a''b'`: "a'b", `'\x41\'x'`: "A'x", `"`: "", "'abc": "abc", "“x”": "x", "$a$x$y$a$": "x$y", `'\`: `\`, `'a\x4'`: "ax4",
	} {
		require.Equal(t, want, Token{Kind: Quoted, Text: []byte(text)}.Unquoted(), text)
	}
}

func FuzzAnalyst(f *testing.F) {
	for _, seed := range []string{"SELECT 1", "SELECT $a$ x $a$", "/* ", "'\\", "SELECT ‘", "`", "$$", "SELECT '\\x", "((((", "SELECT x FROM system.", "/*/*", "EXPLAIN", "SHOW"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, statement string) {
		if Outside(statement) != nil {
			require.Error(t, Analyst(statement, "tenant_a"), "what nobody may, an analyst may not")
		}
	})
}
