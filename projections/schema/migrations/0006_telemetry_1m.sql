-- One row for each number a device has sent in a minute of event time. path is where the
-- number stands in the body (temperature, location.lat); true and false count as 1
-- and 0. Read it with sum(count), sum(sum), min(min), max(max): rows of one key become
-- one when ClickHouse merges, not before. Longer intervals have the first and the last
-- value, too: here they would be three quarters of the bytes.
--
-- A row without a tenant is a mark of the projection: its max says up to which offset of
-- a partition of the log the sums are here. It comes in one part with them.
--
-- Devices may send any time, so partitions are years, of a bounded number.
CREATE TABLE IF NOT EXISTS {database}.telemetry_1m
(
    tenant    LowCardinality(String),
    path      LowCardinality(String),
    device    String,
    component LowCardinality(String),
    module    LowCardinality(String),
    ts        DateTime64(0, 'UTC') CODEC(DoubleDelta, LZ4),
    count     SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
    nonzero   SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
    sum       SimpleAggregateFunction(sum, Float64),
    min       SimpleAggregateFunction(min, Float64),
    max       SimpleAggregateFunction(max, Float64),

    INDEX by_ts ts TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toYear(least(greatest(ts, toDateTime64('2000-01-01 00:00:00', 0, 'UTC')), toDateTime64('2099-12-31 00:00:00', 0, 'UTC')))
ORDER BY (tenant, path, device, component, module, ts)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
