package schema

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
)

// layoutDevices send layoutRows messages, one in two minutes each.
const (
	layoutDevices = 10_000
	layoutRows    = 2_000_000
	layoutBlocks  = 40
)

// layouts are variants of the table telemetry: each replaces some text of its
// migration.
var layouts = []struct {
	name    string
	replace []string
}{
	{"as it is", nil},
	{"body ZSTD(1)", []string{"body        JSON(max_dynamic_paths=256)", "body        JSON(max_dynamic_paths=256) CODEC(ZSTD(1))"}},
	{"id ZSTD(1)", []string{"id          String", "id          String CODEC(ZSTD(1))"}},
	{"id, body, device ZSTD(1)", []string{
		"id          String", "id          String CODEC(ZSTD(1))", "body        JSON(max_dynamic_paths=256)", "body        JSON(max_dynamic_paths=256) CODEC(ZSTD(1))",
		"device      String", "device      String CODEC(ZSTD(1))",
	}},
	{"partition, offset ZSTD(1)", []string{"partition   Int32", "partition   Int32 CODEC(ZSTD(1))", "CODEC(Delta, LZ4)", "CODEC(Delta, ZSTD(1))", "CODEC(DoubleDelta, LZ4)", "CODEC(DoubleDelta, ZSTD(1))"}},
	{"ORDER BY without partition", []string{"ORDER BY (tenant, device, ts, partition, offset)", "ORDER BY (tenant, device, ts, offset)"}},
	{"ORDER BY hour first", []string{"ORDER BY (tenant, device, ts, partition, offset)", "ORDER BY (tenant, toStartOfHour(ts), device, ts, offset)"}},
	{"max_dynamic_paths=16", []string{"max_dynamic_paths=256", "max_dynamic_paths=16"}},
	{"max_dynamic_paths=4", []string{"max_dynamic_paths=256", "max_dynamic_paths=4"}},
}

