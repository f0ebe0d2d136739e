package schema

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseRetention(t *testing.T) {
	for name, of := range map[string]struct {
		settings []string
		table    string
		want     string // the TTL, or what the error says
	}{
		"default":            {nil, "telemetry", "enqueued_at + toIntervalHour(8760)"},
		"dead letter":        {nil, "dead_letter", "logged_at + toIntervalHour(720)"},
		"rollups stay":       {nil, "telemetry_1m", ""},
		"one for all":        {[]string{"telemetry=30d"}, "telemetry", "enqueued_at + toIntervalHour(720)"},
		"for ever":           {[]string{"telemetry=forever"}, "telemetry", ""},
		"exceptions":         {[]string{"telemetry=3y", "b/telemetry=12h", "a/telemetry=12h", "c/telemetry=forever"}, "telemetry", "enqueued_at + toIntervalHour(26280) WHERE tenant NOT IN ('a', 'b', 'c'), enqueued_at + toIntervalHour(12) WHERE tenant IN ('a', 'b')"},
		"marks stay":         {[]string{"telemetry_1m=1d", "a/telemetry_1m=2d"}, "telemetry_1m", "ts + toIntervalHour(24) WHERE tenant NOT IN ('', 'a'), ts + toIntervalHour(48) WHERE tenant IN ('a')"},
		"only exceptions":    {[]string{"telemetry_1h=forever", "a/telemetry_1h=1d"}, "telemetry_1h", "ts + toIntervalHour(24) WHERE tenant IN ('a')"},
		"no exception":       {[]string{"telemetry=1d", "a/telemetry=24h"}, "telemetry", "enqueued_at + toIntervalHour(24)"},
		"no table":           {[]string{"devices=30d"}, "", `no table "devices" whose rows may go`},
		"no span":            {[]string{"telemetry=30"}, "", "is no span"},
		"nothing":            {[]string{"telemetry=0d"}, "", "is no span"},
		"too long":           {[]string{"telemetry=101y"}, "", "more than 100 years"},
		"no setting":         {[]string{"telemetry"}, "", "write it as"},
		"twice":              {[]string{"telemetry=1d", "telemetry=2d"}, "", "twice"},
		"no tenant":          {[]string{"'/telemetry=1d"}, "", "is no tenant"},
		"an empty tenant":    {[]string{"/telemetry=1d"}, "", "is no tenant"},
		"too many tenants":   {manyTenants(maxExceptions + 1), "", "more than 100 tenants"},
		"as many as may be":  {append(manyTenants(maxExceptions-1), "telemetry=1d"), "dead_letter", "logged_at + toIntervalHour(720)"},
		"tenants stay apart": {[]string{"a/telemetry=1d"}, "dead_letter", "logged_at + toIntervalHour(720)"},
	} {
		t.Run(name, func(t *testing.T) {
			retention, err := ParseRetention(of.settings)
			if of.table == "" {
				require.ErrorContains(t, err, of.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, of.want, retention[of.table].expression(retained[of.table]))
		})
	}
}

func manyTenants(n int) (settings []string) {
	for i := range n {
		settings = append(settings, fmt.Sprintf("t%d/telemetry=%dh", i, 1+i%5))
	}
	return settings
}

func FuzzParseRetention(f *testing.F) {
	f.Add("telemetry=30d")
	f.Add("a/telemetry=forever")
	f.Add("=/=1y")
	f.Fuzz(func(t *testing.T, setting string) {
		retention, err := ParseRetention([]string{setting})
		if err != nil {
			return
		}
		for name, table := range retention {
			require.Regexp(t, `^[a-z_0-9A-Z+(),.' -]*$`, table.expression(retained[name]))
		}
	})
}

// TestRowsOfOneTenantGo: and the other's stay; also of rows that were there before.
func TestRowsOfOneTenantGo(t *testing.T) {
	conn := connect(t)
	require.NoError(t, Migrate(t.Context(), conn))
	insert := func(tenant string, days int) {
		require.NoError(t, conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO telemetry (tenant, device, ts, enqueued_at) SELECT '%s', 'd', now64(3), now64(3) - toIntervalDay(%d)", tenant, days)))
	}
	for _, tenant := range []string{"a", "b", "c"} {
		insert(tenant, 1)
		insert(tenant, 10)
		insert(tenant, 100)
	}
	want := func(rows ...string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			assert.NoError(c, conn.Exec(t.Context(), "OPTIMIZE TABLE telemetry FINAL"))
			var got []string
			assert.NoError(c, conn.QueryRow(t.Context(), "SELECT arraySort(groupArray(concat(tenant, toString(dateDiff('day', enqueued_at, now()))))) FROM telemetry").Scan(&got))
			assert.Equal(c, rows, got)
		}, time.Minute, 50*time.Millisecond)
	}
	apply := func(settings ...string) {
		t.Helper()
		retention, err := ParseRetention(settings)
		require.NoError(t, err)
		require.NoError(t, retention.Apply(t.Context(), conn))
	}
	want("a1", "a10", "a100", "b1", "b10", "b100", "c1", "c10", "c100")
	apply("telemetry=30d", "a/telemetry=7d", "c/telemetry=forever")
	want("a1", "b1", "b10", "c1", "c10", "c100")
	insert("a", 8)
	insert("b", 8)
	want("a1", "b1", "b10", "b8", "c1", "c10", "c100")
	apply("telemetry=30d", "a/telemetry=7d", "c/telemetry=9d")
	want("a1", "b1", "b10", "b8", "c1")
	apply("telemetry=forever")
	insert("b", 1000)
	want("a1", "b1", "b10", "b1000", "b8", "c1")
}

// TestRetentionIsSetOnce: each table's, and not again when nothing has changed.
func TestRetentionIsSetOnce(t *testing.T) {
	conn := connect(t)
	require.NoError(t, Migrate(t.Context(), conn))
	settings := []string{"a/telemetry=7d", "b/telemetry=7d", "telemetry_1m=2y", "a/telemetry_1h=1y", "alert_events=12h", "c/job_events=forever"}
	retention, err := ParseRetention(settings)
	require.NoError(t, err)
	for name, column := range retained {
		require.NoError(t, conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s (tenant, %s) SELECT 'x', now()", name, column)))
	}
	changes := func() (n uint64) {
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count() FROM system.mutations WHERE database = currentDatabase()").Scan(&n))
		return n
	}
	require.NoError(t, retention.Apply(t.Context(), conn))
	for name, table := range retention {
		have, err := readTTL(t.Context(), conn, name)
		require.NoError(t, err)
		require.Equal(t, table.expression(retained[name]), have, "ClickHouse writes it as we do")
	}
	first := changes()
	require.NotZero(t, first)
	require.NoError(t, retention.Apply(t.Context(), conn))
	require.Equal(t, first, changes())
}
