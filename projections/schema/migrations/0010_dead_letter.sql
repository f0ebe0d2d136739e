-- One row a record that some stage could not handle: what it was, where it came from
-- and why. A stage that crashes may put a record aside twice, which is one row: read
-- it with FINAL. logged_at is the record's own time.
--
-- tenant is empty for a record whose key names none. payload is the first 64 KiB;
-- payload_bytes what it was.
CREATE TABLE IF NOT EXISTS {database}.dead_letter
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
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, logged_at, stage, source_topic, source_partition, source_offset)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
