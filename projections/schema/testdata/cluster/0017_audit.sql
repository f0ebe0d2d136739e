CREATE OR REPLACE VIEW {database}.audit ON CLUSTER 'fleet' AS
SELECT tenant, at, principal, kind, resource, action, '' AS subject, expected_version, request_id, id, logged_at
FROM {database}.catalog_events
UNION ALL
SELECT tenant, at, principal, 'devices' AS kind, device AS resource, e.kind AS action, subject, 0 AS expected_version, request_id, id, logged_at
FROM {database}.device_events AS e
WHERE NOT startsWith(principal, 'device:') AND NOT startsWith(principal, 'gateway:');
