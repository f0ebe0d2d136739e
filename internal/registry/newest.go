package registry

import (
	"bytes"
	"maps"
	"slices"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// newest are the states that the view took in last, by tenant and partition of the
// log. What has them has all that came before them.
type newest map[string]map[int32][]byte // encoded

// note takes in the state of a device that has changed, by its record's key.
func (n newest) note(partition int32, key, state []byte) {
	end := max(bytes.IndexByte(key, '/'), 0)
	if n[string(key[:end])] == nil {
		n[string(key[:end])] = map[int32][]byte{}
	}
	n[string(key[:end])][partition] = state
}

// Newest is the newest change of the tenant's devices on each partition of the log,
// deletions too. A projection of the devices that has these revisions has all
// changes that this view has: one partition's come in order.
func (r *Registry) Newest(tenant string) []*eventsv1.DeviceState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.decodeAll(slices.Collect(maps.Values(r.newest[tenant])))
}
