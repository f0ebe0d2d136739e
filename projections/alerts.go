package projections

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// NewAlertEvents prepares the projection of the alerts topic into the table
// alert_events: one row an event. The view alerts says what each alert is now.
func NewAlertEvents(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&alertEvents, log, conn, options)
}

var alertEvents = table{
	name: "alert_events", projection: "project-alert-events", topic: eventlog.Alerts, loggedAt: "logged_at",
	gaps: true, // the rule host writes in transactions
	rows: func() filler { return newAlertEventRows() },
}

type alertEventRows struct {
	tenant, device, module, alert, rule, kind, action, actionType, text, id, principal, requestID vector[string]
	cause                                                                                         vector[[]byte]
	version                                                                                       vector[uint64]
	severity                                                                                      vector[int8]
	shadow                                                                                        vector[bool]
	windowStart, windowEnd                                                                        vector[int64]
	attempt                                                                                       vector[uint32]
	at                                                                                            vector[time.Time]
}

// severityType is the severity's type exactly as the table has it; its numbers are
// the contract's.
const severityType = "Enum8('unspecified' = 0, 'information' = 1, 'warning' = 2, 'error' = 3, 'critical' = 4)"

func newAlertEventRows() *alertEventRows {
	const word, date = "LowCardinality(String)", "DateTime64(3, 'UTC')"
	return &alertEventRows{
		tenant:      vector[string]{name: "tenant", kind: word},
		device:      vector[string]{name: "device", kind: "String"},
		module:      vector[string]{name: "module", kind: word},
		alert:       vector[string]{name: "alert", kind: "String"},
		rule:        vector[string]{name: "rule", kind: word},
		version:     vector[uint64]{name: "rule_version", kind: "UInt64"},
		severity:    vector[int8]{name: "severity", kind: severityType},
		shadow:      vector[bool]{name: "shadow", kind: "Bool"},
		kind:        vector[string]{name: "kind", kind: word},
		cause:       vector[[]byte]{name: "cause", kind: "String"},
		windowStart: vector[int64]{name: "window_start", kind: date},
		windowEnd:   vector[int64]{name: "window_end", kind: date},
		action:      vector[string]{name: "action", kind: word},
		actionType:  vector[string]{name: "action_type", kind: word},
		attempt:     vector[uint32]{name: "attempt", kind: "UInt32"},
		text:        vector[string]{name: "text", kind: "String"},
		id:          vector[string]{name: "id", kind: "String"},
		at:          vector[time.Time]{name: "at", kind: "DateTime64(6, 'UTC')"},
		principal:   vector[string]{name: "principal", kind: word},
		requestID:   vector[string]{name: "request_id", kind: "String"},
	}
}

func (a *alertEventRows) columns() []column {
	return []column{
		&a.tenant, &a.device, &a.module, &a.alert, &a.rule, &a.version, &a.severity, &a.shadow, &a.kind, &a.cause, &a.windowStart, &a.windowEnd,
		&a.action, &a.actionType, &a.attempt, &a.text, &a.id, &a.at, &a.principal, &a.requestID,
	}
}

func (a *alertEventRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	ev := new(eventsv1.AlertEvent)
	if bad := readValue(r, ev); bad != nil {
		return 0, bad
	}
	if bad := checkKey(r, ev.GetTenant(), ev.GetDevice()); bad != nil {
		return 0, bad
	}
	if ev.GetAlert() == "" {
		return 0, &refusal{badBody, "the event names no alert"}
	}
	a.tenant.add(ev.GetTenant())
	a.device.add(ev.GetDevice())
	a.module.add(ev.GetModule())
	a.alert.add(ev.GetAlert())
	a.rule.add(ev.GetRule())
	a.version.add(ev.GetRuleVersion())
	a.severity.add(severityOf(ev))
	a.shadow.add(ev.GetShadow())
	a.kind.add(kindOf(ev))
	a.id.add(ev.GetId())
	a.at.add(storable(ev.GetTime().AsTime()))
	a.principal.add(ev.GetActor().GetPrincipal())
	a.requestID.add(ev.GetActor().GetRequestId())
	a.addChange(ev, m)
	return len(r.Key) + len(r.Value), nil
}

// addChange adds what only some kinds of events have.
func (a *alertEventRows) addChange(ev *eventsv1.AlertEvent, m *memory) {
	cause, action, text := changeOf(ev)
	a.cause.add(m.arena.keep(cause.GetValues()))
	a.windowStart.add(milliseconds(cause.GetWindowStart()))
	a.windowEnd.add(milliseconds(cause.GetWindowEnd()))
	a.action.add(action.GetId())
	a.actionType.add(action.GetType())
	a.attempt.add(action.GetAttempt())
	a.text.add(text)
}

func changeOf(ev *eventsv1.AlertEvent) (cause *eventsv1.AlertCause, action *eventsv1.AlertAction, text string) {
	switch c := ev.GetChange().(type) {
	case *eventsv1.AlertEvent_Fired:
		cause = c.Fired.GetCause()
	case *eventsv1.AlertEvent_Repeated:
		cause = c.Repeated.GetCause()
	case *eventsv1.AlertEvent_Acknowledged:
		text = c.Acknowledged.GetNote()
	case *eventsv1.AlertEvent_Cleared:
		cause, text = c.Cleared.GetCause(), c.Cleared.GetNote()
	case *eventsv1.AlertEvent_Withdrawn:
		cause = c.Withdrawn.GetCause()
	case *eventsv1.AlertEvent_ActionDelivered:
		action = c.ActionDelivered.GetAction()
	case *eventsv1.AlertEvent_ActionFailed:
		action, text = c.ActionFailed.GetAction(), c.ActionFailed.GetError()
	case *eventsv1.AlertEvent_ActionSuppressed:
		action, text = c.ActionSuppressed.GetAction(), c.ActionSuppressed.GetReason()
	}
	return cause, action, text
}

// severityOf is one that the table knows: a later version may have more.
func severityOf(ev *eventsv1.AlertEvent) int8 {
	return int8(min(max(ev.GetSeverity(), eventsv1.AlertSeverity_ALERT_SEVERITY_UNSPECIFIED), eventsv1.AlertSeverity_ALERT_SEVERITY_CRITICAL))
}
