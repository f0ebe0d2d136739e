ALTER TABLE {database}.telemetry_local ON CLUSTER 'fleet' MODIFY COLUMN id String CODEC(ZSTD(1));
