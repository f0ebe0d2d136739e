package projections

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// NewCatalogEvents prepares the projection of the catalog topic into the table
// catalog_events: one row an event, accepted or not, without what is in the
// resource.
func NewCatalogEvents(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&catalogEvents, log, conn, options)
}

var catalogEvents = table{
	name: "catalog_events", projection: "project-catalog-events", topic: eventlog.Catalog, loggedAt: "logged_at",
	rows: func() filler { return newCatalogEventRows() },
}

type catalogEventRows struct {
	tenant, kind, resource, action, id, principal, requestID, address, method vector[string]
	expected                                                                  vector[uint64]
	at                                                                        vector[time.Time]
}

func newCatalogEventRows() *catalogEventRows {
	const word = "LowCardinality(String)"
	return &catalogEventRows{
		tenant:    vector[string]{name: "tenant", kind: word},
		kind:      vector[string]{name: "kind", kind: word},
		resource:  vector[string]{name: "resource", kind: "String"},
		action:    vector[string]{name: "action", kind: word},
		expected:  vector[uint64]{name: "expected_version", kind: "UInt64"},
		id:        vector[string]{name: "id", kind: "String"},
		at:        vector[time.Time]{name: "at", kind: "DateTime64(6, 'UTC')"},
		principal: vector[string]{name: "principal", kind: word},
		requestID: vector[string]{name: "request_id", kind: "String"},
		address:   vector[string]{name: "address", kind: "String"},
		method:    vector[string]{name: "method", kind: word},
	}
}

func (c *catalogEventRows) columns() []column {
	return []column{&c.tenant, &c.kind, &c.resource, &c.action, &c.expected, &c.id, &c.at, &c.principal, &c.requestID, &c.address, &c.method}
}

func (c *catalogEventRows) fill(r *kgo.Record, _ *memory) (bytes int, bad *refusal) {
	ev := new(eventsv1.CatalogEvent)
	if bad := readValue(r, ev); bad != nil {
		return 0, bad
	}
	if want := ev.GetTenant() + "/" + ev.GetKind() + "/" + ev.GetResource(); string(r.Key) != want {
		return 0, &refusal{badKey, fmt.Sprintf("record key %.100q is not tenant/kind/id of the value", r.Key)}
	}
	c.tenant.add(ev.GetTenant())
	c.kind.add(ev.GetKind())
	c.resource.add(ev.GetResource())
	c.action.add(actionOf(ev))
	c.expected.add(ev.GetPrecondition().GetVersion())
	c.id.add(ev.GetId())
	c.at.add(storable(ev.GetTime().AsTime()))
	c.principal.add(ev.GetActor().GetPrincipal())
	c.requestID.add(ev.GetActor().GetRequestId())
	c.address.add(ev.GetActor().GetAddress())
	c.method.add(ev.GetActor().GetMethod())
	return len(r.Key) + len(ev.GetId()) + len(ev.GetActor().GetPrincipal()) + len(ev.GetActor().GetRequestId()), nil
}

// actionOf is what the event wants done to the resource.
func actionOf(ev *eventsv1.CatalogEvent) string {
	before := ev.GetPrecondition()
	switch {
	case ev.GetDeleted() != nil:
		return "deleted"
	case before.GetVersion() > 0 || before.GetExists():
		return "updated"
	case before != nil && before.Exists != nil:
		return "created"
	}
	return "written"
}
