CREATE TABLE IF NOT EXISTS {database}.schema_migrations_local ON CLUSTER 'fleet'
(version UInt32, name String, checksum String, applied_at DateTime('UTC') DEFAULT now())
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}') ORDER BY version;

CREATE TABLE IF NOT EXISTS {database}.schema_migrations ON CLUSTER 'fleet' AS {database}.schema_migrations_local
ENGINE = Distributed('fleet', '{database}', 'schema_migrations_local', version);
