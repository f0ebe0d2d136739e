package query

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// moduleService keeps the module identities of devices.
type moduleService struct {
	apiv1.UnimplementedModuleServiceServer
	identities
	keys *device.MasterKey
}

func (s *moduleService) ListModules(ctx context.Context, req *apiv1.ListModulesRequest) (*apiv1.ListModulesResponse, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), "")
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListModulesResponse{}
	for _, m := range state.GetModules() {
		if req.GetSystem() || !strings.HasPrefix(m.GetModule(), "$") {
			out.Value = append(out.Value, toModule(m))
		}
	}
	return out, nil
}

func (s *moduleService) ListComponents(ctx context.Context, req *apiv1.ListComponentsRequest) (*apiv1.ListComponentsResponse, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	properties, err := device.PropertiesOf(state, req.GetModule())
	if err != nil {
		return nil, toStatus(err)
	}
	out := &apiv1.ListComponentsResponse{}
	for _, name := range slices.Sorted(maps.Keys(properties.Components)) {
		out.Value = append(out.Value, &apiv1.DeviceComponent{Type: "Component", Name: name})
	}
	return out, nil
}

func (s *moduleService) PutModule(ctx context.Context, req *apiv1.PutModuleRequest) (*apiv1.DeviceModule, error) {
	if err := device.ValidateModuleID(req.GetModule()); err != nil {
		return nil, badField("moduleName", "%s", err)
	}
	state, err := s.change(ctx, req.GetDeviceId(), req.GetModule(), &eventsv1.DeviceEvent{
		Change: &eventsv1.DeviceEvent_ModuleRegistered{ModuleRegistered: &eventsv1.ModuleRegistered{}},
	})
	if err != nil {
		return nil, err
	}
	return toModule(device.IdentityOf(state, req.GetModule())), nil
}

func (s *moduleService) DeleteModule(ctx context.Context, req *apiv1.DeleteModuleRequest) (*emptypb.Empty, error) {
	_, err := s.change(ctx, req.GetDeviceId(), req.GetModule(), &eventsv1.DeviceEvent{
		Change: &eventsv1.DeviceEvent_ModuleDeleted{ModuleDeleted: &eventsv1.ModuleDeleted{}},
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (s *moduleService) GetModuleCredentials(ctx context.Context, req *apiv1.GetModuleCredentialsRequest) (*apiv1.ModuleCredentials, error) {
	state, identity, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	keys := s.keys.ModuleKeys(state.GetTenant(), state.GetDevice(), identity.GetModule())
	return &apiv1.ModuleCredentials{
		PrimaryKey:   base64.StdEncoding.EncodeToString(keys.Primary),
		SecondaryKey: base64.StdEncoding.EncodeToString(keys.Secondary),
	}, nil
}

func toModule(i *eventsv1.Identity) *apiv1.DeviceModule {
	return &apiv1.DeviceModule{
		Type: []string{"Relationship", "EdgeModule"}, Name: i.GetModule(),
		Connected: i.GetConnection().GetConnected(), ModelId: i.GetTwin().GetModelId(),
	}
}
