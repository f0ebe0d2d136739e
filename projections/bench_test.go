package projections_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
	"github.com/fleetlog/fleetlog/projections/schema"
)

const (
	backlogRows  = 1_000_000
	backlogBlock = 50_000
)

var payloads = []struct{ name, format string }{
	{"meter", `{"pulseCounter":%d,"leakage":false,"batteryLevel":%d}`},
	{"mixed", `{"pulseCounter":%d,"leakage":false,"batteryLevel":%d,"site":"building-12","temperature":21.5,"ok":true}`},
}

// BenchmarkBacklog is the projection working off a backlog next to a bare
// clickhouse-go batch insert of the same rows into a table of the same schema. The
// backlog's last tenth is not timed: its blocks wait for more records to come.
//
//	CGO_ENABLED=0 go test -run '^$' -bench Backlog -benchtime 1x ./projections
func BenchmarkBacklog(b *testing.B) {
	for _, payload := range payloads {
		b.Run("bare/"+payload.name, func(b *testing.B) { benchmarkBare(b, payload.format) })
		b.Run("projection/"+payload.name, func(b *testing.B) { benchmarkProjection(b, payload.format) })
	}
}

func benchmarkConn(b *testing.B) *clickhouse.Conn {
	b.Helper()
	addr, database := enginetest.ClickHouse(b)
	conn, err := clickhouse.Open(b.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	return conn
}

func benchmarkLog(b *testing.B) *eventlog.Log {
	b.Helper()
	broker := enginetest.EmbeddedLog(b)
	log, err := eventlog.Open(b.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet()})
	require.NoError(b, err)
	b.Cleanup(log.Close)
	return log
}

func benchmarkProjection(b *testing.B, format string) {
	log, conn := benchmarkLog(b), benchmarkConn(b)
	appended := 0
	for range b.N {
		b.StopTimer()
		for range backlogRows {
			appendMeter(b, log, format, appended)
			appended++
		}
		require.NoError(b, log.Flush(b.Context()))
		b.StartTimer()
		projectUntil(b, log, conn, appended)
	}
	b.ReportMetric(float64(b.N)*backlogRows*0.9/b.Elapsed().Seconds(), "rows/s")
}

func appendMeter(b *testing.B, log *eventlog.Log, format string, n int) {
	r := eventlog.CloudEvent(log.Name(eventlog.Telemetry), fmt.Sprintf("0123456789-%d", n), "/devices/x", eventlog.TypeTelemetry,
		time.Now(), eventlog.ContentTypeJSON, eventlog.Key("default", fmt.Sprintf("meter-%05d", n%5000)), fmt.Appendf(nil, format, n, n%100))
	log.Append(b.Context(), r, func(_ *kgo.Record, err error) {
		if err != nil {
			b.Error(err)
		}
	})
}

func projectUntil(b *testing.B, log *eventlog.Log, conn *clickhouse.Conn, rows int) {
	telemetry, err := projections.NewTelemetry(log, conn, projections.Options{Logger: quiet()})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- telemetry.Run(ctx) }()
	arrived := func(rows int) {
		require.Eventually(b, func() bool {
			var count uint64
			return conn.QueryRow(b.Context(), "SELECT count() FROM telemetry").Scan(&count) == nil && count >= uint64(rows)
		}, 5*time.Minute, 5*time.Millisecond)
	}
	arrived(rows - backlogRows/10)
	b.StopTimer()
	arrived(rows)
	cancel()
	require.NoError(b, <-done)
	b.StartTimer()
}

func benchmarkBare(b *testing.B, format string) {
	conn := benchmarkConn(b)
	require.NoError(b, schema.Migrate(b.Context(), conn))
	tenants, devices, bodies, ids := make([]string, backlogBlock), make([]string, backlogBlock), make([]string, backlogBlock), make([]string, backlogBlock)
	times, partitions, offsets := make([]time.Time, backlogBlock), make([]int32, backlogBlock), make([]int64, backlogBlock)
	columns := []driver.ColumnNameAndType{
		{Name: "tenant", Type: "LowCardinality(String)"}, {Name: "device", Type: "String"}, {Name: "ts", Type: "DateTime64(3, 'UTC')"},
		{Name: "body", Type: "JSON(max_dynamic_paths=256)"}, {Name: "id", Type: "String"}, {Name: "enqueued_at", Type: "DateTime64(3, 'UTC')"},
		{Name: "partition", Type: "Int32"}, {Name: "offset", Type: "Int64"},
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	n := 0
	for range b.N {
		for range backlogRows / backlogBlock {
			b.StopTimer()
			for i := range backlogBlock {
				tenants[i], devices[i], bodies[i], ids[i] = "default", fmt.Sprintf("meter-%05d", n%5000), fmt.Sprintf(format, n, n%100), fmt.Sprintf("0123456789-%d", n)
				times[i], offsets[i] = time.UnixMilli(1_750_000_000_000+int64(n)), int64(n)
				n++
			}
			b.StartTimer()
			ctx := driver.Context(b.Context(), driver.WithColumnNamesAndTypes(columns), driver.WithSettings(driver.Settings{"insert_deduplication_token": fmt.Sprint(n)}))
			batch, err := conn.PrepareBatch(ctx, "INSERT INTO telemetry ("+strings.Join(names, ", ")+")")
			require.NoError(b, err)
			for i, values := range []any{tenants, devices, times, bodies, ids, times, partitions, offsets} {
				require.NoError(b, batch.Column(i).Append(values))
			}
			require.NoError(b, batch.Send())
		}
	}
	b.ReportMetric(float64(b.N)*backlogRows/b.Elapsed().Seconds(), "rows/s")
}
