-- One row an event of a job or, where step is not empty, of one of its steps. kind is
-- the event's change as the contract names it (`created`, `step_failed`); text why;
-- result the device's answer as JSON; retry_at when a failed step is tried again, 1970
-- when it is not; steps how many the job has, where it starts.
CREATE TABLE IF NOT EXISTS {database}.job_events
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, job, step, offset)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
