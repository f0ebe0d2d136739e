-- The module of an IoT Edge device that sent the message; empty for the device
-- itself, and for what modules sent before this column was there.
ALTER TABLE {database}.telemetry ADD COLUMN IF NOT EXISTS module LowCardinality(String) AFTER component
