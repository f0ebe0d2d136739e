-- States of devices on the way, so that the state at any moment is few events away:
-- event_offset is the last event folded into it. They only save time; the events
-- alone give the same answers.
CREATE TABLE IF NOT EXISTS {database}.device_state_history
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, device, event_offset)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
