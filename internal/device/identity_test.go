package device

import (
	"fmt"
	"strings"
	"testing"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

// later is an event about the device some time after noon.
func later(module string, after time.Duration, change *eventsv1.DeviceEvent) *eventsv1.DeviceEvent {
	change.Id, change.Tenant, change.Device, change.Module = "e-"+after.String(), "default", "d", module
	change.Time = timestamppb.New(noon.AsTime().Add(after))
	return change
}

func registered(t *testing.T) *eventsv1.DeviceState {
	state, outcome := Apply(nil, event(&eventsv1.DeviceRegistered{Enabled: true}, nil))
	require.Nil(t, outcome.GetRejection())
	return state
}

// then folds events that must be accepted.
func then(t *testing.T, state *eventsv1.DeviceState, events ...*eventsv1.DeviceEvent) *eventsv1.DeviceState {
	t.Helper()
	for _, ev := range events {
		var outcome *eventsv1.Outcome
		before := proto.CloneOf(state)
		held := state
		state, outcome = Apply(state, ev)
		require.Nil(t, outcome.GetRejection(), "%v", ev)
		require.True(t, proto.Equal(before, held), "the state passed in is never changed")
	}
	return state
}

func refused(t *testing.T, state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, why eventsv1.RejectionReason) {
	t.Helper()
	next, outcome := Apply(state, ev)
	require.Equal(t, why, outcome.GetRejection().GetReason(), outcome.GetRejection().GetMessage())
	require.Same(t, state, next)
}

func connectedAs(id string) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: id, Node: "n"}}}
}

func disconnectedFrom(id string, delivered uint64) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Disconnected{Disconnected: &eventsv1.DeviceDisconnected{Connection: id, DesiredDelivered: delivered}}}
}

func desired(patch string) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Patch: []byte(patch)}}}
}

func asked(method string, deadline time.Duration) *eventsv1.DeviceEvent {
	at := timestamppb.New(noon.AsTime().Add(deadline))
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_CommandRequested{CommandRequested: &eventsv1.CommandRequested{Method: method, ConnectBy: at, Deadline: at}}}
}

func queued(body string, expires time.Duration) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{
		Body: []byte(body), Expires: timestamppb.New(noon.AsTime().Add(expires)),
	}}}
}

func settled(id, token string, s eventsv1.Settlement) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageSettled{MessageSettled: &eventsv1.MessageSettled{Message: id, Token: token, Settlement: s}}}
}

func locked(id, token string, until time.Duration) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageLocked{MessageLocked: &eventsv1.MessageLocked{
		Message: id, Token: token, Until: timestamppb.New(noon.AsTime().Add(until)),
	}}}
}

func TestNewestConnectionCounts(t *testing.T) {
	s := then(t, registered(t), later("", 1, connectedAs("a")), later("", 2, connectedAs("b")))
	require.Equal(t, "b", s.GetSelf().GetConnection().GetId())
	refused(t, s, later("", 3, disconnectedFrom("a", 0)), eventsv1.RejectionReason_REJECTION_REASON_STALE)
	s = then(t, s, later("", 4, disconnectedFrom("b", 7)))
	require.False(t, s.GetSelf().GetConnection().GetConnected())
	s = then(t, s, later("", 5, connectedAs("c")))
	require.Equal(t, uint64(7), s.GetSelf().GetConnection().GetDesiredDelivered(), "what it was given stays known")
	require.Equal(t, uint64(1), s.GetVersion(), "the etag is of what a person edits")
	require.Equal(t, uint64(5), s.GetRevision())
}

