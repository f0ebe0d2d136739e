// Package sample makes the events of a fleet that lives: devices are registered,
// provisioned, connect, report, are given properties, commands and messages, and
// go. It is what tests and benchmarks of the fold feed it with.
//
// The same seed gives the same events, byte for byte. Every event is one that the
// fold accepts when it is given all of them in order. Twins have some 20 properties.
package sample

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Tenant is whose devices they are.
const Tenant = "default"

const (
	node     = "node-1"
	template = "dtmi:contoso:Thermostat;1"
	pace     = time.Millisecond // between two events of the fleet
	patience = 30 * time.Second // for a command's answer
)

// Fleet is not safe for concurrent use.
type Fleet struct {
	random  *rand.Rand
	devices []visitor
	queue   []*eventsv1.DeviceEvent // made, not given out yet
	greeted int                     // devices that are there
	events  uint64
	began   time.Time
}

// visitor is what the fleet must know of a device to speak for it.
type visitor struct {
	id         string
	connection string
	desired    uint64
}

// New makes a fleet of so many devices.
func New(seed uint64, devices int) *Fleet {
	f := &Fleet{random: rand.New(rand.NewPCG(seed, seed)), began: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)} //nolint:gosec // the same numbers each time
	for i := range devices {
		f.devices = append(f.devices, visitor{id: ID(i)})
	}
	return f
}

// ID is the id of the fleet's nth device, from 0.
func ID(n int) string { return fmt.Sprintf("thermostat-%07d", n) }

// Next is the fleet's next event: first each device comes, then one after the
// other does something, in no order.
func (f *Fleet) Next() *eventsv1.DeviceEvent {
	for len(f.queue) == 0 {
		if f.greeted < len(f.devices) {
			f.greet(&f.devices[f.greeted])
			f.greeted++
			continue
		}
		f.visit(&f.devices[f.random.IntN(len(f.devices))])
	}
	ev := f.queue[0]
	f.queue = f.queue[1:]
	return ev
}

// Greeting is how many events each device begins with.
const Greeting = 5

// greet is how a device comes to be.
func (f *Fleet) greet(v *visitor) {
	f.add(v).Change = &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{
		DisplayName: "Thermostat " + v.id, Template: template, Enabled: true, Organizations: []string{"munich"},
		Tags: []byte(`{"building":"43","floor":` + strconv.Itoa(f.random.IntN(9)) + `}`), Initial: f.properties(wishes, 4),
	}}
	v.desired++
	f.add(v).Change = &eventsv1.DeviceEvent_Provisioned{Provisioned: &eventsv1.DeviceProvisioned{EnrollmentGroup: "thermostats", ModelId: template}}
	f.connect(v)
	f.report(v, len(facts))
}

// visit has the device do what devices do, in about the shares of a fleet that
// reports a few times an hour.
func (f *Fleet) visit(v *visitor) {
	switch dice := f.random.IntN(100); {
	case dice < 55:
		f.report(v, 1+f.random.IntN(4))
	case dice < 67:
		f.wish(v)
	case dice < 78:
		f.disconnect(v)
		f.connect(v)
	case dice < 88:
		f.command(v)
	case dice < 93:
		f.message(v)
	case dice < 97:
		f.add(v).Change = &eventsv1.DeviceEvent_Provisioned{Provisioned: &eventsv1.DeviceProvisioned{EnrollmentGroup: "thermostats", ModelId: template}}
	default:
		name := "Thermostat " + v.id + " of floor " + strconv.Itoa(f.random.IntN(9))
		f.add(v).Change = &eventsv1.DeviceEvent_Updated{Updated: &eventsv1.DeviceUpdated{DisplayName: &name}}
	}
}

func (f *Fleet) report(v *visitor, properties int) {
	f.add(v).Change = &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: f.properties(facts, properties)}}
}

// wish is a person's, and the device's answer to it.
func (f *Fleet) wish(v *visitor) {
	name, value := wishes[f.random.IntN(len(wishes))], f.random.IntN(100)
	f.add(v).Change = &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Patch: fmt.Appendf(nil, `{%q:%d}`, name, value)}}
	v.desired++
	f.add(v).Change = &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{
		Patch: fmt.Appendf(nil, `{%q:{"value":%d,"ac":200,"av":%d,"ad":"completed"}}`, name, value, v.desired),
	}}
}

func (f *Fleet) connect(v *visitor) {
	ev := f.add(v)
	v.connection = ev.GetId()
	ev.Change = &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{
		Connection: v.connection, Node: node, Protocol: "mqtt", ModelId: template, SessionSeconds: 3600,
	}}
	f.add(v).Change = &eventsv1.DeviceEvent_SubscriptionsKept{SubscriptionsKept: &eventsv1.SubscriptionsKept{
		Connection:    v.connection,
		Subscriptions: []*eventsv1.Subscription{{Filter: "$iothub/methods/POST/#"}, {Filter: "$iothub/twin/PATCH/properties/desired/#", Qos: 1}},
	}}
}

func (f *Fleet) disconnect(v *visitor) {
	f.add(v).Change = &eventsv1.DeviceEvent_Disconnected{Disconnected: &eventsv1.DeviceDisconnected{
		Connection: v.connection, Reason: "keep_alive", DesiredDelivered: v.desired,
	}}
}

func (f *Fleet) command(v *visitor) {
	ev := f.add(v)
	by := timestamppb.New(ev.GetTime().AsTime().Add(patience))
	ev.Change = &eventsv1.DeviceEvent_CommandRequested{CommandRequested: &eventsv1.CommandRequested{
		Method: "sensors*getMaxMinReport", Payload: []byte(`"2026-11-23T10:00:00Z"`), ConnectBy: by, Deadline: by,
	}}
	f.add(v).Change = &eventsv1.DeviceEvent_CommandAnswered{CommandAnswered: &eventsv1.CommandAnswered{
		Command: ev.GetId(), Status: 200, Payload: []byte(`{"maxTemp":25.5,"minTemp":17,"avgTemp":21.3}`),
	}}
}

func (f *Fleet) message(v *visitor) {
	ev := f.add(v)
	ev.Change = &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{
		Body: []byte(`{"show":"maintenance at noon"}`), Ack: "none", Expires: timestamppb.New(ev.GetTime().AsTime().Add(time.Hour)),
		Properties: []*eventsv1.MessageProperty{{Key: "method-name", Value: new("show")}},
	}}
	f.add(v).Change = &eventsv1.DeviceEvent_MessageSettled{MessageSettled: &eventsv1.MessageSettled{
		Message: ev.GetId(), Settlement: eventsv1.Settlement_SETTLEMENT_COMPLETED,
	}}
}

// add is the device's next event, to be told what it says.
func (f *Fleet) add(v *visitor) *eventsv1.DeviceEvent {
	f.events++
	ev := &eventsv1.DeviceEvent{
		Id:     fmt.Sprintf("0193f2b0-%04x-7%03x-8000-%012x", f.random.Uint32()>>16, f.random.Uint32()>>20, f.events),
		Tenant: Tenant, Device: v.id, Time: timestamppb.New(f.began.Add(time.Duration(f.events) * pace)),
		Actor: &eventsv1.Actor{Principal: "device:" + v.id},
	}
	f.queue = append(f.queue, ev)
	return ev
}
