CREATE TABLE IF NOT EXISTS {database}.device_state_history_local ON CLUSTER 'fleet'
(
    tenant       LowCardinality(String),
    device       String,
    revision     UInt64,
    event_offset Int64 CODEC(Delta, LZ4),
    state        String CODEC(ZSTD(1)),
    logged_at    DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition    Int32,
    offset       Int64 CODEC(Delta, LZ4),

    INDEX by_logged_at logged_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, device, event_offset)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.device_state_history ON CLUSTER 'fleet' AS {database}.device_state_history_local
ENGINE = Distributed('fleet', '{database}', 'device_state_history_local', cityHash64(tenant, device));