func TestTwinMerges(t *testing.T) {
	s := then(t, registered(t),
		later("", 1, desired(`{"b":{"x":1,"y":[1,{"z":null}]},"a":1.50}`)),
		later("", 2, desired(`{"b":{"x":null},"c":"<&>"}`)))
	twin := s.GetSelf().GetTwin()
	require.Equal(t, `{"a":1.50,"b":{"y":[1,{"z":null}]},"c":"<&>"}`, string(twin.GetDesired()), "numbers stay as they were written, keys are sorted")
	require.Equal(t, uint64(2), twin.GetDesiredVersion())
	require.Equal(t, uint64(1), DesiredStamps(twin).Of("a").GetVersion())
	require.Equal(t, uint64(2), DesiredStamps(twin).Of("b").GetVersion())
	full := strings.Repeat("x", 4000)
	for i := range 8 {
		s, _ = Apply(s, later("", 3, desired(fmt.Sprintf(`{"f%d":%q}`, i, full))))
	}
	refused(t, s, later("", 4, desired(fmt.Sprintf(`{"f9":%q}`, full))), eventsv1.RejectionReason_REJECTION_REASON_LIMIT)
	refused(t, s, later("", 5, desired(`{"a":1} {}`)), eventsv1.RejectionReason_REJECTION_REASON_INVALID)
	refused(t, s, later("m", 6, desired(`{"a":1}`)), eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND)
}

func TestCommandsEndOnce(t *testing.T) {
	s := then(t, registered(t), later("", time.Second, asked("reboot", time.Minute)), later("", 2*time.Second, asked("blink", time.Hour)))
	require.Len(t, s.GetSelf().GetCommands(), 2)
	answer := func(id string) *eventsv1.DeviceEvent {
		return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_CommandAnswered{CommandAnswered: &eventsv1.CommandAnswered{Command: id, Status: 200}}}
	}
	next, outcome := Apply(s, later("", 3*time.Second, answer("e-1s")))
	require.Equal(t, "e-1s", outcome.GetResults()[0].GetCommand())
	require.Equal(t, int32(200), outcome.GetResults()[0].GetAnswer().GetStatus())
	refused(t, next, later("", 4*time.Second, answer("e-1s")), eventsv1.RejectionReason_REJECTION_REASON_STALE)
	refused(t, s, later("", 2*time.Minute, answer("e-1s")), eventsv1.RejectionReason_REJECTION_REASON_STALE)

	_, outcome = Apply(s, later("", 2*time.Minute, connectedAs("a")))
	require.Equal(t, "e-1s", outcome.GetResults()[0].GetCommand(), "any event tells the time")
	require.Nil(t, outcome.GetResults()[0].GetAnswer())
	for i := range 48 {
		s = then(t, s, later("", time.Duration(i+10)*time.Second, asked("x", time.Hour)))
	}
	refused(t, s, later("", 59*time.Second, asked("x", time.Hour)), eventsv1.RejectionReason_REJECTION_REASON_LIMIT)
}

func TestMessagesKeepTheirOrderAndEnd(t *testing.T) {
	s := then(t, registered(t), later("", time.Second, queued("1", time.Minute)), later("", 2*time.Second, queued("2", time.Hour)), later("", 3*time.Second, queued("3", time.Hour)))
	s = then(t, s, later("", 4*time.Second, locked("e-1s", "t", 34*time.Second)))
	refused(t, s, later("", 5*time.Second, locked("e-1s", "u", time.Minute)), eventsv1.RejectionReason_REJECTION_REASON_STALE)
	refused(t, s, later("", 5*time.Second, settled("e-1s", "u", eventsv1.Settlement_SETTLEMENT_COMPLETED)), eventsv1.RejectionReason_REJECTION_REASON_STALE)
	s = then(t, s, later("", 6*time.Second, settled("e-1s", "t", eventsv1.Settlement_SETTLEMENT_ABANDONED)))
	require.Equal(t, uint32(1), s.GetSelf().GetMessages()[0].GetDeliveryCount())
	s = then(t, s, later("", 7*time.Second, settled("e-2s", "", eventsv1.Settlement_SETTLEMENT_COMPLETED)))
	require.Len(t, s.GetSelf().GetMessages(), 2)
	s = then(t, s, later("", 2*time.Minute, connectedAs("a")))
	require.Len(t, s.GetSelf().GetMessages(), 1, "the first has expired")
	require.Equal(t, uint64(3), s.GetSelf().GetMessages()[0].GetSequence())
	for i := range maxDeliveries {
		s = then(t, s, later("", 3*time.Minute+time.Duration(i), settled("e-3s", "", eventsv1.Settlement_SETTLEMENT_ABANDONED)))
	}
	require.Empty(t, s.GetSelf().GetMessages(), "poison does not stay for ever")
}

