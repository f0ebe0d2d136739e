CREATE TABLE IF NOT EXISTS {database}.audit_events_local ON CLUSTER 'fleet'
(
    tenant     LowCardinality(String),
    id         String,
    at         DateTime64(6, 'UTC') CODEC(DoubleDelta, LZ4),
    last       DateTime64(6, 'UTC') CODEC(DoubleDelta, LZ4),
    principal  LowCardinality(String),
    address    String,
    method     LowCardinality(String),
    request_id String,
    reason     LowCardinality(String),
    permission LowCardinality(String),
    count      UInt64,
    logged_at  DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition  Int32,
    offset     Int64 CODEC(Delta, LZ4),

    INDEX by_logged_at logged_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, at, offset)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.audit_events ON CLUSTER 'fleet' AS {database}.audit_events_local
ENGINE = Distributed('fleet', '{database}', 'audit_events_local', cityHash64(tenant, id));
