package query

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/devicegroup"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// organizationService answers from the node's catalog and makes changes events.
type organizationService struct {
	apiv1.UnimplementedOrganizationServiceServer
	resources

	fleet *fleet
}

func newOrganizationService(deps Deps) *organizationService {
	return &organizationService{
		resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: access.OrganizationKind, noun: "organization", timeout: changeTimeout},
		fleet:     newFleet(deps),
	}
}

func (s *organizationService) ListOrganizations(ctx context.Context, req *apiv1.ListOrganizationsRequest) (*apiv1.ListOrganizationsResponse, error) {
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListOrganizationsResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		resp.Value = append(resp.Value, toOrganization(r))
	}
	return resp, nil
}

func (s *organizationService) GetOrganization(ctx context.Context, req *apiv1.GetOrganizationRequest) (*apiv1.Organization, error) {
	r, err := s.get(ctx, req.GetOrganizationId())
	if err != nil {
		return nil, err
	}
	return toOrganization(r), nil
}

func (s *organizationService) PutOrganization(ctx context.Context, req *apiv1.PutOrganizationRequest) (*apiv1.Organization, error) {
	asked := req.GetOrganization()
	return s.editOrganization(ctx, req.GetOrganizationId(), asked, func(*eventsv1.Organization) (*eventsv1.Organization, error) {
		return &eventsv1.Organization{DisplayName: asked.GetDisplayName(), Parent: asked.GetParent()}, nil
	})
}

func (s *organizationService) UpdateOrganization(ctx context.Context, req *apiv1.UpdateOrganizationRequest) (*apiv1.Organization, error) {
	asked := req.GetOrganization()
	if asked == nil {
		return nil, errEmptyBody
	}
	return s.editOrganization(ctx, req.GetOrganizationId(), asked, func(current *eventsv1.Organization) (*eventsv1.Organization, error) {
		if current == nil {
			return nil, notFound("organization %q does not exist", req.GetOrganizationId())
		}
		next := proto.CloneOf(current)
		if asked.DisplayName != nil {
			next.DisplayName = asked.GetDisplayName()
		}
		if asked.Parent != nil {
			next.Parent = asked.GetParent()
		}
		return next, nil
	})
}

// editOrganization changes an organization within the caller's part of the tree: who has
// a role for one organization makes others below it, and does not move his own.
func (s *organizationService) editOrganization(ctx context.Context, id string, asked *apiv1.Organization, edit func(current *eventsv1.Organization) (*eventsv1.Organization, error)) (*apiv1.Organization, error) {
	if err := sameID(asked.GetId(), id); err != nil {
		return nil, err
	}
	r, err := s.edit(ctx, id, asked.GetEtag(), func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		scope := access.CreateScopeOf(ctx)
		var before *eventsv1.Organization
		if current != nil {
			before, scope = current.Body.(*eventsv1.Organization), access.ScopeOf(ctx)
		}
		next, err := edit(before)
		if err != nil {
			return err
		}
		if moved := before == nil || before.GetParent() != next.GetParent(); moved {
			if !scope.Everywhere() && (next.GetParent() == "" || !scope.Has([]string{next.GetParent()}) || before != nil && !scope.Has([]string{before.GetParent()})) {
				return status.Errorf(codes.PermissionDenied, "your role is not for organization %.48q: choose a parent out of %.480q", next.GetParent(), scope.Organizations())
			}
		}
		ev.Change = &eventsv1.CatalogEvent_Organization{Organization: next}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return toOrganization(r), nil
}

// DeleteOrganization removes an organization that nothing is in.
func (s *organizationService) DeleteOrganization(ctx context.Context, req *apiv1.DeleteOrganizationRequest) (*emptypb.Empty, error) {
	r, err := s.get(ctx, req.GetOrganizationId())
	if err != nil {
		return nil, err
	}
	if err := s.empty(ctx, r); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.remove(ctx, r.ID)
}

// empty refuses an organization that something is in. What the catalog's fold can see
// of that it refuses itself.
func (s *organizationService) empty(ctx context.Context, r *catalog.Resource) error {
	for _, kind := range []string{devicegroup.KindName, dashboard.KindName, dashboard.QueryKindName} {
		for _, other := range s.catalog.List(r.Tenant, kind, "", maxTemplates) {
			if ids := other.Body.(placedBody).GetOrganizations(); len(ids) > 0 && ids[0] == r.ID {
				return status.Errorf(codes.AlreadyExists, "%s/%s is in organization %q: move or delete it first", kind, other.ID, r.ID)
			}
		}
	}
	if err := s.fleet.catchUp(ctx, r.Tenant, nil); err != nil {
		return err
	}
	var devices uint64
	err := s.fleet.query(ctx, plan{
		sql:        "SELECT count() FROM devices FINAL WHERE tenant = {tenant:String} AND organization = {organization:String}",
		parameters: map[string]string{"tenant": r.Tenant, "organization": r.ID},
	}, func(rows driver.Rows) error { return rows.Scan(&devices) })
	if err == nil && devices > 0 {
		return status.Errorf(codes.AlreadyExists, "%d devices are in organization %q: move or delete them first", devices, r.ID)
	}
	return err
}

func toOrganization(r *catalog.Resource) *apiv1.Organization {
	body := r.Body.(*eventsv1.Organization)
	out := &apiv1.Organization{Id: r.ID, Etag: device.ETag(r.Version), DisplayName: proto.String(body.GetDisplayName())}
	if body.GetParent() != "" {
		out.Parent = proto.String(body.GetParent())
	}
	return out
}
