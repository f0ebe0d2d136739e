package schema

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
)

func connect(t *testing.T) *clickhouse.Conn {
	t.Helper()
	addr, database := enginetest.ClickHouse(t)
	conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestMigrateFromManyNodesAtOnce(t *testing.T) {
	conn := connect(t)
	var nodes errgroup.Group
	for range 5 {
		nodes.Go(func() error { return Migrate(t.Context(), conn) })
	}
	require.NoError(t, nodes.Wait())
	require.NoError(t, Migrate(t.Context(), conn), "a second time does nothing")
	var versions uint64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count() FROM schema_migrations FINAL").Scan(&versions))
	migrations, err := load(files)
	require.NoError(t, err)
	require.EqualValues(t, len(migrations), versions)
	require.NoError(t, conn.Exec(t.Context(), "SELECT tenant, device, ts, component, module, body, properties, id, enqueued_at, partition, offset FROM telemetry"))
}

func TestMigrateRefusesAnEditedMigration(t *testing.T) {
	conn := connect(t)
	first := migration{1, "0001_t", "CREATE TABLE IF NOT EXISTS {database}.t (x Int8) ENGINE = MergeTree ORDER BY x"}
	second := migration{2, "0002_u", "CREATE TABLE IF NOT EXISTS {database}.u (x Int8) ENGINE = MergeTree ORDER BY x"}
	require.NoError(t, migrate(t.Context(), conn, []migration{first}))
	require.NoError(t, migrate(t.Context(), conn, []migration{first, second}), "goes on where it was")
	edited := first
	edited.sql += " "
	require.ErrorContains(t, migrate(t.Context(), conn, []migration{edited, second}), "0001_t differs")
	require.ErrorContains(t, migrate(t.Context(), conn, []migration{first}), "newer version")
}

func TestMigrationsAreNumberedWithoutGaps(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("SELECT 1")}
	for name, dir := range map[string]fstest.MapFS{
		"gap":       {"migrations/0001_a.sql": file, "migrations/0003_b.sql": file},
		"twice":     {"migrations/0001_a.sql": file, "migrations/0001_b.sql": file},
		"no number": {"migrations/a_b.sql": file},
		"no name":   {"migrations/0001.sql": file},
	} {
		_, err := load(dir)
		require.ErrorContains(t, err, "want a name that begins with", name)
	}
}
