-- As telemetry_1m, one row for ten minutes, and the first and the last value, by event time,
-- then by offset: a device is in one partition. Read them with min(first).value and
-- max(last).value.
CREATE TABLE IF NOT EXISTS {database}.telemetry_10m
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
    first_ts DateTime64(3, 'UTC') EPHEMERAL,
    first_offset Int64 EPHEMERAL,
    first_value Float64 EPHEMERAL,
    first     SimpleAggregateFunction(min, Tuple(ts DateTime64(3, 'UTC'), offset Int64, value Float64))
        DEFAULT (first_ts, first_offset, first_value) CODEC(ZSTD(1)),
    last_ts DateTime64(3, 'UTC') EPHEMERAL,
    last_offset Int64 EPHEMERAL,
    last_value Float64 EPHEMERAL,
    last      SimpleAggregateFunction(max, Tuple(ts DateTime64(3, 'UTC'), offset Int64, value Float64))
        DEFAULT (last_ts, last_offset, last_value) CODEC(ZSTD(1)),

    INDEX by_ts ts TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toYear(least(greatest(ts, toDateTime64('2000-01-01 00:00:00', 0, 'UTC')), toDateTime64('2099-12-31 00:00:00', 0, 'UTC')))
ORDER BY (tenant, path, device, component, module, ts)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864
