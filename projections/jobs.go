package projections

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// NewJobEvents prepares the projection of the jobs topic into the table job_events:
// one row an event. The views jobs and job_steps say what each is now.
func NewJobEvents(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&jobEvents, log, conn, options)
}

var jobEvents = table{
	name: "job_events", projection: "project-job-events", topic: eventlog.Jobs, loggedAt: "logged_at",
	gaps: true, // the job runner writes in transactions
	rows: func() filler { return newJobEventRows() },
}

type jobEventRows struct {
	tenant, job, step, device, kind, displayName, group, organization, schedule, rerun, text, id, principal, requestID vector[string]
	result                                                                                                             vector[[]byte]
	attempt, steps                                                                                                     vector[uint32]
	retryAt                                                                                                            vector[int64]
	at                                                                                                                 vector[time.Time]
}

func newJobEventRows() *jobEventRows {
	const word = "LowCardinality(String)"
	return &jobEventRows{
		tenant:       vector[string]{name: "tenant", kind: word},
		job:          vector[string]{name: "job", kind: "String"},
		step:         vector[string]{name: "step", kind: "String"},
		device:       vector[string]{name: "device", kind: "String"},
		attempt:      vector[uint32]{name: "attempt", kind: "UInt32"},
		kind:         vector[string]{name: "kind", kind: word},
		displayName:  vector[string]{name: "display_name", kind: "String"},
		group:        vector[string]{name: "device_group", kind: word},
		organization: vector[string]{name: "organization", kind: word},
		schedule:     vector[string]{name: "scheduled_job", kind: "String"},
		rerun:        vector[string]{name: "rerun_of", kind: "String"},
		steps:        vector[uint32]{name: "steps", kind: "UInt32"},
		text:         vector[string]{name: "text", kind: "String"},
		result:       vector[[]byte]{name: "result", kind: "String"},
		retryAt:      vector[int64]{name: "retry_at", kind: "DateTime64(3, 'UTC')"},
		id:           vector[string]{name: "id", kind: "String"},
		at:           vector[time.Time]{name: "at", kind: "DateTime64(6, 'UTC')"},
		principal:    vector[string]{name: "principal", kind: word},
		requestID:    vector[string]{name: "request_id", kind: "String"},
	}
}

func (j *jobEventRows) columns() []column {
	return []column{
		&j.tenant, &j.job, &j.step, &j.device, &j.attempt, &j.kind, &j.displayName, &j.group, &j.organization, &j.schedule, &j.rerun, &j.steps,
		&j.text, &j.result, &j.retryAt, &j.id, &j.at, &j.principal, &j.requestID,
	}
}

func (j *jobEventRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	ev := new(eventsv1.JobEvent)
	if bad := readValue(r, ev); bad != nil {
		return 0, bad
	}
	if bad := checkKey(r, ev.GetTenant(), ev.GetJob()); bad != nil {
		return 0, bad
	}
	j.tenant.add(ev.GetTenant())
	j.job.add(ev.GetJob())
	j.step.add(ev.GetStep())
	j.device.add(ev.GetDevice())
	j.attempt.add(ev.GetAttempt())
	j.kind.add(kindOf(ev))
	j.id.add(ev.GetId())
	j.at.add(storable(ev.GetTime().AsTime()))
	j.principal.add(ev.GetActor().GetPrincipal())
	j.requestID.add(ev.GetActor().GetRequestId())
	created := ev.GetCreated()
	j.displayName.add(created.GetDisplayName())
	j.group.add(created.GetGroup())
	j.organization.add(first(created.GetOrganizations()))
	j.schedule.add(created.GetScheduledJob())
	j.rerun.add(created.GetRerunOf())
	j.steps.add(ev.GetStarted().GetSteps())
	j.text.add(whyOf(ev))
	j.result.add(m.arena.keep(ev.GetStepSucceeded().GetResult()))
	j.retryAt.add(milliseconds(ev.GetStepFailed().GetRetryAt()))
	return len(r.Key) + len(r.Value), nil
}

// whyOf is what a person should know of the event.
func whyOf(ev *eventsv1.JobEvent) string {
	switch c := ev.GetChange().(type) {
	case *eventsv1.JobEvent_Cancelled:
		return c.Cancelled.GetReason()
	case *eventsv1.JobEvent_StepFailed:
		return c.StepFailed.GetError()
	case *eventsv1.JobEvent_StepSkipped:
		return c.StepSkipped.GetReason()
	}
	return ""
}
