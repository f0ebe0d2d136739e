package query

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	"github.com/fleetlog/fleetlog/internal/devicegroup"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// defaultPreview is how many devices a preview shows.
const defaultPreview = 10

// deviceGroupService answers reads from the node's catalog and makes changes
// events; which devices are in a group it asks the fleet.
type deviceGroupService struct {
	apiv1.UnimplementedDeviceGroupServiceServer
	resources

	fleet     *fleet
	history   *deviceHistory
	templates *template.Templates
}

func newDeviceGroupService(deps Deps) *deviceGroupService {
	return &deviceGroupService{
		resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: devicegroup.KindName, noun: devicegroup.Kind().Noun, timeout: changeTimeout},
		fleet:     newFleet(deps), templates: deps.Templates,
		history: &deviceHistory{registry: deps.Registry, db: deps.ClickHouse, patience: historyPatience},
	}
}

func (s *deviceGroupService) ListDeviceGroups(ctx context.Context, req *apiv1.ListDeviceGroupsRequest) (*apiv1.ListDeviceGroupsResponse, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetMaxpagesize(), defaultResourcesPage, maxResourcesPage)
	if err != nil {
		return nil, err
	}
	after, err := decodeToken[devicesToken](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	page := slices.Concat(s.page(ctx, p.Tenant, after.After, size+1), s.ofTemplates(p.Tenant, after.After))
	slices.SortFunc(page, func(a, b *catalog.Resource) int { return strings.Compare(a.ID, b.ID) })
	resp := &apiv1.ListDeviceGroupsResponse{}
	if len(page) > size {
		page = page[:size]
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(devicesToken{After: page[size-1].ID}))
	}
	for _, r := range page {
		resp.Value = append(resp.Value, toDeviceGroup(r))
	}
	return resp, nil
}

func (s *deviceGroupService) GetDeviceGroup(ctx context.Context, req *apiv1.GetDeviceGroupRequest) (*apiv1.DeviceGroup, error) {
	r, err := s.group(ctx, req.GetDeviceGroupId())
	if err != nil {
		return nil, err
	}
	return toDeviceGroup(r), nil
}

func (s *deviceGroupService) PutDeviceGroup(ctx context.Context, req *apiv1.PutDeviceGroupRequest) (*apiv1.DeviceGroup, error) {
	g := req.GetDeviceGroup()
	if id := g.GetId(); id != "" && id != req.GetDeviceGroupId() {
		return nil, badField("id", "the body's id is %q, the path's %q: leave it out of the body", id, req.GetDeviceGroupId())
	}
	return s.editGroup(ctx, req.GetDeviceGroupId(), g.GetEtag(), func(*eventsv1.DeviceGroup) (*eventsv1.DeviceGroup, error) {
		return &eventsv1.DeviceGroup{DisplayName: g.GetDisplayName(), Filter: g.GetFilter(), Description: g.GetDescription(), Organizations: g.GetOrganizations()}, nil
	})
}

func (s *deviceGroupService) UpdateDeviceGroup(ctx context.Context, req *apiv1.UpdateDeviceGroupRequest) (*apiv1.DeviceGroup, error) {
	g, id := req.GetDeviceGroup(), req.GetDeviceGroupId()
	if g == nil {
		return nil, badField("deviceGroup", "the body is empty: send the fields to change")
	}
	return s.editGroup(ctx, id, g.GetEtag(), func(current *eventsv1.DeviceGroup) (*eventsv1.DeviceGroup, error) {
		if current == nil {
			return nil, notFound("device group %q does not exist", id)
		}
		next := proto.CloneOf(current)
		if g.DisplayName != nil {
			next.DisplayName = g.GetDisplayName()
		}
		if g.Filter != nil {
			next.Filter = g.GetFilter()
		}
		if g.Description != nil {
			next.Description = g.GetDescription()
		}
		if len(g.GetOrganizations()) > 0 {
			next.Organizations = g.GetOrganizations()
		}
		return next, nil
	})
}

func (s *deviceGroupService) DeleteDeviceGroup(ctx context.Context, req *apiv1.DeleteDeviceGroupRequest) (*emptypb.Empty, error) {
	r, err := s.group(ctx, req.GetDeviceGroupId())
	if err != nil {
		return nil, err
	}
	if r.Version == 0 {
		return nil, status.Errorf(codes.AlreadyExists, "device group %q cannot be deleted: every published template has a group of all its devices", r.ID)
	}
	if err := s.remove(ctx, r.ID); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (s *deviceGroupService) ListDeviceGroupDevices(ctx context.Context, req *apiv1.ListDeviceGroupDevicesRequest) (*apiv1.ListDeviceGroupDevicesResponse, error) {
	r, err := s.group(ctx, req.GetDeviceGroupId())
	if err != nil {
		return nil, err
	}
	page := fleetPage{token: req.GetPageToken(), of: groupOf(r).GetFilter()}
	var found []*eventsv1.DeviceState
	var next string
	if req.GetAt() != nil {
		found, next, err = s.membersAt(ctx, r.Tenant, page, req)
	} else {
		found, next, err = s.members(ctx, r.Tenant, page, req.GetMaxpagesize(), defaultDevicesPage)
	}
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDeviceGroupDevicesResponse{}
	for _, state := range found {
		resp.Value = append(resp.Value, toDevice(state))
	}
	if next != "" {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, next)
	}
	return resp, nil
}

