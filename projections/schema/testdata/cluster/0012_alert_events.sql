CREATE TABLE IF NOT EXISTS {database}.alert_events_local ON CLUSTER 'fleet'
(
    tenant       LowCardinality(String),
    device       String,
    module       LowCardinality(String),
    alert        String,
    rule         LowCardinality(String),
    rule_version UInt64,
    severity     Enum8('unspecified' = 0, 'information' = 1, 'warning' = 2, 'error' = 3, 'critical' = 4),
    shadow       Bool,
    kind         LowCardinality(String),
    cause        String CODEC(ZSTD(1)),
    window_start DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    window_end   DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    action       LowCardinality(String),
    action_type  LowCardinality(String),
    attempt      UInt32,
    text         String CODEC(ZSTD(1)),
    id           String,
    at           DateTime64(6, 'UTC') CODEC(DoubleDelta, LZ4),
    principal    LowCardinality(String),
    request_id   String,
    logged_at    DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition    Int32,
    offset       Int64 CODEC(Delta, LZ4),

    INDEX by_logged_at logged_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, device, alert, offset)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.alert_events ON CLUSTER 'fleet' AS {database}.alert_events_local
ENGINE = Distributed('fleet', '{database}', 'alert_events_local', cityHash64(tenant, device));
