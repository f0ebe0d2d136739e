CREATE TABLE IF NOT EXISTS {database}.telemetry_local ON CLUSTER 'fleet'
(
    tenant      LowCardinality(String),
    device      String,
    ts          DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    component   LowCardinality(String),
    body        JSON(max_dynamic_paths=256),
    properties  Map(LowCardinality(String), String),
    id          String,
    enqueued_at DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition   Int32,
    offset      Int64 CODEC(Delta, LZ4),

    INDEX by_enqueued_at enqueued_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYYYYMM(enqueued_at)
ORDER BY (tenant, device, ts, partition, offset)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.telemetry ON CLUSTER 'fleet' AS {database}.telemetry_local
ENGINE = Distributed('fleet', '{database}', 'telemetry_local', cityHash64(tenant, device));
