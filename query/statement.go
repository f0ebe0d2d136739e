package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
)

// Bounds of one query, enforced by ClickHouse.
const (
	maxQueryTime  = 20 * time.Second
	maxQueryBytes = 2 << 30 // of memory
)

// ask runs a statement with its {name:Type} parameters within the bounds and calls
// each for every row; its errors are statuses. When the caller goes away ClickHouse
// stops.
func ask(ctx context.Context, db *chconn.Conn, sql string, parameters map[string]string, each func(driver.Rows) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, maxQueryTime+time.Second)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(parameters), clickhouse.WithSettings(querySettings()))
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return queryFailure(ctx, fmt.Errorf("query ClickHouse: %w", err))
	}
	defer func() {
		if closing := rows.Close(); err == nil && closing != nil {
			err = queryFailure(ctx, fmt.Errorf("query ClickHouse: %w", closing))
		}
	}()
	for rows.Next() {
		if err := each(rows); err != nil {
			return toStatus(fmt.Errorf("read a row of ClickHouse: %w", err))
		}
	}
	if err := rows.Err(); err != nil {
		return queryFailure(ctx, fmt.Errorf("query ClickHouse: %w", err))
	}
	return nil
}

func querySettings() clickhouse.Settings {
	return clickhouse.Settings{
		"readonly":           2, // no writes, whatever the statement says
		"max_execution_time": int(maxQueryTime.Seconds()), "max_memory_usage": maxQueryBytes,
		"cancel_http_readonly_queries_on_client_close": 1,
		// A thread a core suits a warehouse; a question about one device reads
		// little, and in the table's order it can stop early.
		"max_threads": 2, "optimize_read_in_order": 1, "optimize_aggregation_in_order": 1,
	}
}

// textsParameter is the value of a parameter of type Array(String).
func textsParameter(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = "'" + quote.Replace(text) + "'"
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

var quote = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// numbersParameter is the value of a parameter of type Array(Int64).
func numbersParameter(numbers []int64) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return "[" + strings.Join(texts, ",") + "]"
}
