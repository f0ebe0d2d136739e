package history

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

func TestDiffs(t *testing.T) {
	at := timestamppb.New(noon)
	twin := func(desired, reported string) *eventsv1.Identity {
		return &eventsv1.Identity{Twin: &eventsv1.Twin{Desired: []byte(desired), Reported: []byte(reported)}}
	}
	for name, test := range map[string]struct {
		before, after *eventsv1.DeviceState
		want          []Change
	}{
		"never and never": {nil, nil, nil},
		"only counters":   {&eventsv1.DeviceState{Version: 1, Revision: 1}, &eventsv1.DeviceState{Version: 2, Revision: 3, UpdatedAt: at}, nil},
		"a new device": {nil, &eventsv1.DeviceState{DisplayName: "Lobby", Enabled: true, RegisteredAt: at, Organizations: []string{"o"}}, []Change{
			{Path: "/displayName", After: "Lobby"}, {Path: "/enabled", Before: false, After: true},
			{Path: "/organizations", After: []any{"o"}}, {Path: "/registeredAt", After: "2026-11-23T12:00:00Z"},
		}},
		"blocked": {&eventsv1.DeviceState{Enabled: true}, &eventsv1.DeviceState{}, []Change{{Path: "/enabled", Before: true, After: false}}},
		"tags": {&eventsv1.DeviceState{Tags: []byte(`{"site":{"floor":1},"a/b":1}`)}, &eventsv1.DeviceState{Tags: []byte(`{"site":{"floor":2},"new":{"x":1}}`)}, []Change{
			{Path: "/tags/a~1b", Before: 1.0}, {Path: "/tags/new", After: map[string]any{"x": 1.0}}, {Path: "/tags/site/floor", Before: 1.0, After: 2.0},
		}},
		"no tags and empty tags": {&eventsv1.DeviceState{}, &eventsv1.DeviceState{Tags: []byte(`{}`)}, nil},
		"properties of components": {&eventsv1.DeviceState{Self: twin(`{"a":1}`, ``)}, &eventsv1.DeviceState{Self: twin(`{"a":1,"t":{"__t":"c","target":20}}`, `{"t":{"__t":"c","max":3}}`)}, []Change{
			{Path: "/desired/t/target", After: 20.0}, {Path: "/reported/t/max", After: 3.0},
		}},
		"a number that a float does not hold": {&eventsv1.DeviceState{Self: twin(`{"n":10000000000000000000001}`, ``)}, &eventsv1.DeviceState{Self: twin(`{"n":10000000000000000000002}`, ``)}, []Change{
			{Path: "/desired/n", Before: 1e22, After: 1e22},
		}},
		"attestation": {&eventsv1.DeviceState{Attestation: sealedKeys("s1")}, &eventsv1.DeviceState{Attestation: sealedKeys("s2")}, []Change{{Path: "/attestation", Secret: true}}},
		"a command": {&eventsv1.DeviceState{}, &eventsv1.DeviceState{Self: &eventsv1.Identity{Commands: []*eventsv1.Command{{Id: "c1", Method: "reboot", Payload: []byte(`{"delay":3}`)}}}}, []Change{
			{Path: "/commands/c1", After: map[string]any{"method": "reboot", "payload": map[string]any{"delay": 3.0}}},
		}},
		"a module, then its twin": {&eventsv1.DeviceState{}, &eventsv1.DeviceState{Modules: []*eventsv1.Identity{{Module: "camera"}}}, []Change{{Path: "/modules/camera", After: map[string]any{}}}},
		"a module's property": {
			&eventsv1.DeviceState{Modules: []*eventsv1.Identity{{Module: "camera"}}},
			&eventsv1.DeviceState{Modules: []*eventsv1.Identity{{Module: "camera", Twin: &eventsv1.Twin{Desired: []byte(`{"fps":5}`), DesiredVersion: 1}}}},
			[]Change{{Path: "/modules/camera/desired/fps", After: 5.0}, {Path: "/modules/camera/desiredVersion", After: 1.0}},
		},
		"connection": {&eventsv1.DeviceState{}, &eventsv1.DeviceState{Self: &eventsv1.Identity{Connection: &eventsv1.Connection{Connected: true, Protocol: "mqtt"}}}, []Change{
			{Path: "/connection/connected", Before: false, After: true}, {Path: "/connection/protocol", After: "mqtt"},
		}},
		"deleted": {&eventsv1.DeviceState{DisplayName: "x"}, &eventsv1.DeviceState{Deleted: true}, []Change{{Path: "/deleted", Before: false, After: true}, {Path: "/displayName", Before: "x"}}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, Diff(test.before, test.after)) })
	}
}

