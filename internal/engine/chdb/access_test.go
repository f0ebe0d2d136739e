package chdb

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
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
