package projections

import (
	"context"
	"fmt"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
)

// clickHouse is a table in ClickHouse.
type clickHouse struct {
	conn  *clickhouse.Conn
	table *table
}

// serverTimeout is how long ClickHouse works on an insert before it gives up by
// itself; it is shorter than attemptTimeout so that the answer says so.
const serverTimeout = 45 * time.Second

// insertSettings are those of every insert. ClickHouse forgets an insert whose
// token it has seen, and none without a token; its answer comes when the rows are
// there.
func insertSettings(token string) driver.Settings {
	deduplicate := 0
	if token != "" {
		deduplicate = 1
	}
	return driver.Settings{
		"insert_deduplication_token": token,
		"insert_deduplicate":         deduplicate,
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

// settingsOn are those of an insert, on a cluster too: there it is answered when each
// shard has its share, and of each shard the majority of its replicas. The shards
// know the token, each for its share, which is the same whenever the block is.
func settingsOn(conn *clickhouse.Conn, token string) driver.Settings {
	settings := insertSettings(token)
	if conn.Cluster() != "" {
		settings["distributed_foreground_insert"] = 1
		settings["insert_quorum"] = "auto"
	}
	return settings
}

// insert adds the rows, unless ClickHouse has seen the token before.
func (c *clickHouse) insert(ctx context.Context, rows rows, token string) error {
	if c.table.replaces { // and a token may be known whose rows never came
		token = ""
	}
	return send(ctx, c.conn, c.table.name, rows.columns, rows.len(), token)
}

// send inserts n rows into the table, unless ClickHouse has seen the token before.
func send(ctx context.Context, conn *clickhouse.Conn, table string, columns []column, n int, token string) error {
	var names []string
	var types []driver.ColumnNameAndType
	var values []any
	for _, column := range columns {
		if v := column.values(); v != nil {
			name, kind := column.about()
			names, types, values = append(names, name), append(types, driver.ColumnNameAndType{Name: name, Type: kind}), append(values, v)
		}
	}
	ctx = driver.Context(ctx, driver.WithColumnNamesAndTypes(types), driver.WithSettings(settingsOn(conn, token)))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return fmt.Errorf("prepare insert into %s: %w", table, err)
	}
	defer batch.Close()
	for i, v := range values {
		if err := batch.Column(i).Append(v); err != nil {
			return fmt.Errorf("fill column %s: %w", names[i], err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert %d rows into %s: %w", n, table, err)
	}
	return nil
}

// present is the set of the rows' offsets that are in the table. The rows are
// those of one partition.
func (c *clickHouse) present(ctx context.Context, rows rows) (map[int64]bool, error) {
	n := rows.len()
	if n == 0 {
		return nil, nil
	}
	times, offsets := rows.loggedAt.of, rows.offset.of
	oldest, newest := times[0], times[0]
	for _, at := range times {
		oldest, newest = min(oldest, at), max(newest, at)
	}
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	ctx = driver.Context(ctx, driver.WithSettings(driver.Settings{"max_execution_time": 0}))
	// The records' times pick the months to look into.
	found, err := c.conn.Query(ctx, fmt.Sprintf(`SELECT offset FROM %s
		WHERE %[2]s >= fromUnixTimestamp64Milli(?) AND %[2]s <= fromUnixTimestamp64Milli(?)
		AND partition = ? AND offset BETWEEN ? AND ?`, c.table.name, c.table.loggedAt),
		oldest, newest, rows.partition.of[0], offsets[0], offsets[n-1])
	if err != nil {
		return nil, fmt.Errorf("read offsets %d to %d of partition %d: %w", offsets[0], offsets[n-1], rows.partition.of[0], err)
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

// catchUp waits until the replicas, any of which may be asked, have what was
// inserted; a single server has.
func (c *clickHouse) catchUp(ctx context.Context) error {
	if c.conn.Cluster() == "" {
		return nil
	}
	ctx = driver.Context(ctx, driver.WithSettings(driver.Settings{"distributed_ddl_output_mode": "throw_only_active"}))
	if err := c.conn.Exec(ctx, "SYSTEM SYNC REPLICA ON CLUSTER '"+c.conn.Cluster()+"' "+c.conn.Database()+"."+c.table.name+"_local LIGHTWEIGHT"); err != nil {
		return fmt.Errorf("wait for the replicas of %s: %w", c.table.name, err)
	}
	return nil
}
