package query

import (
	"context"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// roleService answers from the node's catalog and makes changes events.
type roleService struct {
	apiv1.UnimplementedRoleServiceServer
	resources
}

func newRoleService(deps Deps) *roleService {
	return &roleService{resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: access.RoleKind, noun: "role", timeout: changeTimeout}}
}

func (s *roleService) ListRoles(ctx context.Context, req *apiv1.ListRolesRequest) (*apiv1.ListRolesResponse, error) {
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListRolesResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		resp.Value = append(resp.Value, toRole(r))
	}
	return resp, nil
}

func (s *roleService) GetRole(ctx context.Context, req *apiv1.GetRoleRequest) (*apiv1.Role, error) {
	r, err := s.get(ctx, req.GetRoleId())
	if err != nil {
		return nil, err
	}
	return toRole(r), nil
}

func (s *roleService) PutRole(ctx context.Context, req *apiv1.PutRoleRequest) (*apiv1.Role, error) {
	asked := req.GetRole()
	return s.editRole(ctx, req.GetRoleId(), asked, func(*eventsv1.Role) (*eventsv1.Role, error) {
		organization, err := isOrganizationRole(asked)
		return &eventsv1.Role{DisplayName: asked.GetDisplayName(), Description: asked.GetDescription(), Organization: organization, Permissions: asked.GetPermissions()}, err
	})
}

func (s *roleService) UpdateRole(ctx context.Context, req *apiv1.UpdateRoleRequest) (*apiv1.Role, error) {
	asked := req.GetRole()
	if asked == nil {
		return nil, errEmptyBody
	}
	return s.editRole(ctx, req.GetRoleId(), asked, func(current *eventsv1.Role) (*eventsv1.Role, error) {
		if current == nil {
			return nil, notFound("role %q does not exist", req.GetRoleId())
		}
		next := proto.CloneOf(current)
		if asked.DisplayName != nil {
			next.DisplayName = asked.GetDisplayName()
		}
		if asked.Description != nil {
			next.Description = asked.GetDescription()
		}
		if len(asked.GetPermissions()) > 0 {
			next.Permissions = asked.GetPermissions()
		}
		if asked.Type == nil {
			return next, nil
		}
		var err error
		next.Organization, err = isOrganizationRole(asked)
		return next, err
	})
}

func (s *roleService) DeleteRole(ctx context.Context, req *apiv1.DeleteRoleRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.remove(ctx, req.GetRoleId())
}

func (s *roleService) ListPermissions(context.Context, *apiv1.ListPermissionsRequest) (*apiv1.ListPermissionsResponse, error) {
	resp := &apiv1.ListPermissionsResponse{}
	for _, p := range access.Permissions() {
		resp.Value = append(resp.Value, &apiv1.Permission{Name: p.String(), DependsOn: p.Needs(), Tenant: p.TenantOnly()})
	}
	return resp, nil
}

// editRole changes a role: edit makes the new one of the one there is. The caller must
// have what the role had and what it gets.
func (s *roleService) editRole(ctx context.Context, id string, asked *apiv1.Role, edit func(current *eventsv1.Role) (*eventsv1.Role, error)) (*apiv1.Role, error) {
	if err := sameID(asked.GetId(), id); err != nil {
		return nil, err
	}
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.edit(ctx, id, asked.GetEtag(), func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		var before *eventsv1.Role
		if current != nil {
			before = current.Body.(*eventsv1.Role)
		}
		next, err := edit(before)
		if err != nil {
			return err
		}
		set, err := access.ParseSet(append(before.GetPermissions(), next.GetPermissions()...))
		if err != nil {
			return badField("permissions", "%s", err)
		}
		if missing, ok := p.MayGrant(access.Grant{Permissions: set}); !ok {
			return toStatus(&access.DeniedError{Permission: missing})
		}
		whole, err := access.ParseSet(next.GetPermissions())
		next.Permissions = whole.Names()
		ev.Change = &eventsv1.CatalogEvent_Role{Role: next}
		return err
	})
	if err != nil {
		return nil, err
	}
	return toRole(r), nil
}

const (
	applicationRole  = "application"
	organizationRole = "organization"
)

func isOrganizationRole(r *apiv1.Role) (bool, error) {
	switch r.GetType() {
	case "", applicationRole:
		return false, nil
	case organizationRole:
		return true, nil
	}
	return false, badField("type", "type %.20q is not one: use %s or %s", r.GetType(), applicationRole, organizationRole)
}

func toRole(r *catalog.Resource) *apiv1.Role {
	body := r.Body.(*eventsv1.Role)
	kind := applicationRole
	if body.GetOrganization() {
		kind = organizationRole
	}
	return &apiv1.Role{
		Id: r.ID, Etag: device.ETag(r.Version), DisplayName: proto.String(body.GetDisplayName()), Description: proto.String(body.GetDescription()),
		Type: &kind, Permissions: body.GetPermissions(), Builtin: access.BuiltinRole(r.ID),
	}
}

var errEmptyBody = badField("body", "the body is empty: send the fields to change")

// sameID refuses a body with another id than the path's.
func sameID(body, path string) error {
	if body != "" && body != path {
		return badField("id", "the body's id is %q, the path's %q: leave it out of the body", body, path)
	}
	return nil
}
