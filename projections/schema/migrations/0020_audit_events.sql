-- One row for calls that were refused, of one caller and method within seconds: who tried
-- what he may not, and who came without a valid credential.
CREATE TABLE IF NOT EXISTS {database}.audit_events
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, at, offset)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
