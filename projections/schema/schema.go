// Package schema is Fleetlog's schema in ClickHouse: numbered migrations, and
// the step that brings a database to the newest of them.
//
// In goes a connection, out comes a database whose tables are as this version of
// the program wants them. A migration that was applied is not applied again; one
// that was cut off halfway, or that two nodes apply at the same time, does no
// harm, because each is one statement that may run twice (IF NOT EXISTS). A
// migration that was released must never be edited: add the next number.
package schema

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
)

// migrationTimeout bounds one statement.
const migrationTimeout = 2 * time.Minute

// ErrIncompatible is the error of a database that this version of the program
// cannot work with; trying again does not help.
var ErrIncompatible = errors.New("incompatible schema")

//go:embed migrations/*.sql
var files embed.FS

type migration struct {
	version uint32
	name    string
	sql     string // with {database} still in it
}

// checksum tells a migration from an edited one.
func (m migration) checksum() string {
	sum := sha256.Sum256([]byte(m.sql))
	return hex.EncodeToString(sum[:])
}

// load reads the migrations in the order of their numbers, which count up from 1
// without gaps.
func load(dir fs.FS) ([]migration, error) {
	names, err := fs.Glob(dir, "migrations/*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var migrations []migration
	for i, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".sql")
		number, _, ok := strings.Cut(name, "_")
		version, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil || version != uint64(i+1) {
			return nil, fmt.Errorf("migration %s: want a name that begins with %04d_", file, i+1)
		}
		sql, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", file, err)
		}
		migrations = append(migrations, migration{version: uint32(version), name: name, sql: string(sql)})
	}
	return migrations, nil
}

// Migrate applies the migrations that the database does not have yet. It fails
// when a migration was edited after it was applied, and when the database has
// been migrated by a newer version of the program.
func Migrate(ctx context.Context, conn *clickhouse.Conn) error {
	migrations, err := load(files)
	if err != nil {
		return err
	}
	return migrate(ctx, conn, migrations)
}

const migrationsTable = `CREATE TABLE IF NOT EXISTS {database}.schema_migrations
(version UInt32, name String, checksum String, applied_at DateTime('UTC') DEFAULT now())
ENGINE = ReplacingMergeTree ORDER BY version`

func migrate(ctx context.Context, conn *clickhouse.Conn, migrations []migration) error {
	if err := apply(ctx, conn, migrationsTable); err != nil {
		return fmt.Errorf("create schema_migrations: %w", err)
	}
	applied, err := readApplied(ctx, conn)
	if err != nil {
		return err
	}
	for _, m := range migrations {
		checksum, done := applied[m.version]
		delete(applied, m.version)
		switch {
		case done && checksum == m.checksum():
			continue
		case done:
			return fmt.Errorf("%w: migration %s differs from the one database %s was migrated with: restore its text and make the change in a new migration", ErrIncompatible, m.name, conn.Database())
		}
		if err := apply(ctx, conn, m.sql); err != nil {
			return fmt.Errorf("apply migration %s: %w", m.name, err)
		}
		if err := conn.Exec(ctx, "INSERT INTO schema_migrations (version, name, checksum) SELECT ?, ?, ?", m.version, m.name, m.checksum()); err != nil {
			return fmt.Errorf("note migration %s as applied: %w", m.name, err)
		}
	}
	for version := range applied {
		return fmt.Errorf("%w: database %s has migration %d, which this version of fleetlog does not know: run the newer version that migrated it", ErrIncompatible, conn.Database(), version)
	}
	return nil
}

// apply executes a statement as this database needs it.
func apply(ctx context.Context, conn *clickhouse.Conn, sql string) error {
	statements, err := cluster(conn.Cluster()).render(sql)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if err := exec(ctx, conn, statement); err != nil {
			return err
		}
	}
	return nil
}

func exec(ctx context.Context, conn *clickhouse.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, migrationTimeout)
	defer cancel()
	return conn.Exec(ctx, strings.ReplaceAll(sql, "{database}", conn.Database()))
}

// readApplied gives the checksums of the applied migrations by version.
func readApplied(ctx context.Context, conn *clickhouse.Conn) (map[uint32]string, error) {
	rows, err := conn.Query(ctx, "SELECT version, any(checksum) FROM schema_migrations GROUP BY version")
	if err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", err)
	}
	defer rows.Close()
	applied := map[uint32]string{}
	for rows.Next() {
		var version uint32
		var checksum string
		if err := rows.Scan(&version, &checksum); err != nil {
			return nil, fmt.Errorf("read schema_migrations: %w", err)
		}
		applied[version] = checksum
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", err)
	}
	return applied, nil
}
