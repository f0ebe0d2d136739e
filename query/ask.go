package query

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
)

// ask runs the plan within the bounds of a query and calls each for every row; its
// errors are statuses. When the caller goes away ClickHouse stops. subject says
// what was asked for in errors.
func ask(ctx context.Context, db *chconn.Conn, subject string, p plan, each func(driver.Rows) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, maxQueryTime+time.Second)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(p.parameters), clickhouse.WithSettings(querySettings()))
	rows, err := db.Query(ctx, p.sql)
	if err != nil {
		return queryFailure(ctx, fmt.Errorf("query %s: %w", subject, err))
	}
	defer func() {
		if closing := rows.Close(); err == nil && closing != nil {
			err = queryFailure(ctx, fmt.Errorf("query %s: %w", subject, closing))
		}
	}()
	for rows.Next() {
		if err := each(rows); err != nil {
			return toStatus(fmt.Errorf("read %s: %w", subject, err))
		}
	}
	if err := rows.Err(); err != nil {
		return queryFailure(ctx, fmt.Errorf("query %s: %w", subject, err))
	}
	return nil
}
