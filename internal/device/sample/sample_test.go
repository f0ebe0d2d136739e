package sample

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

func TestTheFoldAcceptsTheFleet(t *testing.T) {
	fleet, again := New(1, 20), New(1, 20)
	states := map[string]*eventsv1.DeviceState{}
	for range 5_000 {
		ev := fleet.Next()
		require.True(t, proto.Equal(ev, again.Next()), "the same seed gives the same events")
		state, outcome := device.Apply(states[ev.GetDevice()], ev)
		require.Nil(t, outcome.GetRejection(), "%s: %s", ev, outcome)
		states[ev.GetDevice()] = state
	}
	require.Len(t, states, 20)
	for _, state := range states {
		properties, err := device.PropertiesOf(state, "")
		require.NoError(t, err)
		require.Len(t, properties.Own, 16)
		require.Len(t, properties.Components["deviceInfo"], 6)
		require.True(t, state.GetSelf().GetConnection().GetConnected())
	}
}