// BenchmarkLayout measures what a layout of the table telemetry costs on disk, at
// the insert and at typical questions, on a generated fleet: eight fields, numbers
// that wander with noise, one in a hundred messages of another shape; three in four
// devices by MQTT, with ids that count, one by HTTPS, with UUIDs.
//
//	go test -run '^$' -bench Layout -benchtime 1x ./projections/schema
func BenchmarkLayout(b *testing.B) {
	migrations, err := load(files)
	require.NoError(b, err)
	addr, database := enginetest.ClickHouse(b)
	conn, err := clickhouse.Open(b.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	source(b, conn)
	for _, layout := range layouts {
		b.Run(layout.name, func(b *testing.B) {
			for range b.N {
				ddl := strings.NewReplacer(layout.replace...).Replace(migrations[0].sql)
				require.NoError(b, conn.Exec(b.Context(), "DROP TABLE IF EXISTS telemetry SYNC"))
				require.NoError(b, exec(b.Context(), conn, ddl))
				measure(b, conn)
			}
		})
	}
}

// source holds the fleet's messages as text, in the order of the log.
func source(b *testing.B, conn *clickhouse.Conn) {
	b.Helper()
	for _, sql := range []string{
		"CREATE TABLE source (n UInt64, device String, ts DateTime64(3, 'UTC'), body String, id String) ENGINE = MergeTree ORDER BY n",
		fmt.Sprintf(`INSERT INTO source WITH number %% %[1]d AS d, intDiv(number, %[1]d) AS step
			SELECT number, concat('thermostat-', leftPad(toString(d), 5, '0')),
				toDateTime64('2026-11-01 00:00:00', 3, 'UTC') + toIntervalMillisecond(step * 120000 + sipHash64(d) %% 120000 + rand() %% 40),
				multiIf(sipHash64(number) %% 100 = 0, concat('{"event":"restarted","uptime":', toString(rand(1) %% 100000), '}'),
					concat('{"temperature":', toString(round(21 + 4 * sin((step + d) / 360) + (rand(2) %% 100) / 200, 2)),
					',"humidity":', toString(round(45 + 9 * cos((step + d) / 700) + (rand(3) %% 100) / 100, 1)),
					',"pressure":', toString(round(1013 + 6 * sin(d + step / 2000) + (rand(4) %% 10) / 10, 1)),
					',"battery":', toString(100 - intDiv(step, 60) %% 100),
					',"rssi":', toString(-40 - rand(5) %% 40),
					',"fan":', if(step %% 30 < 7, 'true', 'false'),
					',"mode":"', ['auto', 'heat', 'cool'][1 + intDiv(step, 100) %% 3],
					'","location":{"lat":', toString(round(52 + d / 10000, 5)), ',"lon":', toString(round(13 + d / 5000, 5)), '}}')),
				if(d %% 4 = 0, toString(generateUUIDv7()), concat(lower(hex(sipHash128(d))), '-', toString(step)))
			FROM numbers(%[2]d)`, layoutDevices, layoutRows),
	} {
		require.NoError(b, conn.Exec(b.Context(), sql))
	}
}

var layoutQuestions = []struct{ name, sql string }{
	{"device-day-ms", "SELECT toStartOfMinute(ts) AS m, avg(body.temperature::Float64) FROM telemetry WHERE tenant = 'default' AND device = 'thermostat-04711' AND ts >= '2026-11-01 00:00:00' AND ts < '2026-11-02 00:00:00' GROUP BY m"},
	{"fleet-hour-ms", "SELECT avg(body.temperature::Float64), max(body.humidity::Float64) FROM telemetry WHERE tenant = 'default' AND ts >= '2026-11-01 03:00:00' AND ts < '2026-11-01 04:00:00'"},
	{"latest-ms", "SELECT count() FROM (SELECT device, argMax(body.temperature, (ts, offset)) FROM telemetry WHERE tenant = 'default' GROUP BY device)"},
	{"bodies-ms", "SELECT sum(length(toJSONString(body))) FROM telemetry WHERE tenant = 'default' AND device >= 'thermostat-04700' AND device < 'thermostat-04800'"},
}

func measure(b *testing.B, conn *clickhouse.Conn) {
	b.Helper()
	started := time.Now()
	for block := range layoutBlocks {
		lo := block * (layoutRows / layoutBlocks)
		require.NoError(b, conn.Exec(b.Context(), fmt.Sprintf(`INSERT INTO telemetry (tenant, device, ts, body, id, enqueued_at, partition, offset)
			SELECT 'default', device, ts, body, id, ts + toIntervalMillisecond(n %% 200), (sipHash64(device) %% 8)::Int32, intDiv(n, 8)::Int64 FROM source WHERE n >= %d AND n < %d
			SETTINGS max_insert_block_size = 1000000, min_insert_block_size_rows = 0, min_insert_block_size_bytes = 0, max_threads = 1, type_json_skip_duplicated_paths = 1`, lo, lo+layoutRows/layoutBlocks)))
	}
	b.ReportMetric(layoutRows/time.Since(started).Seconds(), "rows/s")
	require.NoError(b, conn.Exec(b.Context(), "OPTIMIZE TABLE telemetry FINAL"))
	var bytes uint64
	require.NoError(b, conn.QueryRow(b.Context(), "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND table = 'telemetry' AND active").Scan(&bytes))
	b.ReportMetric(float64(bytes)/layoutRows, "B/message")
	var columns string
	require.NoError(b, conn.QueryRow(b.Context(), `SELECT arrayStringConcat(groupArray(concat(name, ' ', toString(round(bytes / ?, 2)))), ', ') FROM
		(SELECT column AS name, sum(column_bytes_on_disk) AS bytes FROM system.parts_columns WHERE database = currentDatabase() AND table = 'telemetry' AND active GROUP BY name ORDER BY bytes DESC)`, layoutRows).Scan(&columns))
	b.Log("bytes a message: " + columns)
	for _, question := range layoutQuestions {
		b.ReportMetric(fastest(b.Context(), b, conn, question.sql), question.name)
	}
	b.ReportMetric(0, "ns/op")
}

// fastest is the least of five times of a query, in milliseconds.
func fastest(ctx context.Context, b *testing.B, conn *clickhouse.Conn, sql string) float64 {
	b.Helper()
	least := time.Hour
	for range 5 {
		started := time.Now()
		rows, err := conn.Query(ctx, sql)
		require.NoError(b, err)
		for rows.Next() {
		}
		require.NoError(b, rows.Err())
		require.NoError(b, rows.Close())
		least = min(least, time.Since(started))
	}
	return float64(least.Microseconds()) / 1000
}