func TestModulesAreSortedAndBounded(t *testing.T) {
	module := func() *eventsv1.DeviceEvent {
		return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_ModuleRegistered{ModuleRegistered: &eventsv1.ModuleRegistered{}}}
	}
	s := registered(t)
	for i := range maxModules {
		s = then(t, s, later(fmt.Sprintf("m-%02d", (i*7)%maxModules), time.Duration(i), module()))
	}
	refused(t, s, later("one-more", 99, module()), eventsv1.RejectionReason_REJECTION_REASON_LIMIT)
	for i, m := range s.GetModules() {
		require.Equal(t, fmt.Sprintf("m-%02d", i), m.GetModule())
	}
	s = then(t, s, later("m-07", 100, desired(`{"a":1}`)))
	require.JSONEq(t, `{"a":1}`, string(IdentityOf(s, "m-07").GetTwin().GetDesired()))
	require.Nil(t, IdentityOf(s, "m-08").GetTwin())
}

func copied(s *eventsv1.DeviceState) *eventsv1.DeviceState {
	next := new(eventsv1.DeviceState)
	shallow(next, s)
	return next
}

// TestShallowCopiesEveryField fails when a field is added to the state and
// forgotten in the copy.
func TestShallowCopiesEveryField(t *testing.T) {
	s := new(eventsv1.DeviceState)
	fields := s.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fill(s.ProtoReflect(), fields.Get(i))
	}
	require.True(t, proto.Equal(s, copied(s)), "%v\n%v", s, copied(s))
	i := &eventsv1.Identity{}
	for n := range i.ProtoReflect().Descriptor().Fields().Len() {
		fill(i.ProtoReflect(), i.ProtoReflect().Descriptor().Fields().Get(n))
	}
	i.Module = ""
	require.True(t, proto.Equal(i, own(&eventsv1.DeviceState{Self: i}, "")))
	twin := &eventsv1.Twin{}
	for n := range twin.ProtoReflect().Descriptor().Fields().Len() {
		fill(twin.ProtoReflect(), twin.ProtoReflect().Descriptor().Fields().Get(n))
	}
	require.True(t, proto.Equal(twin, copyTwin(twin)))
}

func fill(m protoreflect.Message, f protoreflect.FieldDescriptor) {
	switch {
	case f.IsMap():
		return
	case f.IsList():
		list := m.Mutable(f).List()
		if f.Message() != nil {
			list.Append(list.NewElement())
			return
		}
		list.Append(protoreflect.ValueOfString("x"))
	case f.Message() != nil:
		m.Set(f, m.NewField(f))
	case f.Kind() == protoreflect.StringKind:
		m.Set(f, protoreflect.ValueOfString("x"))
	case f.Kind() == protoreflect.BytesKind:
		m.Set(f, protoreflect.ValueOfBytes([]byte("x")))
	case f.Kind() == protoreflect.BoolKind:
		m.Set(f, protoreflect.ValueOfBool(true))
	case f.Kind() == protoreflect.Uint64Kind:
		m.Set(f, protoreflect.ValueOfUint64(7))
	}
}

// TestDiffIsWhatMergeUndoes checks that the difference of two objects makes one
// of the other.
func TestDiffIsWhatMergeUndoes(t *testing.T) {
	var object func(depth int) *rapid.Generator[map[string]any]
	object = func(depth int) *rapid.Generator[map[string]any] {
		value := rapid.OneOf(rapid.Map(rapid.IntRange(0, 3), func(n int) any { return n }), rapid.Map(rapid.SampledFrom([]string{"x", "y"}), func(s string) any { return s }))
		if depth > 0 {
			value = rapid.OneOf(value, rapid.Map(object(depth-1), func(m map[string]any) any { return m }))
		}
		return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), value, 0, 3)
	}
	rapid.Check(t, func(t *rapid.T) {
		from, err := encodeObject(object(2).Draw(t, "from"))
		require.NoError(t, err)
		to, err := encodeObject(object(2).Draw(t, "to"))
		require.NoError(t, err)
		patch, err := DiffPatch(from, to)
		require.NoError(t, err)
		got, err := MergePatch(from, patch)
		require.NoError(t, err)
		require.Equal(t, string(to), string(got), "patch %s", patch)
	})
}
