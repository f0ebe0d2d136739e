package query

import (
	"cmp"
	"context"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	defaultRelationshipsPage = 25
	maxRelationshipsPage     = 1000
)

// relationshipService attaches devices to the gateways that publish for them. A
// relationship is a part of its target's state: its parent.
type relationshipService struct {
	apiv1.UnimplementedRelationshipServiceServer
	identities
}

func (s *relationshipService) ListRelationships(ctx context.Context, req *apiv1.ListRelationshipsRequest) (*apiv1.ListRelationshipsResponse, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), "")
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetMaxpagesize(), defaultRelationshipsPage, maxRelationshipsPage)
	if err != nil {
		return nil, err
	}
	at, err := decodeToken[relationshipsToken](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListRelationshipsResponse{}
	if !at.Down && state.GetParent() != "" {
		resp.Value = append(resp.Value, toRelationship(state))
	}
	children := s.registry.Children(state.GetTenant(), state.GetDevice(), at.After, size+1)
	room := min(size-len(resp.GetValue()), len(children))
	for _, child := range children[:room] {
		if at.After = child.GetDevice(); inScope(ctx, child) != nil {
			resp.Value = append(resp.Value, toRelationship(child))
		}
	}
	if len(children) > room {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(relationshipsToken{Down: true, After: at.After}))
	}
	return resp, nil
}

// relationshipsToken is where a page of relationships begins: with the gateway, or
// behind a child.
type relationshipsToken struct {
	Down  bool   `json:"d"`
	After string `json:"a"`
}

func (s *relationshipService) GetRelationship(ctx context.Context, req *apiv1.GetRelationshipRequest) (*apiv1.DeviceRelationship, error) {
	target, err := s.find(ctx, req.GetDeviceId(), req.GetRelationshipId())
	if err != nil {
		return nil, err
	}
	return toRelationship(target), nil
}

func (s *relationshipService) PutRelationship(ctx context.Context, req *apiv1.PutRelationshipRequest) (*apiv1.DeviceRelationship, error) {
	had, err := s.find(ctx, req.GetDeviceId(), req.GetRelationshipId())
	if err != nil && status.Code(err) != codes.NotFound {
		return nil, err
	}
	if _, _, err := s.get(ctx, req.GetDeviceId(), ""); err != nil {
		return nil, err
	}
	return s.relate(ctx, had, ends(req.GetDeviceId(), req.GetRelationshipId(), req.GetRelationship()), req.GetRelationship().GetId(), req.GetDeviceId())
}

func (s *relationshipService) UpdateRelationship(ctx context.Context, req *apiv1.UpdateRelationshipRequest) (*apiv1.DeviceRelationship, error) {
	had, err := s.find(ctx, req.GetDeviceId(), req.GetRelationshipId())
	if err != nil {
		return nil, err
	}
	asked := req.GetRelationship()
	next := &apiv1.DeviceRelationship{
		Id: req.GetRelationshipId(), Source: cmp.Or(asked.GetSource(), had.GetParent()), Target: cmp.Or(asked.GetTarget(), had.GetDevice()),
	}
	return s.relate(ctx, had, next, asked.GetId(), "")
}

