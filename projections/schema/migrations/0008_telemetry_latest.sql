-- The latest value at each path of a device, by event time, then by offset; path as in
-- telemetry_1m. value is its JSON text, number the same as a number (true and false
-- are 1 and 0) where kind says so. Arrays are one value, objects are their members.
-- Read it with max(last) and GROUP BY, or FINAL.
CREATE TABLE IF NOT EXISTS {database}.telemetry_latest
(
    tenant    LowCardinality(String),
    path      LowCardinality(String),
    device    String,
    component LowCardinality(String),
    module    LowCardinality(String),
    ts        DateTime64(3, 'UTC') EPHEMERAL,
    offset    Int64 EPHEMERAL,
    number    Float64 EPHEMERAL,
    kind      Int8 EPHEMERAL,
    value     String EPHEMERAL,
    last      SimpleAggregateFunction(max, Tuple(ts DateTime64(3, 'UTC'), offset Int64, number Float64, kind Enum8('number' = 0, 'boolean' = 1, 'string' = 2, 'array' = 3, 'null' = 4), value String))
        DEFAULT (ts, offset, number, kind, value)
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant, path, device, component, module)
SETTINGS min_bytes_for_wide_part = 67108864
