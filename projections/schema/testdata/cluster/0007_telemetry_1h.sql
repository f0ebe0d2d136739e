CREATE TABLE IF NOT EXISTS {database}.telemetry_1h_local ON CLUSTER 'fleet'
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
PARTITION BY toYear(least(greatest(ts, toDateTime64('2000-01-01 00:00:00', 0, 'UTC')), toDateTime64('2099-12-31 00:00:00', 0, 'UTC')))
ORDER BY (tenant, path, device, component, module, ts)
SETTINGS replicated_deduplication_window_seconds = 604800, replicated_deduplication_window = 10000, min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.telemetry_1h ON CLUSTER 'fleet' AS {database}.telemetry_1h_local
ENGINE = Distributed('fleet', '{database}', 'telemetry_1h_local', cityHash64(tenant, device));
