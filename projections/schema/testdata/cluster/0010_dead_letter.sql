CREATE TABLE IF NOT EXISTS {database}.dead_letter_local ON CLUSTER 'fleet'
(
    tenant           LowCardinality(String),
    key              String,
    stage            LowCardinality(String),
    reason           String CODEC(ZSTD(1)),
    source_topic     LowCardinality(String),
    source_partition Int32,
    source_offset    Int64 CODEC(Delta, LZ4),
    headers          Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    payload          String CODEC(ZSTD(1)),
    payload_bytes    UInt32,
    logged_at        DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition        Int32,
    offset           Int64 CODEC(Delta, LZ4)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, logged_at, stage, source_topic, source_partition, source_offset)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.dead_letter ON CLUSTER 'fleet' AS {database}.dead_letter_local
ENGINE = Distributed('fleet', '{database}', 'dead_letter_local', cityHash64(tenant, key));
