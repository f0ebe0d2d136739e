ALTER TABLE {database}.catalog_events_local ON CLUSTER 'fleet' ADD COLUMN IF NOT EXISTS address String AFTER request_id, ADD COLUMN IF NOT EXISTS method LowCardinality(String) AFTER address;

ALTER TABLE {database}.catalog_events ON CLUSTER 'fleet' ADD COLUMN IF NOT EXISTS address String AFTER request_id, ADD COLUMN IF NOT EXISTS method LowCardinality(String) AFTER address;
