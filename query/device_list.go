package query

import (
	"context"
	"strings"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
)

const (
	defaultDevicesPage = 100
	maxDevicesPage     = 1000
)

// ListDevices answers from the node's registry, unless there is something to look
// for or to order by.
func (s *deviceService) ListDevices(ctx context.Context, req *apiv1.ListDevicesRequest) (*apiv1.ListDevicesResponse, error) {
	if req.GetAt() != nil {
		return s.listAt(ctx, req)
	}
	p, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetMaxpagesize(), defaultDevicesPage, maxDevicesPage)
	if err != nil {
		return nil, err
	}
	if req.GetFilter() != "" || req.GetOrderby() != "" || !access.ScopeOf(ctx).Everywhere() {
		return s.searchDevices(ctx, p.Tenant, req, size)
	}
	after, err := decodeToken[devicesToken](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	page := s.registry.List(p.Tenant, after.After, size+1)
	resp := &apiv1.ListDevicesResponse{}
	for _, state := range page[:min(size, len(page))] {
		resp.Value = append(resp.Value, toDevice(state))
	}
	if len(page) > size {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(devicesToken{After: page[size-1].GetDevice()}))
	}
	return resp, nil
}

// searchDevices lists the devices that the request's filter means, in its order.
func (s *deviceService) searchDevices(ctx context.Context, tenant string, req *apiv1.ListDevicesRequest, size int) (*apiv1.ListDevicesResponse, error) {
	page, err := searched(req, size)
	if err != nil {
		return nil, err
	}
	found, next, err := s.fleet.list(ctx, tenant, page)
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

// searched is the page that the request's filter and order mean.
func searched(req *apiv1.ListDevicesRequest, size int) (fleetPage, error) {
	page := fleetPage{filter: devicefilter.And{}, size: size, token: req.GetPageToken(), of: req.GetFilter() + "\n" + req.GetOrderby()}
	var err error
	if strings.TrimSpace(req.GetFilter()) != "" {
		if page.filter, err = devicefilter.ParseList(req.GetFilter()); err != nil {
			return page, badField("filter", "%s", err)
		}
	}
	if strings.TrimSpace(req.GetOrderby()) != "" {
		if page.order, err = devicefilter.ParseOrder(req.GetOrderby()); err != nil {
			return page, badField("orderby", "%s", err)
		}
	}
	return page, nil
}

// devicesToken is where a page of devices begins.
type devicesToken struct {
	After string `json:"a"`
}
