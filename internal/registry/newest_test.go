package registry

import (
	"testing"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

// TestNewestIsTheLastChange wants a refused change not to hide the one before it.
func TestNewestIsTheLastChange(t *testing.T) {
	r := &Registry{newest: newest{}}
	state := func(device string, revision uint64) *eventsv1.DeviceState {
		return &eventsv1.DeviceState{Tenant: "t", Device: device, Revision: revision}
	}
	r.newest.note(0, nil, state("a", 3))
	r.newest.note(1, nil, state("b", 1))
	r.newest.note(0, state("c", 7), state("c", 7))
	r.newest.note(0, nil, state("never", 0))
	require.ElementsMatch(t, []*eventsv1.DeviceState{state("a", 3), state("b", 1)}, r.Newest("t"))
	r.newest.note(0, state("c", 7), state("c", 8))
	require.ElementsMatch(t, []*eventsv1.DeviceState{state("c", 8), state("b", 1)}, r.Newest("t"))
	require.Empty(t, r.Newest("another"))
}
