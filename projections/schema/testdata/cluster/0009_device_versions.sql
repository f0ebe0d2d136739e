CREATE TABLE IF NOT EXISTS {database}.device_versions_local ON CLUSTER 'fleet'
(
    tenant           LowCardinality(String),
    device           String,
    at               DateTime64(6, 'UTC') CODEC(DoubleDelta, LZ4),
    display_name     String,
    template         LowCardinality(String),
    enabled          Bool,
    provisioned      Bool,
    simulated        Bool,
    edge             Bool,
    waiting          Bool,
    connected        Bool,
    organization     LowCardinality(String),
    enrollment_group LowCardinality(String),
    model_id         LowCardinality(String),
    parent           String,
    tags             JSON(max_dynamic_paths=64),
    properties       JSON(max_dynamic_paths=256),
    registered_at    DateTime64(3, 'UTC'),
    updated_at       DateTime64(3, 'UTC'),
    connection_since DateTime64(3, 'UTC'),
    version          UInt64,
    revision         UInt64,
    deleted          UInt8,
    logged_at        DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition        Int32,
    offset           Int64 CODEC(Delta, LZ4),

    INDEX by_logged_at logged_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, device, offset)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.device_versions ON CLUSTER 'fleet' AS {database}.device_versions_local
ENGINE = Distributed('fleet', '{database}', 'device_versions_local', cityHash64(tenant, device));
