package chdb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
)

// BenchmarkInsertTelemetry inserts batches of 50,000 rows with a JSON body of
// about 100 bytes by clickhouse-go, in the ways a projection could.
//
//	CGO_ENABLED=0 go test -run '^$' -bench InsertTelemetry -benchtime 20x ./internal/engine/chdb
func BenchmarkInsertTelemetry(b *testing.B) {
	const (
		plain     = "body JSON"
		onlyText  = "body String"
		ephemeral = `body JSON DEFAULT ifNull(accurateCastOrNull(raw, 'JSON'), CAST('{}', 'JSON')), raw String EPHEMERAL`
	)
	for _, way := range []struct{ name, table, column, kind string }{
		{"text", onlyText, "body", "String"},
		{"JSON", plain, "body", "JSON"},
		{"JSON-declared-String", plain, "body", "String"},
		{"EPHEMERAL", ephemeral, "raw", "String"},
		{"EPHEMERAL-malformed-kept", tolerantBody, "raw", "String"},
	} {
		for _, payload := range []struct{ name, format string }{
			{"meter3", `{"pulseCounter":%d,"leakage":false,"batteryLevel":%d}`},
			{"mixed6", `{"pulseCounter":%d,"leakage":false,"batteryLevel":%d,"site":"building-12","temperature":21.5,"ok":true}`},
		} {
			b.Run(way.name+"/"+payload.name, func(b *testing.B) {
				_, url := startEngine(b)
				ask(b, url, `CREATE TABLE t (tenant LowCardinality(String), device String, ts DateTime64(3), `+way.table+`, partition Int32, offset Int64)
					ENGINE = MergeTree ORDER BY (tenant, device, ts) SETTINGS non_replicated_deduplication_window = 10000`)
				insertTelemetry(b, connectClient(b, url), way.column, way.kind, payload.format)
			})
		}
	}
}

func insertTelemetry(b *testing.B, conn driver.Conn, column, kind, payload string) {
	const rows = 50_000
	tenants, devices, times := make([]string, rows), make([]string, rows), make([]time.Time, rows)
	bodies, partitions, offsets := make([]string, rows), make([]int32, rows), make([]int64, rows)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		tenants[i], devices[i], times[i] = "default", fmt.Sprintf("meter-%05d", i%5000), start.Add(time.Duration(i)*time.Millisecond)
		bodies[i] = fmt.Sprintf(payload, i, i%100)
	}
	columns := []clickhouse.ColumnNameAndType{{Name: "tenant", Type: "LowCardinality(String)"}, {Name: "device", Type: "String"},
		{Name: "ts", Type: "DateTime64(3)"}, {Name: column, Type: kind}, {Name: "partition", Type: "Int32"}, {Name: "offset", Type: "Int64"}}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	insert := "INSERT INTO t (" + strings.Join(names, ", ") + ")"
	b.ResetTimer()
	for n := range b.N {
		for i := range offsets {
			offsets[i] = int64(n*rows + i)
		}
		ctx := clickhouse.Context(b.Context(), clickhouse.WithColumnNamesAndTypes(columns), clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token": fmt.Sprintf("0/%d", n), "input_format_try_infer_dates": 0,
			"input_format_try_infer_datetimes": 0, "type_json_skip_duplicated_paths": 1,
		}))
		batch, err := conn.PrepareBatch(ctx, insert)
		require.NoError(b, err)
		for i, values := range []any{tenants, devices, times, bodies, partitions, offsets} {
			require.NoError(b, batch.Column(i).Append(values))
		}
		require.NoError(b, batch.Send())
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
	var count uint64
	require.NoError(b, conn.QueryRow(b.Context(), "SELECT count() FROM t").Scan(&count))
	require.Equal(b, uint64(b.N)*rows, count)
}
