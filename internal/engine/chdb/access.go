package chdb

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Anyone on this machine can reach the endpoint, and the engine runs with this
// process's rights. So its one user gets all of ClickHouse that stays within
// the storage directory, and none of what reaches beyond: no file(), url(),
// s3(), remote() and other sources, no INTO OUTFILE, no dictionaries (their
// source may be a program) and functions of their own, no SYSTEM SHUTDOWN, no
// users of their own. What ClickHouse has no grant for, sqltext.Outside refuses.
//
// All of the user's rights are in roles. A session has the rights of NodeRole
// until it takes AnalystRole, which may read tenants' databases only. A view there
// is read with its definer's rights, and guards itself: it has rows when log_comment
// begins with the name of its database and a space.
const (
	// NodeRole has the rights of Fleetlog's nodes.
	NodeRole = "fleetlog_node"
	// AnalystRole has the rights of an analyst of one tenant.
	AnalystRole = "fleetlog_analyst"
)

const users = `<clickhouse>
    <profiles><default>
        <input_format_values_interpret_expressions>0</input_format_values_interpret_expressions>
        <input_format_values_deduce_templates_of_expressions>0</input_format_values_deduce_templates_of_expressions>
    </default></profiles>
    <quotas><default></default></quotas>
    <roles>
        <` + NodeRole + `><grants>
            <query>GRANT SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, CHECK, KILL QUERY, SHOW, SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM FLUSH, SYSTEM DROP CACHE, SYSTEM VIEWS ON *.*</query>
        </grants></` + NodeRole + `>
        <` + AnalystRole + `><grants>
            <query>GRANT SELECT ON tenant_*.*</query>
        </grants></` + AnalystRole + `>
    </roles>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <databases><system>{filters}</system></databases>
            <grants>
                <query>GRANT ` + NodeRole + `</query>
                <query>GRANT ` + AnalystRole + `</query>
                <query>GRANT SET DEFINER ON *</query>
            </grants>
        </default>
    </users>
</clickhouse>
`

// Tables of ClickHouse's own that hold nothing of anybody: everyone sees all rows.
// Those of names have the column that names the database, of which an analyst sees
// the tenant's. Of all other tables an analyst sees no row.
var (
	openTables = strings.Fields(`aggregate_function_combinators codecs collations contributors data_skipping_index_types
		data_type_families database_engines dictionary_layouts dictionary_sources disk_types documentation formats functions keywords
		licenses numbers numbers_mt one primes privileges settings table_engines table_functions time_zones tokenizers unicode zeros zeros_mt`)
	ownTables = map[string]string{"databases": "name", "tables": "database", "columns": "database"}
	// closedTables are those of libchdb's version; a test finds the ones of a newer.
	closedTables = strings.Fields(`asynchronous_inserts asynchronous_loader azure_queue_metadata_cache azure_queue_settings
		background_schedule_pool backups build_options certificates clusters constraints current_roles dashboards data_skipping_indices
		database_replicas detached_parts detached_tables dictionaries dimensional_metrics disks distributed_ddl_queue
		distribution_queue dns_cache dropped_tables dropped_tables_parts enabled_roles errors events fail_points filesystem_cache
		filesystem_cache_settings grants graphite_retentions histogram_metrics hypothetical_indexes iceberg_files iceberg_history
		jemalloc_bins jemalloc_profile_text jemalloc_stats kafka_consumers macros masking_policies merge_tree_settings merges
		metrics models moves mutations named_collections part_moves_between_shards parts parts_columns processes projection_parts
		projection_parts_columns projections query_cache query_condition_cache quota_limits quota_usage quotas quotas_usage
		remote_data_paths replicas replicated_fetches replicated_merge_tree_settings replication_queue resources rocksdb
		role_grants roles row_policies s3_queue_settings s3queue_metadata_cache scheduler schema_inference_cache server_settings
		completions settings_changes settings_profile_elements settings_profiles stack_trace storage_policies symbols
		user_defined_functions user_directories user_processes users view_refreshes warnings workloads`)
)

// filters are the row filters of ClickHouse's own tables.
func filters() string {
	var b strings.Builder
	write := func(table, also string) {
		fmt.Fprintf(&b, "<%s><filter>has(currentRoles(), '%s')%s</filter></%[1]s>", table, NodeRole, also)
	}
	for _, table := range closedTables {
		write(table, "")
	}
	own := make([]string, 0, len(ownTables))
	for table := range ownTables {
		own = append(own, table)
	}
	slices.Sort(own)
	for _, table := range own {
		write(table, " OR startsWith(getSetting('log_comment'), concat("+ownTables[table]+", ' '))")
	}
	return b.String()
}

// writeConfig writes the engine's configuration into its directory and returns
// the file to start with. Naming one also keeps the engine from reading
// ./config.xml or /etc/clickhouse-local/config.xml, whatever they are.
func writeConfig(dir string) (string, error) {
	usersFile, configFile := filepath.Join(dir, "fleetlog-users.xml"), filepath.Join(dir, "fleetlog-config.xml")
	var path bytes.Buffer
	if err := xml.EscapeText(&path, []byte(usersFile)); err != nil {
		return "", fmt.Errorf("write ClickHouse configuration: %w", err)
	}
	config := "<clickhouse><users_config>" + path.String() + "</users_config><display_name>fleetlog</display_name></clickhouse>\n"
	for file, content := range map[string]string{usersFile: strings.ReplaceAll(users, "{filters}", filters()), configFile: config} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return "", fmt.Errorf("write ClickHouse configuration: %w", err)
		}
	}
	return configFile, nil
}
