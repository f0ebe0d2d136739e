package projections

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// NewDeviceEvents prepares the projection of the devices topic into the table
// device_events: one row an event, accepted or not.
func NewDeviceEvents(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&deviceEvents, log, conn, options)
}

var deviceEvents = table{
	name: "device_events", projection: "project-device-events", topic: eventlog.Devices, loggedAt: "logged_at",
	rows: func() filler { return newDeviceEventRows() },
}

type deviceEventRows struct {
	tenant, module, kind, subject, id, principal, requestID, address, method vector[string]
	device, event                                                            vector[[]byte]
	at                                                                       vector[time.Time]
}

func newDeviceEventRows() *deviceEventRows {
	return &deviceEventRows{
		tenant:    vector[string]{name: "tenant", kind: "LowCardinality(String)"},
		device:    vector[[]byte]{name: "device", kind: "String"},
		module:    vector[string]{name: "module", kind: "LowCardinality(String)"},
		kind:      vector[string]{name: "kind", kind: "LowCardinality(String)"},
		subject:   vector[string]{name: "subject", kind: "String"},
		id:        vector[string]{name: "id", kind: "String"},
		at:        vector[time.Time]{name: "at", kind: "DateTime64(6, 'UTC')"},
		principal: vector[string]{name: "principal", kind: "LowCardinality(String)"},
		requestID: vector[string]{name: "request_id", kind: "String"},
		address:   vector[string]{name: "address", kind: "String"},
		method:    vector[string]{name: "method", kind: "LowCardinality(String)"},
		event:     vector[[]byte]{name: "event", kind: "String"},
	}
}

func (d *deviceEventRows) columns() []column {
	return []column{&d.tenant, &d.device, &d.module, &d.kind, &d.subject, &d.id, &d.at, &d.principal, &d.requestID, &d.address, &d.method, &d.event}
}

// fill refuses what the fold puts aside, and nothing else: who folds the rows
// again must come to what the fold came to.
func (d *deviceEventRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	ev := new(eventsv1.DeviceEvent)
	if bad := readValue(r, ev); bad != nil {
		return 0, bad
	}
	if bad := checkKey(r, ev.GetTenant(), ev.GetDevice()); bad != nil {
		return 0, bad
	}
	d.tenant.add(ev.GetTenant())
	d.device.add(m.arena.keep([]byte(ev.GetDevice())))
	d.module.add(ev.GetModule())
	d.kind.add(kindOf(ev))
	d.subject.add(subjectOf(ev))
	d.id.add(ev.GetId())
	d.at.add(storable(ev.GetTime().AsTime()))
	d.principal.add(ev.GetActor().GetPrincipal())
	d.requestID.add(ev.GetActor().GetRequestId())
	d.address.add(ev.GetActor().GetAddress())
	d.method.add(ev.GetActor().GetMethod())
	d.event.add(m.arena.keep(r.Value))
	return 2*len(r.Key) + len(r.Value), nil
}

// readValue reads a record's value.
func readValue(r *kgo.Record, value proto.Message) *refusal {
	if err := proto.Unmarshal(r.Value, value); err != nil {
		return &refusal{badBody, fmt.Sprintf("value is not a %s: %s", value.ProtoReflect().Descriptor().Name(), err)}
	}
	return nil
}

// checkKey wants a record to stand under the key of what it is about.
func checkKey(r *kgo.Record, tenant, device string) *refusal {
	inTenant, id, ok := eventlog.SplitKey(r.Key)
	if !ok || string(inTenant) != tenant || string(id) != device {
		return &refusal{badKey, fmt.Sprintf("record key %.100q is not tenant/device of the value", r.Key)}
	}
	return nil
}

// kindOf is the event's change as the contract names it; empty for one that this
// version does not know.
func kindOf(ev proto.Message) string {
	message := ev.ProtoReflect()
	field := message.WhichOneof(message.Descriptor().Oneofs().ByName("change"))
	if field == nil {
		return ""
	}
	return string(field.Name())
}

// methodName is the property of a message by which it is a command that may wait
// for its device (FEATURES.md PAY-44).
const methodName = "method-name"

// subjectOf is what the event is about, for those that are looked for by it.
func subjectOf(ev *eventsv1.DeviceEvent) string {
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_CommandRequested:
		return c.CommandRequested.GetMethod()
	case *eventsv1.DeviceEvent_CommandAnswered:
		return c.CommandAnswered.GetCommand()
	case *eventsv1.DeviceEvent_CommandExpired:
		return c.CommandExpired.GetCommand()
	case *eventsv1.DeviceEvent_MessageEnqueued:
		for _, p := range c.MessageEnqueued.GetProperties() {
			if p.GetKey() == methodName {
				return p.GetValue()
			}
		}
	}
	return ""
}

// The times that an event's row can have: clickhouse-go counts nanoseconds since
// 1970 in 64 bits.
var (
	earliestEvent = time.UnixMilli(earliest)
	latestEvent   = time.Date(2261, 12, 31, 0, 0, 0, 0, time.UTC)
)

// storable brings a time that an event's row cannot have to the nearest one.
func storable(t time.Time) time.Time {
	switch {
	case t.Before(earliestEvent):
		return earliestEvent
	case t.After(latestEvent):
		return latestEvent
	}
	return t
}
