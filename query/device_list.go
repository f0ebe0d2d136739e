package query

import (
	"context"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
)

const (
	defaultDevicesPage = 100
	maxDevicesPage     = 1000
)

func (s *deviceService) ListDevices(ctx context.Context, req *apiv1.ListDevicesRequest) (*apiv1.ListDevicesResponse, error) {
	if req.GetAt() != nil {
		return s.listAt(ctx, req)
	}
	p, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if req.GetFilter() != "" || req.GetOrderby() != "" {
		return nil, badField("filter", "filter and orderby are not available yet: leave them out and choose among the devices listed")
	}
	size, err := pageSize(req.GetMaxpagesize(), defaultDevicesPage, maxDevicesPage)
	if err != nil {
		return nil, err
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

// devicesToken is where a page of devices begins.
type devicesToken struct {
	After string `json:"a"`
}
