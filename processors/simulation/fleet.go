package simulation

import (
	"cmp"
	"slices"
	"sync"
	"time"

	domain "github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// fleet is all simulated devices there are, on whichever node.
type fleet struct {
	mu      sync.Mutex
	devices map[identity]time.Time // when each was registered
}

type identity struct{ tenant, id string }

// take notes a device as the view has it: who comes last sees the newest.
func (f *fleet) take(view *registry.Registry, one identity) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if state := view.Get(one.tenant, one.id); concerns(state) {
		f.devices[one] = state.GetRegisteredAt().AsTime()
	} else {
		delete(f.devices, one)
	}
}

// concerns reports whether the device is one to simulate. One that is blocked is not:
// it could not connect.
func concerns(state *eventsv1.DeviceState) bool {
	return domain.Exists(state) && state.GetSimulated() && state.GetEnabled()
}

// matters reports whether a change is one that simulated devices are to follow; what
// they do themselves is none.
func matters(before, after *eventsv1.DeviceState) bool {
	if concerns(before) != concerns(after) {
		return true
	}
	return concerns(after) && (before.GetTemplate() != after.GetTemplate() ||
		before.GetEnrollmentGroup() != after.GetEnrollmentGroup() || !proto.Equal(before.GetAttestation(), after.GetAttestation()))
}

// ranked is all of them, those of a tenant by how long they have been there: the
// limit is for the later ones, the same on every node.
func (f *fleet) ranked() map[string][]identity {
	f.mu.Lock()
	defer f.mu.Unlock()
	byTenant := map[string][]identity{}
	for one := range f.devices {
		byTenant[one.tenant] = append(byTenant[one.tenant], one)
	}
	for _, devices := range byTenant {
		slices.SortFunc(devices, func(a, b identity) int {
			return cmp.Or(f.devices[a].Compare(f.devices[b]), cmp.Compare(a.id, b.id))
		})
	}
	return byTenant
}
