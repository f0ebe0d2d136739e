ALTER TABLE {database}.telemetry_local ON CLUSTER 'fleet' ADD COLUMN IF NOT EXISTS module LowCardinality(String) AFTER component;

ALTER TABLE {database}.telemetry ON CLUSTER 'fleet' ADD COLUMN IF NOT EXISTS module LowCardinality(String) AFTER component;
