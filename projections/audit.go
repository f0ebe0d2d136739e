package projections

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// NewAuditEvents prepares the projection of the audit topic into the table audit_events:
// one row an event. The view audit has them beside the changes.
func NewAuditEvents(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&auditEvents, log, conn, options)
}

var auditEvents = table{
	name: "audit_events", projection: "project-audit-events", topic: eventlog.Audit, loggedAt: "logged_at",
	rows: func() filler { return newAuditEventRows() },
}

type auditEventRows struct {
	tenant, id, principal, address, method, requestID, reason, permission vector[string]
	at, last                                                              vector[time.Time]
	count                                                                 vector[uint64]
}

func newAuditEventRows() *auditEventRows {
	const word, date = "LowCardinality(String)", "DateTime64(6, 'UTC')"
	return &auditEventRows{
		tenant:     vector[string]{name: "tenant", kind: word},
		id:         vector[string]{name: "id", kind: "String"},
		at:         vector[time.Time]{name: "at", kind: date},
		last:       vector[time.Time]{name: "last", kind: date},
		principal:  vector[string]{name: "principal", kind: word},
		address:    vector[string]{name: "address", kind: "String"},
		method:     vector[string]{name: "method", kind: word},
		requestID:  vector[string]{name: "request_id", kind: "String"},
		reason:     vector[string]{name: "reason", kind: word},
		permission: vector[string]{name: "permission", kind: word},
		count:      vector[uint64]{name: "count", kind: "UInt64"},
	}
}

func (a *auditEventRows) columns() []column {
	return []column{&a.tenant, &a.id, &a.at, &a.last, &a.principal, &a.address, &a.method, &a.requestID, &a.reason, &a.permission, &a.count}
}

func (a *auditEventRows) fill(r *kgo.Record, _ *memory) (bytes int, bad *refusal) {
	ev := new(eventsv1.AuditEvent)
	if bad := readValue(r, ev); bad != nil {
		return 0, bad
	}
	if bad := checkKey(r, ev.GetTenant(), ev.GetId()); bad != nil {
		return 0, bad
	}
	refused, actor := ev.GetRefused(), ev.GetActor()
	a.tenant.add(ev.GetTenant())
	a.id.add(ev.GetId())
	a.at.add(storable(ev.GetTime().AsTime()))
	a.last.add(storable(refused.GetLast().AsTime()))
	a.principal.add(actor.GetPrincipal())
	a.address.add(actor.GetAddress())
	a.method.add(actor.GetMethod())
	a.requestID.add(actor.GetRequestId())
	a.reason.add(strings.ToLower(strings.TrimPrefix(refused.GetWhy().String(), "ACCESS_REFUSAL_")))
	a.permission.add(refused.GetPermission())
	a.count.add(refused.GetCount())
	return len(r.Key) + len(r.Value), nil
}
