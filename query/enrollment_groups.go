package query

import (
	"context"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// enrollmentGroupService answers reads from the node's catalog and makes changes
// events.
type enrollmentGroupService struct {
	apiv1.UnimplementedEnrollmentGroupServiceServer
	resources

	groups *enrollment.Groups
	keys   *device.MasterKey
}

func newEnrollmentGroupService(deps Deps) *enrollmentGroupService {
	return &enrollmentGroupService{
		resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: enrollment.KindName, noun: enrollment.Kind().Noun, timeout: changeTimeout},
		groups:    deps.Groups, keys: deps.Keys,
	}
}

func (s *enrollmentGroupService) ListEnrollmentGroups(ctx context.Context, req *apiv1.ListEnrollmentGroupsRequest) (*apiv1.ListEnrollmentGroupsResponse, error) {
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListEnrollmentGroupsResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		resp.Value = append(resp.Value, s.toGroup(r))
	}
	return resp, nil
}

func (s *enrollmentGroupService) GetEnrollmentGroup(ctx context.Context, req *apiv1.GetEnrollmentGroupRequest) (*apiv1.EnrollmentGroup, error) {
	r, err := s.get(ctx, req.GetEnrollmentGroupId())
	if err != nil {
		return nil, err
	}
	return s.toGroup(r), nil
}

func (s *enrollmentGroupService) PutEnrollmentGroup(ctx context.Context, req *apiv1.PutEnrollmentGroupRequest) (*apiv1.EnrollmentGroup, error) {
	g := req.GetEnrollmentGroup()
	if id := g.GetId(); id != "" && id != req.GetEnrollmentGroupId() {
		return nil, badField("id", "the body's id is %q, the path's %q: leave it out of the body", id, req.GetEnrollmentGroupId())
	}
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	return s.editGroup(ctx, req.GetEnrollmentGroupId(), g.GetEtag(), func(_ *catalog.Resource, next *eventsv1.EnrollmentGroup) (err error) {
		if next.Type, err = groupType(g.GetType()); err != nil {
			return err
		}
		next.DisplayName = g.GetDisplayName()
		next.Enabled = g == nil || g.Enabled == nil || g.GetEnabled()
		next.AutoApprove = g == nil || g.AutoApprove == nil || g.GetAutoApprove()
		return s.attest(p.Tenant, req.GetEnrollmentGroupId(), g.GetAttestation(), next)
	})
}

func (s *enrollmentGroupService) UpdateEnrollmentGroup(ctx context.Context, req *apiv1.UpdateEnrollmentGroupRequest) (*apiv1.EnrollmentGroup, error) {
	g, id := req.GetEnrollmentGroup(), req.GetEnrollmentGroupId()
	if g == nil {
		return nil, badField("enrollmentGroup", "the body is empty: send the fields to change")
	}
	return s.editGroup(ctx, id, g.GetEtag(), func(current *catalog.Resource, next *eventsv1.EnrollmentGroup) (err error) {
		if current == nil {
			return notFound("enrollment group %q does not exist", id)
		}
		if g.Type != nil {
			if next.Type, err = groupType(g.GetType()); err != nil {
				return err
			}
		}
		if g.DisplayName != nil {
			next.DisplayName = g.GetDisplayName()
		}
		if g.Enabled != nil {
			next.Enabled = g.GetEnabled()
		}
		if g.AutoApprove != nil {
			next.AutoApprove = g.GetAutoApprove()
		}
		if g.GetAttestation() == nil {
			return nil
		}
		return s.attest(current.Tenant, id, g.GetAttestation(), next)
	})
}

func (s *enrollmentGroupService) DeleteEnrollmentGroup(ctx context.Context, req *apiv1.DeleteEnrollmentGroupRequest) (*emptypb.Empty, error) {
	if err := s.remove(ctx, req.GetEnrollmentGroupId()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// editGroup changes a group: edit gets a copy of it to change, an empty one when
// there is none.
func (s *enrollmentGroupService) editGroup(ctx context.Context, id, tag string, edit func(current *catalog.Resource, next *eventsv1.EnrollmentGroup) error) (*apiv1.EnrollmentGroup, error) {
	r, err := s.edit(ctx, id, tag, func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		next := &eventsv1.EnrollmentGroup{}
		if current != nil {
			next = proto.CloneOf(current.Body.(*eventsv1.EnrollmentGroup))
		}
		ev.Change = &eventsv1.CatalogEvent_EnrollmentGroup{EnrollmentGroup: next}
		return edit(current, next)
	})
	if err != nil {
		return nil, err
	}
	return s.toGroup(r), nil
}

const (
	typeIoT     = "iot"
	typeIoTEdge = "iotEdge"
)

func groupType(name string) (eventsv1.EnrollmentGroupType, error) {
	switch name {
	case typeIoT:
		return eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT, nil
	case typeIoTEdge:
		return eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT_EDGE, nil
	}
	return 0, badField("type", "type is %q: use %s or %s", name, typeIoT, typeIoTEdge)
}

func (s *enrollmentGroupService) toGroup(r *catalog.Resource) *apiv1.EnrollmentGroup {
	g := r.Body.(*eventsv1.EnrollmentGroup)
	out := &apiv1.EnrollmentGroup{
		Id: r.ID, Etag: device.ETag(r.Version), DisplayName: g.GetDisplayName(), Enabled: &g.Enabled, AutoApprove: &g.AutoApprove,
		Type: typeIoT, IdScope: s.keys.IDScope(r.Tenant), Attestation: &apiv1.GroupAttestation{Type: typeSymmetricKey},
	}
	if g.GetType() == eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT_EDGE {
		out.Type = typeIoTEdge
	}
	if x := g.GetX509(); x != nil {
		out.Attestation.Type = typeX509
		out.Attestation.X509 = &apiv1.SigningX509{SigningCertificates: &apiv1.SigningX509Certificates{
			Primary: toSigning(x.GetPrimary(), r.Version), Secondary: toSigning(x.GetSecondary(), r.Version),
		}}
		return out
	}
	if keys := s.groups.Of(r.Tenant).KeysOf(r.ID); keys != nil {
		out.Attestation.SymmetricKey = toSymmetricKey(*keys)
	}
	return out
}
