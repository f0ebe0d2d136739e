-- One row an event of the catalog: who wanted which resource made, changed or deleted,
-- accepted or not. The resource itself is not here, so neither are its secrets.
--
-- action is `created` where the resource must not have been there, `updated` where it
-- must, `written` where either will do, `deleted`. expected_version is that of the
-- etag it was written against, 0 for none.
CREATE TABLE IF NOT EXISTS {database}.catalog_events
(
    tenant           LowCardinality(String),
    kind             LowCardinality(String),
    resource         String,
    action           LowCardinality(String),
    expected_version UInt64,
    id               String,
    at               DateTime64(6, 'UTC') CODEC(DoubleDelta, LZ4),
    principal        LowCardinality(String),
    request_id       String,
    logged_at        DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition        Int32,
    offset           Int64 CODEC(Delta, LZ4),

    INDEX by_logged_at logged_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, at, offset)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
