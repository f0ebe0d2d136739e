package schema

import (
	"fmt"
	"regexp"
	"strings"
)

// cluster is the name of the cluster a database is on, empty for a single server.
//
// On a cluster each table x is two: x_local on each shard, replicated, which holds the
// rows, and x, a Distributed table over all shards, by which everybody reads and
// writes. Views are the same on every node and read x.
type cluster string

// local is the name of the table that holds the rows.
func (c cluster) local(table string) string {
	if c == "" {
		return table
	}
	return table + "_local"
}

func (c cluster) onCluster() string {
	if c == "" {
		return ""
	}
	return " ON CLUSTER '" + string(c) + "'"
}

// shardedBy says what stays together on a shard, for tables where it is not the
// device: rows that replace or add up to one another must.
var shardedBy = map[string]string{
	"schema_migrations": "version",
	"catalog_events":    "cityHash64(tenant, resource)",
	"job_events":        "cityHash64(tenant, job)",
	"audit_events":      "cityHash64(tenant, id)",
	"dead_letter":       "cityHash64(tenant, key)",
}

func shardingKey(table string) string {
	if key, ok := shardedBy[table]; ok {
		return key
	}
	return "cityHash64(tenant, device)"
}

// The forms that a migration may have.
var (
	createTable = regexp.MustCompile(`(?s)^(CREATE TABLE IF NOT EXISTS \{database\}\.)(\w+)(\s*\(.*\)\s*ENGINE = )(\w*MergeTree)(?:\(([^)]*)\))?(.*)$`)
	createView  = regexp.MustCompile(`(?s)^(CREATE OR REPLACE VIEW \{database\}\.\w+)( AS\s.*)$`)
	alterTable  = regexp.MustCompile(`(?s)^(ALTER TABLE \{database\}\.)(\w+)( .*)$`)
	comments    = regexp.MustCompile(`(?m)^--.*\n`)
)

// render gives the statements of a migration, {database} still in them.
func (c cluster) render(sql string) ([]string, error) {
	if c == "" {
		return []string{sql}, nil
	}
	sql = strings.TrimSpace(comments.ReplaceAllString(sql, ""))
	if m := createTable.FindStringSubmatch(sql); m != nil {
		return c.createTable(m[1], m[2], m[3], m[4], m[5], m[6]), nil
	}
	if m := createView.FindStringSubmatch(sql); m != nil {
		return []string{m[1] + c.onCluster() + m[2]}, nil
	}
	if m := alterTable.FindStringSubmatch(sql); m != nil {
		return c.alterTable(m[1], m[2], m[3]), nil
	}
	return nil, fmt.Errorf("a migration for a cluster must be CREATE TABLE IF NOT EXISTS, CREATE OR REPLACE VIEW or ALTER TABLE, of {database}: %.60s", sql)
}

// replicated is where the replicas of a table meet. It has the table's UUID, not its
// name, so that tables can be exchanged.
const replicated = `'/clickhouse/tables/{uuid}/{shard}', '{replica}'`

// tokensFor keeps the tokens of inserts for a week: a replicated table forgets them
// by time, too, after an hour, and a projection may be stopped for longer.
const tokensFor = "replicated_deduplication_window_seconds = 604800, "

func (c cluster) createTable(create, name, columns, engine, arguments, rest string) []string {
	if arguments != "" {
		arguments = ", " + arguments
	}
	rest = strings.ReplaceAll(rest, "non_replicated_deduplication_window = ", tokensFor+"replicated_deduplication_window = ")
	return []string{
		create + c.local(name) + c.onCluster() + columns + "Replicated" + engine + "(" + replicated + arguments + ")" + rest,
		c.createDistributed(create, name),
	}
}

func (c cluster) createDistributed(create, name string) string {
	return fmt.Sprintf("%s%s%s AS {database}.%s\nENGINE = Distributed('%s', '{database}', '%s', %s)",
		create, name, c.onCluster(), c.local(name), c, c.local(name), shardingKey(name))
}

// alterTable changes both tables. Codecs, indexes and settings are of the local one
// alone.
func (c cluster) alterTable(alter, name, change string) []string {
	statements := []string{alter + c.local(name) + c.onCluster() + change}
	if strings.Contains(change, " COLUMN ") && !strings.Contains(change, " CODEC(") {
		statements = append(statements, alter+name+c.onCluster()+change)
	}
	return statements
}