func (s *deviceGroupService) PreviewDeviceGroup(ctx context.Context, req *apiv1.PreviewDeviceGroupRequest) (*apiv1.PreviewDeviceGroupResponse, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	page := fleetPage{of: req.GetFilter()}
	found, next, err := s.members(ctx, p.Tenant, page, req.GetMaxpagesize(), defaultPreview)
	if err != nil {
		return nil, err
	}
	count := uint64(len(found))
	if next != "" {
		if count, err = s.count(ctx, p.Tenant, req.GetFilter(), nil); err != nil {
			return nil, err
		}
	}
	resp := &apiv1.PreviewDeviceGroupResponse{Count: uint32(count)}
	for _, state := range found {
		resp.Value = append(resp.Value, toDevice(state))
	}
	return resp, nil
}

// members is a page of the devices that the query page.of means.
func (s *deviceGroupService) members(ctx context.Context, tenant string, page fleetPage, asked, usual int32) (found []*eventsv1.DeviceState, next string, err error) {
	if err := s.fleet.registry.Ready(); err != nil {
		return nil, "", toStatus(err)
	}
	if page.size, err = pageSize(asked, usual, maxDevicesPage); err != nil {
		return nil, "", err
	}
	if page.filter, err = parseGroup(page.of); err != nil {
		return nil, "", err
	}
	return s.fleet.list(ctx, tenant, page)
}

// membersAt is a page of the devices that the query page.of meant at the asked time.
func (s *deviceGroupService) membersAt(ctx context.Context, tenant string, page fleetPage, req *apiv1.ListDeviceGroupDevicesRequest) (found []*eventsv1.DeviceState, next string, err error) {
	if err := s.fleet.registry.Ready(); err != nil {
		return nil, "", toStatus(err)
	}
	if page.size, err = pageSize(req.GetMaxpagesize(), maxHistoryDevices, maxHistoryDevices); err != nil {
		return nil, "", err
	}
	if page.filter, err = parseGroup(page.of); err != nil {
		return nil, "", err
	}
	return s.history.search(ctx, s.fleet, tenant, page, req.GetAt())
}

func (s *deviceGroupService) count(ctx context.Context, tenant, query string, at *time.Time) (uint64, error) {
	filter, err := parseGroup(query)
	if err != nil {
		return 0, err
	}
	return s.fleet.count(ctx, tenant, filter, at)
}

func parseGroup(query string) (devicefilter.Expr, error) {
	filter, err := devicefilter.ParseGroup(query)
	if err != nil {
		return nil, badField("filter", "%s", err)
	}
	return filter, nil
}

// editGroup changes a group: edit makes the new one of the one there is (nil: none),
// which it must leave as it is.
func (s *deviceGroupService) editGroup(ctx context.Context, id, tag string, edit func(current *eventsv1.DeviceGroup) (*eventsv1.DeviceGroup, error)) (*apiv1.DeviceGroup, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.edit(ctx, id, tag, func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		if current == nil {
			current = s.ofTemplate(p.Tenant, id)
		}
		next, err := edit(groupOf(current))
		ev.Change = &eventsv1.CatalogEvent_DeviceGroup{DeviceGroup: next}
		return err
	})
	if err != nil {
		return nil, err
	}
	return toDeviceGroup(r), nil
}

// group is the group of this id, somebody's or a template's.
func (s *deviceGroupService) group(ctx context.Context, id string) (*catalog.Resource, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	if r := s.catalog.Get(p.Tenant, s.kind, id); r != nil && visible(ctx, r) {
		return r, nil
	}
	if r := s.ofTemplate(p.Tenant, id); r != nil {
		return r, nil
	}
	return nil, notFound("%s %q does not exist", s.noun, id)
}

// maxTemplates bounds the templates that are looked through.
const maxTemplates = 10_000

// ofTemplate is the group of all devices of a published template, if the id is one's
// and nobody has made a group of their own under it; version 0 says that it is on no
// log.
func (s *deviceGroupService) ofTemplate(tenant, id string) *catalog.Resource {
	for _, r := range s.catalog.List(tenant, template.KindName, "", maxTemplates) {
		if own, ok := devicegroup.ForTemplate(r.ID); ok && own == id {
			return s.allOf(tenant, r.ID, id)
		}
	}
	return nil
}

// allOf is the group of all devices of a published template; nil when there is none,
// or somebody has made a group of his own under that id.
func (s *deviceGroupService) allOf(tenant, templateID, id string) *catalog.Resource {
	t := s.templates.Get(tenant, templateID)
	if t == nil || s.catalog.Get(tenant, s.kind, id) != nil {
		return nil
	}
	return &catalog.Resource{Tenant: tenant, Kind: s.kind, ID: id, Body: devicegroup.AllDevices(templateID, t.DisplayName)}
}

// ofTemplates are the groups of all devices of a template whose ids sort after the
// given one.
func (s *deviceGroupService) ofTemplates(tenant, after string) []*catalog.Resource {
	var groups []*catalog.Resource
	for _, r := range s.catalog.List(tenant, template.KindName, "", maxTemplates) {
		id, ok := devicegroup.ForTemplate(r.ID)
		if !ok || id <= after {
			continue
		}
		if group := s.allOf(tenant, r.ID, id); group != nil {
			groups = append(groups, group)
		}
	}
	return groups
}

func groupOf(r *catalog.Resource) *eventsv1.DeviceGroup {
	if r == nil {
		return nil
	}
	return r.Body.(*eventsv1.DeviceGroup)
}

func toDeviceGroup(r *catalog.Resource) *apiv1.DeviceGroup {
	g := groupOf(r)
	out := &apiv1.DeviceGroup{
		Id: r.ID, DisplayName: g.GetDisplayName(), Filter: g.GetFilter(), Description: g.GetDescription(), Organizations: g.GetOrganizations(),
	}
	if r.Version > 0 {
		out.Etag = device.ETag(r.Version)
	}
	return out
}
