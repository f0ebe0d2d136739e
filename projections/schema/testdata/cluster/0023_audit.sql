CREATE OR REPLACE VIEW {database}.audit ON CLUSTER 'fleet' AS
SELECT tenant, at, principal, kind, resource, action, '' AS subject, expected_version, request_id, id, logged_at,
    address, method, '' AS permission, '' AS reason, toUInt64(0) AS count, 'catalog' AS topic, partition, offset
FROM {database}.catalog_events
UNION ALL
SELECT tenant, at, principal, 'devices' AS kind, device AS resource, e.kind AS action, subject, 0 AS expected_version, request_id, id, logged_at,
    address, method, '' AS permission, '' AS reason, toUInt64(0) AS count, 'devices' AS topic, partition, offset
FROM {database}.device_events AS e
WHERE NOT startsWith(principal, 'device:') AND NOT startsWith(principal, 'gateway:')
UNION ALL
SELECT tenant, at, principal, 'access' AS kind, method AS resource, 'refused' AS action, '' AS subject, 0 AS expected_version, request_id, id, logged_at,
    address, method, permission, reason, count, 'audit' AS topic, partition, offset
FROM {database}.audit_events;
