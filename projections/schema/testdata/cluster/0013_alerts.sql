CREATE OR REPLACE VIEW {database}.alerts ON CLUSTER 'fleet' AS
SELECT
    tenant, device, alert,
    any(module)                                                    AS module,
    any(rule)                                                      AS rule,
    argMax(rule_version, offset)                                   AS rule_version,
    argMax(severity, offset)                                       AS severity,
    any(shadow)                                                    AS shadow,
    multiIf(last IN ('cleared', 'withdrawn'), last, acknowledged_at IS NOT NULL, 'acknowledged', 'active') AS state,
    minOrNullIf(at, kind = 'fired')                                AS fired_at,
    maxOrNullIf(at, kind IN ('fired', 'repeated'))                 AS last_fired_at,
    uniqExactIf(id, kind IN ('fired', 'repeated'))                 AS times_fired,
    maxOrNullIf(at, kind = 'acknowledged')                         AS acknowledged_at,
    argMaxIf(principal, offset, kind = 'acknowledged')             AS acknowledged_by,
    if(state IN ('cleared', 'withdrawn'), argMaxIf(toNullable(at), offset, kind IN ('cleared', 'withdrawn')), NULL) AS ended_at,
    argMaxIf(cause, offset, cause != '')                           AS cause,
    countIf(kind = 'action_delivered')                             AS actions_delivered,
    countIf(kind = 'action_failed')                                AS actions_failed,
    argMaxIf(kind, offset, kind IN ('fired', 'repeated', 'acknowledged', 'cleared', 'withdrawn')) AS last
FROM {database}.alert_events
GROUP BY tenant, device, alert;
