package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
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
	size, err := pageSize(req.GetMaxpagesize(), maxHistoryDevices, maxHistoryDevices)
	if err != nil {
		return nil, err
	}
	if req.GetFilter() != "" || req.GetOrderby() != "" || !access.ScopeOf(ctx).Everywhere() {
		return s.searchDevicesAt(ctx, p.Tenant, req, size)
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

// searchDevicesAt lists the devices that the request's filter meant at the time, in
// its order.
func (s *deviceService) searchDevicesAt(ctx context.Context, tenant string, req *apiv1.ListDevicesRequest, size int) (*apiv1.ListDevicesResponse, error) {
	page, err := searched(req, size)
	if err != nil {
		return nil, err
	}
	found, next, err := s.history.search(ctx, s.fleet, tenant, page, req.GetAt())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDevicesResponse{}
	for _, state := range found {
		resp.Value = append(resp.Value, toDevice(state))
	}
	if next != "" {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, next)
	}
	return resp, nil
}

// search is a page of the devices that a filter meant at the time. The table of
// versions finds them; what they were is folded from their events, as for one device,
// and matched once more: between events that came at the same time the table does not
// tell.
func (h *deviceHistory) search(ctx context.Context, f *fleet, tenant string, page fleetPage, asked *timestamppb.Timestamp) (found []*eventsv1.DeviceState, next string, err error) {
	at, err := timeOf("at", asked)
	if err != nil {
		return nil, "", err
	}
	page.at = &at
	ids, next, err := f.ids(ctx, tenant, page)
	if err != nil || len(ids) == 0 {
		return nil, next, err
	}
	positions, err := h.positionsOf(ctx, tenant, ids, at)
	if err != nil {
		return nil, "", err
	}
	states, _, err := h.states(ctx, tenant, positions, at)
	if err != nil {
		return nil, "", err
	}
	were := make(map[string]*eventsv1.DeviceState, len(states))
	for i, state := range states {
		were[positions[i].device] = state
	}
	for _, id := range ids {
		if state := inScope(ctx, were[id]); device.Exists(state) {
			d, err := devicefilter.DeviceOf(state)
			if err != nil {
				return nil, "", toStatus(err)
			}
			if devicefilter.Match(page.filter, d) {
				found = append(found, state)
			}
		}
	}
	return found, next, nil
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
