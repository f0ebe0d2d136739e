package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
)

// rebuildHelp is shown by `fleetlog project --help`.
const rebuildHelp = `
With --rebuild it makes tables anew from the log instead, beside the projections that
go on, and puts them in place; what goes wrong before leaves the tables as they were.
It finds a running 'fleetlog run' by --data-dir, or else needs --kafka and --clickhouse.
`

// rebuild makes the named tables anew.
func (c *projectCommand) rebuild(ctx context.Context, logger *slog.Logger, out io.Writer) (err error) {
	if err := c.findEngines(); err != nil {
		return err
	}
	conn, err := clickhouse.Open(ctx, clickhouse.Config{Addr: c.ClickHouse, Database: c.Database, Cluster: c.ClickHouseCluster, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	log, err := eventlog.Open(ctx, eventlog.Config{Brokers: c.Kafka, Prefix: c.TopicPrefix, Partitions: c.Partitions, Logger: logger})
	if err != nil {
		return err
	}
	defer log.Close()
	for _, table := range c.Rebuild {
		began := time.Now()
		r := &projections.Rebuild{Log: log, Conn: conn, Table: table, KeepOlder: c.KeepOlder, Logger: logger, Progress: func(done, all int64) {
			fmt.Fprintf(out, "\r\x1b[K%s", rebuildBar(table, done, all, time.Since(began)))
		}}
		if err := r.Run(ctx); err != nil {
			fmt.Fprintln(out)
			return err
		}
		fmt.Fprintf(out, "\r\x1b[K%s is rebuilt, verified and in place, after %s.\n", table, time.Since(began).Round(100*time.Millisecond))
	}
	return nil
}

// findEngines takes the addresses of a running node when none are given.
func (c *projectCommand) findEngines() error {
	if len(c.Kafka) > 0 && c.ClickHouse != "" {
		return nil
	}
	content, err := os.ReadFile(filepath.Join(c.DataDir, "endpoints.json"))
	if err != nil {
		return fmt.Errorf("no running node in %s: start 'fleetlog run', name its --data-dir, or give --kafka and --clickhouse: %w", c.DataDir, err)
	}
	var at endpoints
	if err := json.Unmarshal(content, &at); err != nil {
		return fmt.Errorf("read endpoints.json in %s: %w", c.DataDir, err)
	}
	if len(c.Kafka) == 0 {
		c.Kafka = strings.Split(at.Kafka, ",")
	}
	if c.ClickHouse == "" {
		c.ClickHouse = at.ClickHouse
	}
	return nil
}

// rebuildBar is how far it is, how fast, and how long it will take.
func rebuildBar(table string, done, all int64, took time.Duration) string {
	const width = 30
	share := float64(done) / float64(max(all, 1))
	filled := int(share * width)
	rate := float64(done) / max(took.Seconds(), 0.001)
	left := time.Duration(float64(all-done) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%s [%s%s] %3.0f %%, %d of %d records, %.0f/s, %s left", table, strings.Repeat("#", filled), strings.Repeat(".", width-filled), 100*share, done, all, rate, left)
}
