package schema

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMigrationsOnACluster: what each migration is there, word by word, and
// ClickHouse can parse it.
func TestMigrationsOnACluster(t *testing.T) {
	conn := connect(t)
	migrations, err := load(files)
	require.NoError(t, err)
	migrations = append(migrations, migration{name: "0000_schema_migrations", sql: migrationsTable})
	for _, m := range migrations {
		t.Run(m.name, func(t *testing.T) {
			statements, err := cluster("fleet").render(m.sql)
			require.NoError(t, err)
			golden := filepath.Join("testdata", "cluster", m.name+".sql")
			got := strings.Join(statements, ";\n\n") + ";\n"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got, "go test ./projections/schema -update writes it anew")
			for _, statement := range statements {
				var parsed string
				require.NoError(t, conn.QueryRow(t.Context(), "SELECT formatQuery(?)", strings.ReplaceAll(statement, "{database}", "fleetlog")).Scan(&parsed))
				require.Contains(t, parsed, "ON CLUSTER fleet")
			}
		})
	}
}

// TestAlterOnACluster: both tables have the columns, the local one all the rest.
func TestAlterOnACluster(t *testing.T) {
	for change, want := range map[string][]string{
		"ALTER TABLE {database}.t ADD COLUMN IF NOT EXISTS x Int8": {
			"ALTER TABLE {database}.t_local ON CLUSTER 'fleet' ADD COLUMN IF NOT EXISTS x Int8",
			"ALTER TABLE {database}.t ON CLUSTER 'fleet' ADD COLUMN IF NOT EXISTS x Int8",
		},
		"ALTER TABLE {database}.t MODIFY COLUMN x Int8 CODEC(ZSTD(1))": {
			"ALTER TABLE {database}.t_local ON CLUSTER 'fleet' MODIFY COLUMN x Int8 CODEC(ZSTD(1))",
		},
		"-- A setting.\nALTER TABLE {database}.t MODIFY SETTING ttl_only_drop_parts = 1\n": {
			"ALTER TABLE {database}.t_local ON CLUSTER 'fleet' MODIFY SETTING ttl_only_drop_parts = 1",
		},
	} {
		got, err := cluster("fleet").render(change)
		require.NoError(t, err)
		require.Equal(t, want, got)
		alone, err := cluster("").render(change)
		require.NoError(t, err)
		require.Equal(t, []string{change}, alone)
	}
	_, err := cluster("fleet").render("DROP TABLE {database}.t")
	require.ErrorContains(t, err, "must be")
}

// TestRetentionOnACluster: of the tables that hold the rows.
func TestRetentionOnACluster(t *testing.T) {
	require.Equal(t, []string{
		"ALTER TABLE {database}.telemetry_local ON CLUSTER 'fleet' MODIFY SETTING materialize_ttl_recalculate_only = 1",
		"ALTER TABLE {database}.telemetry_local ON CLUSTER 'fleet' MODIFY TTL enqueued_at + toIntervalHour(720)",
	}, cluster("fleet").retentionDDL("telemetry", "enqueued_at + toIntervalHour(720)"))
	require.Equal(t, []string{"ALTER TABLE {database}.telemetry_local ON CLUSTER 'fleet' REMOVE TTL"}, cluster("fleet").retentionDDL("telemetry", ""))
}
