CREATE TABLE IF NOT EXISTS {database}.telemetry_latest_local ON CLUSTER 'fleet'
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
ORDER BY (tenant, path, device, component, module)
SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.telemetry_latest ON CLUSTER 'fleet' AS {database}.telemetry_latest_local
ENGINE = Distributed('fleet', '{database}', 'telemetry_latest_local', cityHash64(tenant, device));
