-- One row a message.
--
-- Partitioned by the time the log took the message, not by the device's time: a
-- device may send any time, and one insert may touch only so many partitions.
--
-- The two indexes serve the projection, which after a restart asks which
-- offsets of a short stretch of the log are here already.
--
-- A body may have any fields, and a device may invent new ones for ever. Each path
-- that gets a column of its own is some five files in a wide part, open while it is
-- written or merged: with ClickHouse's defaults 2,000 messages of 1,000 new fields
-- each used up 20,000 file descriptors. Paths beyond the bound share one column,
-- and parts that are not large are one file.
--
-- The deduplication window is what makes the retry of an insert harmless: it
-- holds the tokens of the last so many blocks.
CREATE TABLE IF NOT EXISTS {database}.telemetry
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(enqueued_at)
ORDER BY (tenant, device, ts, partition, offset)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
