package query

import (
	"context"

	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// parentService attaches devices to the gateways that publish for them.
type parentService struct {
	apiv1.UnimplementedParentServiceServer
	identities
}

func (s *parentService) GetParent(ctx context.Context, req *apiv1.GetParentRequest) (*apiv1.DeviceParent, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), "")
	if err != nil {
		return nil, err
	}
	if state.GetParent() == "" {
		return nil, notFound("device %q has no gateway: attach it with PUT", req.GetDeviceId())
	}
	return &apiv1.DeviceParent{Id: state.GetParent()}, nil
}

func (s *parentService) PutParent(ctx context.Context, req *apiv1.PutParentRequest) (*apiv1.DeviceParent, error) {
	parent := req.GetParent().GetId()
	if err := device.ValidateID(parent); err != nil {
		return nil, badField("id", "%s", err)
	}
	if _, _, err := s.get(ctx, parent, ""); err != nil {
		return nil, err
	}
	if err := s.assign(ctx, req.GetDeviceId(), parent); err != nil {
		return nil, err
	}
	return &apiv1.DeviceParent{Id: parent}, nil
}

func (s *parentService) DeleteParent(ctx context.Context, req *apiv1.DeleteParentRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.assign(ctx, req.GetDeviceId(), "")
}

func (s *parentService) assign(ctx context.Context, id, parent string) error {
	_, err := s.change(ctx, id, "", &eventsv1.DeviceEvent{
		Change: &eventsv1.DeviceEvent_ParentAssigned{ParentAssigned: &eventsv1.ParentAssigned{Parent: parent}},
	})
	return err
}
