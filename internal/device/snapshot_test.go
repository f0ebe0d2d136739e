package device

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

func TestSnapshotsAreThoseOfTheCodec(t *testing.T) {
	for _, want := range []*eventsv1.DeviceSnapshot{
		{State: &eventsv1.DeviceState{}},
		{State: registered(t), Offset: 1 << 40},
		{State: registered(t), Offset: 7, Outcomes: []*eventsv1.Outcome{{EventId: "a", Version: 1}, {EventId: "b", Rejection: &eventsv1.Rejection{Message: "no"}}}},
	} {
		state, err := proto.Marshal(want.GetState())
		require.NoError(t, err)
		snapshot, err := AppendSnapshot(nil, state, &eventsv1.DeviceSnapshot{Offset: want.GetOffset(), Outcomes: want.GetOutcomes(), Time: want.GetTime()})
		require.NoError(t, err)
		encoded, err := proto.Marshal(want)
		require.NoError(t, err)
		require.Equal(t, encoded, snapshot)
		back, err := EncodedState(snapshot)
		require.NoError(t, err)
		require.Equal(t, string(state), string(back))
	}
}

func FuzzEncodedState(f *testing.F) {
	good, err := AppendSnapshot(nil, []byte("\x18\x01"), &eventsv1.DeviceSnapshot{Offset: 7})
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:3])
	f.Add([]byte("\x10\x07"))
	f.Fuzz(func(t *testing.T, snapshot []byte) {
		state, err := EncodedState(snapshot)
		decoded := new(eventsv1.DeviceSnapshot)
		if proto.Unmarshal(snapshot, decoded) != nil {
			return
		}
		require.Equal(t, decoded.GetState() == nil, err != nil)
		if err == nil {
			require.NoError(t, proto.Unmarshal(state, new(eventsv1.DeviceState)))
		}
	})
}