func (s *relationshipService) DeleteRelationship(ctx context.Context, req *apiv1.DeleteRelationshipRequest) (*emptypb.Empty, error) {
	target, err := s.find(ctx, req.GetDeviceId(), req.GetRelationshipId())
	if err != nil {
		return nil, err
	}
	if err := s.assign(ctx, target.GetDevice(), &eventsv1.ParentAssigned{}); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// find is the target of a device's relationship.
func (s *relationshipService) find(ctx context.Context, id, relationship string) (*eventsv1.DeviceState, error) {
	state, _, err := s.get(ctx, id, "")
	if err != nil {
		return nil, err
	}
	if state.GetParent() != "" && state.GetRelationship() == relationship {
		return state, nil
	}
	var found *eventsv1.DeviceState
	for after := ""; ; {
		children := s.registry.Children(state.GetTenant(), id, after, maxRelationshipsPage)
		for _, child := range children {
			if after = child.GetDevice(); child.GetRelationship() != relationship || inScope(ctx, child) == nil {
				continue
			}
			if found != nil {
				return nil, status.Errorf(codes.AlreadyExists, "device %q has several relationships %q: name one by its target, /api/devices/%s/relationships/%s", id, relationship, found.GetDevice(), relationship)
			}
			found = child
		}
		if len(children) < maxRelationshipsPage {
			break
		}
	}
	if found == nil {
		return nil, notFound("device %q has no relationship %q", id, relationship)
	}
	return found, nil
}

// ends are both ends of a relationship; one that is not given is the path's device.
func ends(id, relationship string, asked *apiv1.DeviceRelationship) *apiv1.DeviceRelationship {
	next := &apiv1.DeviceRelationship{Id: relationship, Source: asked.GetSource(), Target: asked.GetTarget()}
	switch {
	case next.GetSource() == "" && next.GetTarget() != id:
		next.Source = id
	case next.GetTarget() == "" && next.GetSource() != id:
		next.Target = id
	}
	return next
}

// relate makes the relationship what it shall be; had is the target it had, nil for
// a new one.
func (s *relationshipService) relate(ctx context.Context, had *eventsv1.DeviceState, next *apiv1.DeviceRelationship, bodyID, pathID string) (*apiv1.DeviceRelationship, error) {
	if err := s.checkEnds(ctx, had, next, bodyID, pathID); err != nil {
		return nil, err
	}
	if err := s.assign(ctx, next.GetTarget(), &eventsv1.ParentAssigned{Parent: next.GetSource(), Relationship: next.GetId()}); err != nil {
		return nil, err
	}
	if had != nil && had.GetDevice() != next.GetTarget() {
		if err := s.assign(ctx, had.GetDevice(), &eventsv1.ParentAssigned{}); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// checkEnds refuses what makes no gateway and its device.
func (s *relationshipService) checkEnds(ctx context.Context, had *eventsv1.DeviceState, next *apiv1.DeviceRelationship, bodyID, pathID string) error {
	switch {
	case bodyID != "" && bodyID != next.GetId():
		return badField("id", "the body's id is %q, the path's %q: leave it out of the body", bodyID, next.GetId())
	case next.GetSource() == "" || next.GetTarget() == "" || next.GetSource() == next.GetTarget():
		return badField("target", "a relationship is between two devices: send the gateway as source and the device behind it as target")
	case pathID != "" && pathID != next.GetSource() && pathID != next.GetTarget():
		return badField("source", "the relationship is between %q and %q: one of them must be the path's device %q", next.GetSource(), next.GetTarget(), pathID)
	}
	source, _, err := s.get(ctx, next.GetSource(), "")
	if err != nil {
		return err
	}
	target, _, err := s.get(ctx, next.GetTarget(), "")
	if err != nil {
		return err
	}
	if source.GetParent() == target.GetDevice() {
		return status.Errorf(codes.AlreadyExists, "device %q is the gateway of %q: delete relationship %q first", target.GetDevice(), source.GetDevice(), source.GetRelationship())
	}
	if target.GetParent() != "" && target.GetRelationship() != next.GetId() {
		return status.Errorf(codes.AlreadyExists, "device %q has gateway %q already: delete relationship %q first, or change its source", target.GetDevice(), target.GetParent(), target.GetRelationship())
	}
	other, err := s.find(ctx, next.GetSource(), next.GetId())
	if err == nil && other.GetDevice() != target.GetDevice() && other.GetDevice() != had.GetDevice() {
		return status.Errorf(codes.AlreadyExists, "device %q has a relationship %q already, to %q: choose another id", next.GetSource(), next.GetId(), other.GetDevice())
	}
	if status.Code(err) == codes.NotFound {
		err = nil
	}
	return err
}

func (s *relationshipService) assign(ctx context.Context, id string, to *eventsv1.ParentAssigned) error {
	_, err := s.change(ctx, id, "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_ParentAssigned{ParentAssigned: to}})
	return err
}

func toRelationship(target *eventsv1.DeviceState) *apiv1.DeviceRelationship {
	return &apiv1.DeviceRelationship{Id: target.GetRelationship(), Source: target.GetParent(), Target: target.GetDevice()}
}
