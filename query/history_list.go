package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// listAt lists the devices that there were at the time, in order of their ids. A page
// may have fewer than asked for when some were deleted.
func (s *deviceService) listAt(ctx context.Context, req *apiv1.ListDevicesRequest) (*apiv1.ListDevicesResponse, error) {
	p, err := access.FromContext(ctx)
	if err == nil {
		err = s.registry.Ready()
	}
	if err != nil {
		return nil, toStatus(err)
	}
	if req.GetFilter() != "" || req.GetOrderby() != "" {
		return nil, badField("at", "at does not go together with filter and orderby yet: leave them out and choose among the devices listed")
	}
	size, err := pageSize(req.GetMaxpagesize(), maxHistoryDevices, maxHistoryDevices)
	if err != nil {
		return nil, err
	}
	after, err := decodeToken[devicesToken](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	when, err := timeOf("at", req.GetAt())
	if err != nil {
		return nil, err
	}
	states, last, more, err := s.history.list(ctx, p.Tenant, after.After, when, size)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDevicesResponse{}
	for _, state := range states {
		if device.Exists(state) {
			resp.Value = append(resp.Value, toDevice(state))
		}
	}
	if more {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(devicesToken{After: last}))
	}
	return resp, nil
}

// maxHistoryDevices bounds a page: each device on it is folded.
const maxHistoryDevices = 100

// list is a page of devices, deleted ones among them, with the last one's id.
func (h *deviceHistory) list(ctx context.Context, tenant, after string, at time.Time, size int) (states []*eventsv1.DeviceState, last string, more bool, err error) {
	present := h.registry.List(tenant, after, size)
	known := map[string]uint64{}
	err = h.await(ctx, func() (complete bool, err error) {
		positions, err := h.positions(ctx, tenant, after, at, size+1)
		if err != nil {
			return false, err
		}
		if more = len(positions) > size; more {
			positions = positions[:size]
		}
		if len(positions) == 0 {
			states = nil
			return lacksNone(present, positions, at, more), nil
		}
		last = positions[len(positions)-1].device
		var revisions []uint64
		if states, revisions, err = h.states(ctx, tenant, positions, at); err != nil {
			return false, err
		}
		for i, p := range positions {
			if _, seen := known[p.device]; !seen {
				known[p.device] = h.registry.Revision(tenant, p.device)
			}
			if !p.settled(at) && revisions[i] < known[p.device] {
				return false, nil
			}
		}
		return lacksNone(present, positions, at, more), nil
	})
	return states, last, more, err
}

// lacksNone reports whether the page has each device that was there, of those that
// this node knows to be there now.
func lacksNone(present []*eventsv1.DeviceState, positions []position, at time.Time, more bool) bool {
	have := make(map[string]bool, len(positions))
	for _, p := range positions {
		have[p.device] = true
	}
	for _, state := range present {
		if more && state.GetDevice() > positions[len(positions)-1].device {
			break
		}
		if !have[state.GetDevice()] && !state.GetRegisteredAt().AsTime().After(at) {
			return false
		}
	}
	return true
}
