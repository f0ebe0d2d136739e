package registry

import (
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Children is up to limit devices that the gateway may publish for, whose ids sort
// after the given one ("" starts at the first).
func (r *Registry) Children(tenant, gateway, after string, limit int) []*eventsv1.DeviceState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var page []*eventsv1.DeviceState
	pivot := string(eventlog.Key(tenant, after))
	r.devices.Ascend(pivot, func(key string, state *eventsv1.DeviceState) bool {
		if state.GetTenant() != tenant {
			return false
		}
		if key != pivot && device.Exists(state) && state.GetParent() == gateway {
			page = append(page, state)
		}
		return len(page) < limit
	})
	return page
}
