package projections

import (
	"context"
	"fmt"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
)

// table is the telemetry table in ClickHouse.
type table struct{ conn *clickhouse.Conn }

// serverTimeout is how long ClickHouse works on an insert before it gives up by
// itself; it is shorter than attemptTimeout so that the answer says so.
const serverTimeout = 45 * time.Second

// insertSettings are those of every insert. ClickHouse forgets an insert whose
// token it has seen; its answer comes when the rows are there.
func insertSettings(token string) driver.Settings {
	return driver.Settings{
		"insert_deduplication_token": token,
		"insert_deduplicate":         1,
		"async_insert":               0,
		"wait_end_of_query":          1,
		"max_execution_time":         int(serverTimeout.Seconds()),
		// A block is one part, or one a month it touches: never cut by size,
		// never refused for the number of months a producer's clock made up.
		"max_insert_block_size":           10_000_000,
		"min_insert_block_size_rows":      0,
		"min_insert_block_size_bytes":     0,
		"max_partitions_per_insert_block": 0,
		// Text stays text, and of a name that comes twice the first counts.
		"input_format_try_infer_dates":     0,
		"input_format_try_infer_datetimes": 0,
		"type_json_skip_duplicated_paths":  1,
	}
}

type column struct {
	name, kind string
	values     any
}

// bodyType is the body's type exactly as the table has it. From any other type,
// also from String, ClickHouse would convert the values without regard to the
// settings of the insert.
const bodyType = "JSON(max_dynamic_paths=256)"

// columns are the rows as clickhouse-go takes them. The body goes as the text of
// a JSON column, for ClickHouse to parse.
func (r *rows) columns() []column {
	columns := []column{
		{"tenant", "LowCardinality(String)", r.tenant},
		{"device", "String", r.device},
		{"ts", "DateTime64(3, 'UTC')", r.timestamp},
		{"body", bodyType, r.body},
		{"id", "String", r.id},
		{"enqueued_at", "DateTime64(3, 'UTC')", r.enqueued},
		{"partition", "Int32", r.partition},
		{"offset", "Int64", r.offset},
	}
	if r.anyComponent {
		columns = append(columns, column{"component", "LowCardinality(String)", r.component})
	}
	if r.anyProperties {
		columns = append(columns, column{"properties", "Map(LowCardinality(String), String)", r.properties})
	}
	return columns
}

// insert adds the rows, unless ClickHouse has seen the token before.
func (t *table) insert(ctx context.Context, rows rows, token string) error {
	columns := rows.columns()
	names := make([]string, len(columns))
	types := make([]driver.ColumnNameAndType, len(columns))
	for i, c := range columns {
		names[i], types[i] = c.name, driver.ColumnNameAndType{Name: c.name, Type: c.kind}
	}
	ctx = driver.Context(ctx, driver.WithColumnNamesAndTypes(types), driver.WithSettings(insertSettings(token)))
	batch, err := t.conn.PrepareBatch(ctx, "INSERT INTO telemetry ("+strings.Join(names, ", ")+")")
	if err != nil {
		return fmt.Errorf("prepare insert: %w", err)
	}
	defer batch.Close()
	for i, c := range columns {
		if err := batch.Column(i).Append(c.values); err != nil {
			return fmt.Errorf("fill column %s: %w", c.name, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert %d rows: %w", rows.len(), err)
	}
	return nil
}

// present is the set of the rows' offsets that are in the table. The rows are
// those of one partition.
func (t *table) present(ctx context.Context, rows rows) (map[int64]bool, error) {
	n := rows.len()
	if n == 0 {
		return nil, nil
	}
	oldest, newest := rows.enqueued[0], rows.enqueued[0]
	for _, at := range rows.enqueued {
		oldest, newest = min(oldest, at), max(newest, at)
	}
	ctx = driver.Context(ctx, driver.WithSettings(driver.Settings{"max_execution_time": 0}))
	// enqueued_at picks the months to look into.
	found, err := t.conn.Query(ctx, `SELECT offset FROM telemetry
		WHERE enqueued_at >= fromUnixTimestamp64Milli(?) AND enqueued_at <= fromUnixTimestamp64Milli(?)
		AND partition = ? AND offset BETWEEN ? AND ?`,
		oldest, newest, rows.partition[0], rows.offset[0], rows.offset[n-1])
	if err != nil {
		return nil, fmt.Errorf("read offsets %d to %d of partition %d: %w", rows.offset[0], rows.offset[n-1], rows.partition[0], err)
	}
	defer found.Close()
	present := make(map[int64]bool, n)
	for found.Next() {
		var offset int64
		if err := found.Scan(&offset); err != nil {
			return nil, fmt.Errorf("read offsets: %w", err)
		}
		present[offset] = true
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("read offsets: %w", err)
	}
	return present, nil
}
