// Package clickhouse opens connections to ClickHouse: an address goes in, a
// connection to Fleetlog's database comes out, the database created when it is
// missing.
//
// It guarantees that Open returns a connection that has answered, waiting for a
// ClickHouse that is still starting. It must never put a password into an error
// or a log line, and it knows no table.
package clickhouse

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/cenkalti/backoff/v5"
)

// Config says where ClickHouse is. Only Addr is required.
type Config struct {
	// Addr is http://host:port or https://host:port, with user:password@ before
	// the host where ClickHouse asks for them. A bare host:port is http.
	Addr string
	// Database to work in, created when it is missing; "fleetlog" when empty.
	// Letters, digits and underscores, not starting with a digit.
	Database string
	// Cluster is the name of the cluster the database is on, as ClickHouse's
	// configuration has it; empty for a single server. Letters, digits, underscores
	// and hyphens.
	Cluster string
	// TLS is used for https; the system's roots when nil.
	TLS *tls.Config
	// Logger takes messages about waiting for ClickHouse; none when nil.
	Logger *slog.Logger
}

const (
	defaultDatabase = "fleetlog"

	dialTimeout = 5 * time.Second
	// answerTimeout bounds the wait for the first byte of any answer whose
	// context has no deadline of its own.
	answerTimeout = 5 * time.Minute
	maxConns      = 32
	maxIdle       = 8
	// maxOpenBackoff bounds the pause between attempts to open.
	maxOpenBackoff = 5 * time.Second
)

// Conn is a pool of connections to one database. It is safe for concurrent use.
type Conn struct {
	driver.Conn
	database, cluster string
	forward           *forwarder
}

// Database is the name of the database, an identifier that needs no quoting.
func (c *Conn) Database() string { return c.database }

// Cluster is the name of the cluster the database is on, which needs single quotes
// and no more; empty for a single server.
func (c *Conn) Cluster() string { return c.cluster }

// Ping asks ClickHouse for a sign of life.
func (c *Conn) Ping(ctx context.Context) error {
	if err := c.Exec(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("ClickHouse: %w", err)
	}
	return nil
}

// Open connects, trying again with back-off until ClickHouse answers or ctx
// ends, and creates the database when it is missing. An address or a name that
// cannot be right, or credentials that ClickHouse refuses, fail at once.
func Open(ctx context.Context, cfg Config) (*Conn, error) {
	if cfg.Database == "" {
		cfg.Database = defaultDatabase
	}
	if !identifier.MatchString(cfg.Database) {
		return nil, fmt.Errorf("ClickHouse database %q is not a name: use letters, digits and underscores, not starting with a digit, at most 64", cfg.Database)
	}
	if cfg.Cluster != "" && !clusterName.MatchString(cfg.Cluster) {
		return nil, fmt.Errorf("ClickHouse cluster %q is not a name: use letters, digits, underscores and hyphens, at most 64", cfg.Cluster)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	where := opts.Addr[0]
	var last error // says more than that ctx has ended
	conn, err := backoff.Retry(ctx, func() (*Conn, error) {
		conn, err := open(ctx, opts, cfg.Database, cfg.Cluster)
		last = err
		if isPermanent(err) {
			return nil, backoff.Permanent(err)
		}
		return conn, err
	}, backoff.WithBackOff(openBackoff()), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, wait time.Duration) {
			cfg.Logger.Warn("ClickHouse does not answer, trying again", "addr", where, "error", err, "wait", wait)
		}))
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse at %s: %w", where, cmp.Or(last, err))
	}
	return conn, nil
}

func openBackoff() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, maxOpenBackoff
	return b
}

func open(ctx context.Context, opts clickhouse.Options, database, cluster string) (*Conn, error) {
	if err := createDatabase(ctx, opts, database, cluster); err != nil {
		return nil, err
	}
	opts.Auth.Database = database
	pool, err := clickhouse.Open(&opts)
	if err != nil {
		return nil, err
	}
	conn := &Conn{Conn: pool, database: database, cluster: cluster, forward: newForwarder(opts)}
	if err := conn.Ping(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// createDatabase looks before it creates: a user who may not create databases
// can work in one that is there.
func createDatabase(ctx context.Context, opts clickhouse.Options, database, cluster string) (err error) {
	conn, err := clickhouse.Open(&opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var there uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = ?", database).Scan(&there); err != nil {
		return fmt.Errorf("look for database %s: %w", database, err)
	}
	if there > 0 {
		return nil
	}
	statement := "CREATE DATABASE IF NOT EXISTS " + database
	if cluster != "" {
		statement += " ON CLUSTER '" + cluster + "'"
	}
	if err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	return nil
}
