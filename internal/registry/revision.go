package registry

import "github.com/fleetlog/fleetlog/internal/eventlog"

// Revision counts what has happened to a device, one that was deleted too, as far
// as this node knows; 0 for one that never existed.
func (r *Registry) Revision(tenant, id string) uint64 {
	g, err := glance(r.devices.newest(string(eventlog.Key(tenant, id))))
	if err != nil { // it was read when it came
		return 0
	}
	return g.revision
}
