package registry

import (
	"testing"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

func TestNewestIsThatOfEachPartition(t *testing.T) {
	r := &Registry{newest: newest{}}
	state := func(device string, revision uint64) []byte {
		return encode(t, &eventsv1.DeviceState{Tenant: "t", Device: device, Revision: revision})
	}
	newestOf := func(tenant string) (found []string) {
		for _, s := range r.Newest(tenant) {
			found = append(found, s.GetDevice())
		}
		return found
	}
	r.newest.note(0, []byte("t/a"), state("a", 3))
	r.newest.note(1, []byte("t/b"), state("b", 1))
	require.ElementsMatch(t, []string{"a", "b"}, newestOf("t"))
	r.newest.note(0, []byte("t/c"), state("c", 8))
	require.ElementsMatch(t, []string{"c", "b"}, newestOf("t"))
	require.Empty(t, newestOf("another"))
}
