package registry

import (
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// newest are the states that the view took in last, by tenant and partition of the
// log. What has them has all that came before them.
type newest map[string]map[int32]*eventsv1.DeviceState

// note takes in a state, if it is a change: a refused one leaves the device at the
// revision it had.
func (n newest) note(partition int32, before, state *eventsv1.DeviceState) {
	if state.GetRevision() <= before.GetRevision() {
		return
	}
	tenant := state.GetTenant()
	if n[tenant] == nil {
		n[tenant] = map[int32]*eventsv1.DeviceState{}
	}
	n[tenant][partition] = state
}

// Newest is the newest change of the tenant's devices on each partition of the log,
// deletions too. A projection of the devices that has these revisions has all
// changes that this view has: one partition's come in order.
func (r *Registry) Newest(tenant string) []*eventsv1.DeviceState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*eventsv1.DeviceState, 0, len(r.newest[tenant]))
	for _, state := range r.newest[tenant] {
		all = append(all, state)
	}
	return all
}
