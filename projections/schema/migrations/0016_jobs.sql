-- What each job is now: `pending`, `running`, `stopped`, `cancelled` or `completed`,
-- and how many of its steps came to which end.
CREATE OR REPLACE VIEW {database}.jobs AS
SELECT
    tenant, job,
    anyIf(name, step = '')                       AS display_name,
    anyIf(in_group, step = '')                   AS device_group,
    anyIf(of_organization, step = '')            AS organization,
    anyIf(schedule, step = '')                   AS scheduled_job,
    anyIf(rerun, step = '')                      AS rerun_of,
    transform(anyIf(last, step = ''), ['created', 'started', 'resumed'], ['pending', 'running', 'running'], anyIf(last, step = '')) AS state,
    anyIf(created, step = '')                    AS created_at,
    anyIf(creator, step = '')                    AS created_by,
    anyIf(started, step = '')                    AS started_at,
    if(state IN ('cancelled', 'completed'), anyIf(changed, step = ''), NULL) AS ended_at,
    anyIf(all_steps, step = '')                  AS steps,
    countIf(last = 'step_succeeded')             AS succeeded,
    countIf(last = 'step_failed' AND NOT again)  AS failed,
    countIf(last = 'step_skipped')               AS skipped,
    anyIf(why, step = '')                        AS text
FROM
(
    SELECT
        tenant, job, step,
        argMax(kind, offset)                     AS last,
        argMax(retry_at, offset) > toDateTime64(0, 3, 'UTC') AS again,
        argMax(toNullable(at), offset)           AS changed,
        argMax(text, offset)                     AS why,
        anyIf(display_name, kind = 'created')    AS name,
        anyIf(device_group, kind = 'created')    AS in_group,
        anyIf(organization, kind = 'created')    AS of_organization,
        anyIf(scheduled_job, kind = 'created')   AS schedule,
        anyIf(rerun_of, kind = 'created')        AS rerun,
        anyIf(principal, kind = 'created')       AS creator,
        minOrNullIf(at, kind = 'created')        AS created,
        minOrNullIf(at, kind = 'started')        AS started,
        max(steps)                               AS all_steps
    FROM {database}.job_events
    GROUP BY tenant, job, step
)
GROUP BY tenant, job
