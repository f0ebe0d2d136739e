CREATE TABLE IF NOT EXISTS {database}.telemetry_latest_local ON CLUSTER 'fleet'
(
    tenant    LowCardinality(String),
    path      LowCardinality(String),
    device    String,
    component LowCardinality(String),
    module    LowCardinality(String),
    last      SimpleAggregateFunction(max, Tuple(ts DateTime64(3, 'UTC'), offset Int64, number Float64, kind Enum8('number' = 1, 'boolean' = 2, 'string' = 3, 'array' = 4, 'null' = 5), value String))
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')
ORDER BY (tenant, path, device, component, module)
SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE IF NOT EXISTS {database}.telemetry_latest ON CLUSTER 'fleet' AS {database}.telemetry_latest_local
ENGINE = Distributed('fleet', '{database}', 'telemetry_latest_local', cityHash64(tenant, device));
