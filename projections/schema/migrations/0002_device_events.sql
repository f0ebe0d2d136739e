-- One row an event of a device: what somebody wanted, as it stands on the log,
-- accepted or not. The fold decides; whoever needs its decision folds these events
-- again, from the nearest state in device_state_history on.
--
-- kind is the event's change as the contract names it (`command_requested`), subject
-- what it is about: the method of a command that is requested, the id of one that is
-- answered or expires, `method-name` of a message.
CREATE TABLE IF NOT EXISTS {database}.device_events
(
    tenant     LowCardinality(String),
    device     String,
    module     LowCardinality(String),
    kind       LowCardinality(String),
    subject    String,
    id         String,
    at         DateTime64(6, 'UTC') CODEC(DoubleDelta, LZ4),
    principal  LowCardinality(String),
    request_id String,
    event      String CODEC(ZSTD(1)),
    logged_at  DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    partition  Int32,
    offset     Int64 CODEC(Delta, LZ4),

    INDEX by_logged_at logged_at TYPE minmax GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(logged_at)
ORDER BY (tenant, device, offset)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
