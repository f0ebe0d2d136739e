-- Who wanted what changed: resources of the catalog, and devices where it was not the
-- device or its gateway that spoke. For devices action is the event's kind
-- (`registered`, `command_requested`) and subject what it is about. Accepted or not: what
-- became of it is the fold's to say.
CREATE OR REPLACE VIEW {database}.audit AS
SELECT tenant, at, principal, kind, resource, action, '' AS subject, expected_version, request_id, id, logged_at
FROM {database}.catalog_events
UNION ALL
SELECT tenant, at, principal, 'devices' AS kind, device AS resource, e.kind AS action, subject, 0 AS expected_version, request_id, id, logged_at
FROM {database}.device_events AS e
WHERE NOT startsWith(principal, 'device:') AND NOT startsWith(principal, 'gateway:')
