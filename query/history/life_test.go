package history

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// life is some events of one device at random, of which the fold refuses some.
func life(t *rapid.T) []*eventsv1.DeviceEvent {
	n := rapid.IntRange(0, 60).Draw(t, "events")
	events := make([]*eventsv1.DeviceEvent, n)
	at := noon
	for i := range events {
		at = at.Add(time.Duration(rapid.IntRange(-1, 20).Draw(t, "seconds")) * time.Second)
		events[i] = anything(t, i, at)
	}
	return events
}

func anything(t *rapid.T, n int, at time.Time) *eventsv1.DeviceEvent {
	ev := &eventsv1.DeviceEvent{Id: fmt.Sprintf("e%d", n), Tenant: "t", Device: "d", Time: timestamppb.New(at)}
	name := rapid.SampledFrom([]string{"a", "b/c", "d~e", "f"}).Draw(t, "name")
	value := rapid.SampledFrom([]string{
		`1`, `2.50`, `"x"`, `true`, `false`, `null`, `[1,{"y":2}]`, `{"y":1}`, `{"y":1,"z":{}}`, `{"__t":"c","p":1}`, `{"__t":"c","p":null,"q":{"r":1}}`, `{"__t":"c"}`, `{}`, `4503599627370496`,
	}).Draw(t, "value")
	patch := fmt.Appendf(nil, `{%q:%s}`, name, value)
	if rapid.IntRange(0, 3).Draw(t, "whose") == 0 {
		ev.Module = rapid.SampledFrom([]string{"m1", "m2"}).Draw(t, "module")
	}
	earlier := fmt.Sprintf("e%d", rapid.IntRange(0, n).Draw(t, "about"))
	kinds := []func(){
		func() {
			ev.Change = &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{
				DisplayName: name, Enabled: value == `true`, Simulated: value == `false`, Organizations: []string{"o" + name[:1]}, Tags: patch, Edge: name == "a",
			}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_Updated{Updated: &eventsv1.DeviceUpdated{DisplayName: &name, Tags: patch}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Patch: patch, Replace: name == "a"}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Cloud: patch}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: patch}}
		},
		func() { ev.Change = &eventsv1.DeviceEvent_ModuleRegistered{} },
		func() { ev.Change = &eventsv1.DeviceEvent_ModuleDeleted{} },
		func() {
			ev.Change = &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: "c" + name[:1], Node: "n", ModelId: "dtmi:a;1"}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_Disconnected{Disconnected: &eventsv1.DeviceDisconnected{Connection: "c" + name[:1], DesiredDelivered: 1}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_CommandRequested{CommandRequested: &eventsv1.CommandRequested{
				Method: "reboot", Payload: []byte(value), ConnectBy: ev.GetTime(), Deadline: timestamppb.New(at.Add(30 * time.Second)),
			}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_CommandAnswered{CommandAnswered: &eventsv1.CommandAnswered{Command: earlier, Status: 200}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{Body: []byte("\xff" + name), Expires: timestamppb.New(at.Add(time.Minute))}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_MessageLocked{MessageLocked: &eventsv1.MessageLocked{Message: earlier, Token: "token-" + name, Until: timestamppb.New(at.Add(time.Second))}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_ParentAssigned{ParentAssigned: &eventsv1.ParentAssigned{Parent: "gateway"}}
		},
		func() {
			ev.Change = &eventsv1.DeviceEvent_AttestationSet{AttestationSet: &eventsv1.AttestationSet{Attestation: sealedKeys("secret-" + name)}}
		},
		func() { ev.Change = &eventsv1.DeviceEvent_AttestationRemoved{} },
		func() { ev.Change = &eventsv1.DeviceEvent_Deleted{Deleted: &eventsv1.DeviceDeleted{}} },
	}
	kind := 0
	if n > 0 {
		kind = rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")
	}
	kinds[kind]()
	return ev
}

func sealedKeys(key string) *eventsv1.Attestation {
	return &eventsv1.Attestation{Kind: &eventsv1.Attestation_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{Primary: []byte(key), Secondary: []byte(key)}}}
}
