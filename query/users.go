package query

import (
	"context"
	"slices"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// userService answers from the node's catalog and makes changes events.
type userService struct {
	apiv1.UnimplementedUserServiceServer
	resources
}

func newUserService(deps Deps) *userService {
	return &userService{resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: access.UserKind, noun: "user", timeout: changeTimeout}}
}

// The types of users in the API (FEATURES.md RBAC-01).
const (
	emailUser   = "email"
	programUser = "servicePrincipal"
	groupUser   = "adGroup"
)

func (s *userService) ListUsers(ctx context.Context, req *apiv1.ListUsersRequest) (*apiv1.ListUsersResponse, error) {
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListUsersResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		resp.Value = append(resp.Value, toUser(r))
	}
	return resp, nil
}

func (s *userService) GetUser(ctx context.Context, req *apiv1.GetUserRequest) (*apiv1.User, error) {
	r, err := s.get(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return toUser(r), nil
}

func (s *userService) PutUser(ctx context.Context, req *apiv1.PutUserRequest) (*apiv1.User, error) {
	asked := req.GetUser()
	return s.editUser(ctx, req.GetUserId(), asked, func(*eventsv1.User) (*eventsv1.User, error) {
		next := &eventsv1.User{Roles: fromAssignments(asked.GetRoles())}
		object := &eventsv1.DirectoryObject{TenantId: asked.GetTenantId(), ObjectId: asked.GetObjectId()}
		switch asked.GetType() {
		case emailUser:
			next.Subject = &eventsv1.User_Email{Email: asked.GetEmail()}
		case programUser:
			next.Subject = &eventsv1.User_ServicePrincipal{ServicePrincipal: object}
		case groupUser:
			next.Subject = &eventsv1.User_AdGroup{AdGroup: object}
		default:
			return nil, badField("type", "type %.20q is not one: use %s, %s or %s", asked.GetType(), emailUser, programUser, groupUser)
		}
		return next, nil
	})
}

func (s *userService) UpdateUser(ctx context.Context, req *apiv1.UpdateUserRequest) (*apiv1.User, error) {
	asked := req.GetUser()
	if asked == nil {
		return nil, errEmptyBody
	}
	return s.editUser(ctx, req.GetUserId(), asked, func(current *eventsv1.User) (*eventsv1.User, error) {
		if current == nil {
			return nil, notFound("user %q does not exist", req.GetUserId())
		}
		if asked.GetType() != "" && asked.GetType() != typeOf(current) || asked.Email != nil || asked.TenantId != nil || asked.ObjectId != nil {
			return nil, badField("type", "who a user is cannot change: send roles alone")
		}
		next := proto.CloneOf(current)
		if len(asked.GetRoles()) > 0 {
			next.Roles = fromAssignments(asked.GetRoles())
		}
		return next, nil
	})
}

// DeleteUser takes a user's roles away. Nobody takes more than he could give.
func (s *userService) DeleteUser(ctx context.Context, req *apiv1.DeleteUserRequest) (*emptypb.Empty, error) {
	r, err := s.get(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	p, err := s.reader(ctx)
	if err == nil {
		err = s.mayGrant(p, r.Body.(*eventsv1.User).GetRoles())
	}
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.remove(ctx, r.ID)
}

func (s *userService) editUser(ctx context.Context, id string, asked *apiv1.User, edit func(current *eventsv1.User) (*eventsv1.User, error)) (*apiv1.User, error) {
	if err := sameID(asked.GetId(), id); err != nil {
		return nil, err
	}
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.edit(ctx, id, asked.GetEtag(), func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		var before *eventsv1.User
		if current != nil {
			before = current.Body.(*eventsv1.User)
		}
		next, err := edit(before)
		if err != nil {
			return err
		}
		ev.Change = &eventsv1.CatalogEvent_User{User: next}
		return s.mayGrant(p, slices.Concat(before.GetRoles(), next.GetRoles()))
	})
	if err != nil {
		return nil, err
	}
	return toUser(r), nil
}

// mayGrant refuses assignments that permit more than the caller may himself (FEATURES.md
// RBAC-07).
func (s *resources) mayGrant(p access.Principal, roles []*eventsv1.RoleAssignment) error {
	for _, g := range s.directory.Grants(p.Tenant, roles) {
		if missing, ok := p.MayGrant(g); !ok {
			where := ""
			if g.Home != "" {
				where = " in organization " + g.Home
			}
			return status.Errorf(codes.PermissionDenied, "the role permits %s%s, which you may not: nobody gives away more than he has", missing, where)
		}
	}
	return nil
}

// holder has roles.
type holder interface {
	GetRoles() []*eventsv1.RoleAssignment
}

// overlaps reports whether a role is held for an organization of the scope.
func overlaps(scope access.Scope, roles []*eventsv1.RoleAssignment) bool {
	return scope.Everywhere() || slices.ContainsFunc(roles, func(a *eventsv1.RoleAssignment) bool {
		return a.GetOrganization() != "" && scope.Has([]string{a.GetOrganization()})
	})
}

func fromAssignments(roles []*apiv1.RoleAssignment) (out []*eventsv1.RoleAssignment) {
	for _, a := range roles {
		out = append(out, &eventsv1.RoleAssignment{Role: a.GetRole(), Organization: a.GetOrganization()})
	}
	return out
}

func toAssignments(roles []*eventsv1.RoleAssignment) (out []*apiv1.RoleAssignment) {
	for _, a := range roles {
		one := &apiv1.RoleAssignment{Role: a.GetRole()}
		if a.GetOrganization() != "" {
			one.Organization = proto.String(a.GetOrganization())
		}
		out = append(out, one)
	}
	return out
}

func typeOf(u *eventsv1.User) string {
	switch u.GetSubject().(type) {
	case *eventsv1.User_ServicePrincipal:
		return programUser
	case *eventsv1.User_AdGroup:
		return groupUser
	}
	return emailUser
}

func toUser(r *catalog.Resource) *apiv1.User {
	body := r.Body.(*eventsv1.User)
	out := &apiv1.User{Id: r.ID, Etag: device.ETag(r.Version), Type: typeOf(body), Roles: toAssignments(body.GetRoles())}
	object := body.GetServicePrincipal()
	if object == nil {
		object = body.GetAdGroup()
	}
	if object == nil {
		out.Email = proto.String(body.GetEmail())
	} else {
		out.TenantId, out.ObjectId = proto.String(object.GetTenantId()), proto.String(object.GetObjectId())
	}
	return out
}