// TestADiffIsAllThatIsDifferent: two states of a device's life have no diff exactly
// when they are equal but for what every change counts on, and with the diff one
// becomes the other. No secret is in it.
func TestADiffIsAllThatIsDifferent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := []*eventsv1.DeviceState{nil}
		for _, ev := range life(t) {
			next, _ := device.Apply(states[len(states)-1], ev)
			states = append(states, next)
			text, err := json.Marshal(Intent(ev))
			require.NoError(t, err)
			require.NotContains(t, string(text), "secret-")
			require.NotContains(t, string(text), "token-")
		}
		before, after := rapid.SampledFrom(states).Draw(t, "before"), rapid.SampledFrom(states).Draw(t, "after")
		changes := Diff(before, after)
		require.Equal(t, proto.Equal(essence(before), essence(after)), len(changes) == 0, "%v", changes)
		tree := visible(treeOf(before.ProtoReflect())).(map[string]any)
		for _, c := range changes {
			apply(t, tree, c)
		}
		want, err := json.Marshal(tidy(visible(treeOf(after.ProtoReflect()))))
		require.NoError(t, err)
		got, err := json.Marshal(tidy(tree))
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got), "%v", changes)
		text, err := json.Marshal(changes)
		require.NoError(t, err)
		require.NotContains(t, string(text), "secret-")
		require.NotContains(t, string(text), "token-")
	})
}

// essence is the state without what a diff leaves out, and with one way of saying
// nothing.
func essence(s *eventsv1.DeviceState) *eventsv1.DeviceState {
	out := new(eventsv1.DeviceState)
	proto.Merge(out, s)
	out.Tenant, out.Device, out.Version, out.Revision, out.UpdatedAt, out.CloudStamps, out.CloudDates = "", "", 0, 0, nil, nil, nil
	for _, i := range append([]*eventsv1.Identity{out.GetSelf()}, out.GetModules()...) {
		if i == nil {
			continue
		}
		i.MessagesQueued = 0
		if t := i.GetTwin(); t != nil {
			t.DesiredAt, t.ReportedAt, t.DesiredStamps, t.ReportedStamps, t.DesiredDates, t.ReportedDates = nil, nil, nil, nil, nil, nil
			t.Desired, t.Reported = nonempty(t.GetDesired()), nonempty(t.GetReported())
			if proto.Equal(t, &eventsv1.Twin{}) {
				i.Twin = nil
			}
		}
	}
	out.Tags, out.Cloud = nonempty(out.GetTags()), nonempty(out.GetCloud())
	if proto.Equal(out.GetSelf(), &eventsv1.Identity{}) {
		out.Self = nil
	}
	return out
}

func nonempty(object []byte) []byte {
	if string(object) == "{}" {
		return nil
	}
	return object
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// apply makes one change to a tree.
func apply(t *rapid.T, tree map[string]any, c Change) {
	names := strings.Split(c.Path, "/")[1:]
	for i, name := range names {
		name = unescape.Replace(name)
		if i < len(names)-1 {
			inner, ok := tree[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				tree[name] = inner
			}
			tree = inner
			continue
		}
		had := tree[name]
		switch {
		case c.Secret: // whether it is still there is not told
			tree[name] = "secret"
		case c.After == nil:
			delete(tree, name)
		default:
			tree[name] = c.After
		}
		if c.Before != nil && c.Before != false {
			require.Equal(t, fmt.Sprint(c.Before), fmt.Sprint(had), c.Path)
		}
	}
}

// tidy leaves out of a tree what is as good as not there, the markers of components,
// and secrets.
func tidy(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	out := map[string]any{}
	for name, inner := range object {
		inner = tidy(inner)
		if empty, is := inner.(map[string]any); is && len(empty) == 0 || inner == false || inner == "secret" || name == marker {
			continue
		}
		out[name] = inner
	}
	return out
}

// TestNewFieldsAreShown: what the tables name is there. A field that the contract
// gets is shown without a line here.
func TestNewFieldsAreShown(t *testing.T) {
	find := func(name protoreflect.FullName) protoreflect.FieldDescriptor {
		message := eventsv1.File_fleetlog_events_v1_device_proto.Messages().ByName(name.Parent().Name())
		require.NotNil(t, message, name)
		return message.Fields().ByName(name.Name())
	}
	for name := range shown {
		require.NotNil(t, find(name), name)
	}
	for name := range names {
		require.NotNil(t, find(name), name)
	}
	for list, key := range keys {
		require.NotNil(t, find(list).Message().Fields().ByName(key), list)
	}
}
