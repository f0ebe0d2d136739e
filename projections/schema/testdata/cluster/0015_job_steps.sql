CREATE OR REPLACE VIEW {database}.job_steps ON CLUSTER 'fleet' AS
SELECT
    tenant, job, step,
    any(device)                                  AS device,
    multiIf(last = 'step_started', 'running', last = 'step_failed' AND argMax(retry_at, offset) > toDateTime64(0, 3, 'UTC'), 'retrying', substring(last, 6)) AS state,
    max(attempt)                                 AS attempts,
    minOrNullIf(at, kind = 'step_started')       AS started_at,
    if(state IN ('succeeded', 'failed', 'skipped'), argMax(toNullable(at), offset), NULL) AS ended_at,
    argMax(text, offset)                         AS text,
    argMax(result, offset)                       AS result,
    argMax(kind, offset)                         AS last
FROM {database}.job_events
WHERE step != ''
GROUP BY tenant, job, step;
