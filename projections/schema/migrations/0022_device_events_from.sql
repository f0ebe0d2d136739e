-- Where a change came from, and by which method of the API.
ALTER TABLE {database}.device_events ADD COLUMN IF NOT EXISTS address String AFTER request_id, ADD COLUMN IF NOT EXISTS method LowCardinality(String) AFTER address
