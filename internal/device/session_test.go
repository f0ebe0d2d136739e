package device

import (
	"strings"
	"testing"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

func sessionOf(id string, clean bool, seconds uint32) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{
		Connection: id, Node: "n", CleanSession: clean, SessionSeconds: seconds,
	}}}
}

func keeps(id string, filters ...string) *eventsv1.DeviceEvent {
	kept := &eventsv1.SubscriptionsKept{Connection: id}
	for _, f := range filters {
		kept.Subscriptions = append(kept.Subscriptions, &eventsv1.Subscription{Filter: f, Qos: 1})
	}
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_SubscriptionsKept{SubscriptionsKept: kept}}
}

func TestSessionOutlivesItsConnectionAsLongAsItSays(t *testing.T) {
	const minute = 60
	base := then(t, registered(t), later("", time.Second, sessionOf("c1", false, minute)), later("", 2*time.Second, keeps("c1", "a/#", "b/#")))
	subscriptions := func(s *eventsv1.DeviceState) int { return len(s.GetSelf().GetConnection().GetSubscriptions()) }
	require.Equal(t, 2, subscriptions(base))
	gone := then(t, base, later("", 3*time.Second, disconnectedFrom("c1", 0)))
	require.Equal(t, 2, subscriptions(gone))
	for _, tc := range []struct {
		name  string
		state *eventsv1.DeviceState
		next  *eventsv1.DeviceEvent
		want  int
	}{
		{"back in time", gone, later("", 62*time.Second, sessionOf("c2", false, minute)), 2},
		{"back too late", gone, later("", 63*time.Second, sessionOf("c2", false, minute)), 0},
		{"back with a clean session", gone, later("", 4*time.Second, sessionOf("c2", true, minute)), 0},
		{"another connection takes over", base, later("", time.Hour, sessionOf("c2", false, minute)), 2},
		{"a session that ends with its connection", then(t, base, later("", 3*time.Second, sessionOf("c2", false, 0))), later("", 4*time.Second, disconnectedFrom("c2", 0)), 0},
		{"its own last word", base, later("", 3*time.Second, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Disconnected{
			Disconnected: &eventsv1.DeviceDisconnected{Connection: "c1", SessionSeconds: new(uint32)},
		}}), 0},
		{"nothing subscribed any more", base, later("", 3*time.Second, keeps("c1")), 0},
	} {
		require.Equal(t, tc.want, subscriptions(then(t, tc.state, tc.next)), tc.name)
	}
	refused(t, base, later("", 3*time.Second, keeps("c0", "a/#")), eventsv1.RejectionReason_REJECTION_REASON_STALE)
	refused(t, gone, later("", 4*time.Second, keeps("c1", "a/#")), eventsv1.RejectionReason_REJECTION_REASON_STALE)
	refused(t, base, later("", 3*time.Second, keeps("c1", "1", "2", "3", "4", "5", "6")), eventsv1.RejectionReason_REJECTION_REASON_INVALID)
	refused(t, base, later("", 3*time.Second, keeps("c1", strings.Repeat("x", 1000))), eventsv1.RejectionReason_REJECTION_REASON_INVALID)
}

func TestParent(t *testing.T) {
	assign := func(parent string) *eventsv1.DeviceEvent {
		return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_ParentAssigned{ParentAssigned: &eventsv1.ParentAssigned{Parent: parent}}}
	}
	state := registered(t)
	require.False(t, IsChildOf(state, ""))
	child := then(t, state, later("", time.Second, assign("g")), later("", 2*time.Second, connectedAs("c")))
	require.True(t, IsChildOf(child, "g"), "other events leave it")
	require.False(t, IsChildOf(child, "h"))
	require.Equal(t, state.GetVersion(), child.GetVersion(), "it is not what the etag guards")
	require.False(t, IsChildOf(then(t, child, later("", 3*time.Second, assign(""))), "g"))
	require.False(t, IsChildOf(then(t, child, event(&eventsv1.DeviceUpdated{Enabled: new(bool)}, nil)), "g"), "nobody sends for a blocked device")
	require.False(t, IsChildOf(then(t, child, event(&eventsv1.DeviceDeleted{}, nil), event(&eventsv1.DeviceRegistered{Enabled: true}, nil)), "g"))
	for _, bad := range []string{"d", "a/b", "a b"} {
		refused(t, state, later("", time.Second, assign(bad)), eventsv1.RejectionReason_REJECTION_REASON_INVALID)
	}
}
