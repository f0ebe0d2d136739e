CREATE TABLE IF NOT EXISTS {database}.job_events_local ON CLUSTER 'fleet'
(
    tenant        LowCardinality(String),
    job           String,
    step          String,
    device        String,
    attempt       UInt32,
    kind          LowCardinality(String),
    display_name  String,
    device_group  LowCardinality(String),
    organization  LowCardinality(String),
    scheduled_job String,
    rerun_of      String,
    steps         UInt32,
    text          String CODEC(ZSTD(1)),
    result        String CODEC(ZSTD(1)),
    retry_at      DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    id            String,
    at            DateTime64(6, 'UTC') CODEC(DoubleDelta, LZ4),
    principal     LowCardinality(String),
    request_id    String,
    logged_at     DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition     Int32,
    offset        Int64 CODEC(Delta, LZ4),

    INDEX by_logged_at logged_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, job, step, offset)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.job_events ON CLUSTER 'fleet' AS {database}.job_events_local
ENGINE = Distributed('fleet', '{database}', 'job_events_local', cityHash64(tenant, job));
