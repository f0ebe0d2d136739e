package query

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/dtdl"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
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
	modules := map[string]*apiv1.DeviceModule{}
	for _, m := range state.GetModules() {
		if req.GetSystem() || !strings.HasPrefix(m.GetModule(), "$") {
			modules[m.GetModule()] = toModule(m)
		}
	}
	if t := s.templates.Get(state.GetTenant(), state.GetTemplate()); t != nil {
		describeModules(modules, t.Modules())
	}
	out := &apiv1.ListModulesResponse{}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		out.Value = append(out.Value, modules[name])
	}
	return out, nil
}

// describeModules says of modules what the template knows of them, and adds those
// that the device does not have yet. A device may call a module by its name or its
// display name.
func describeModules(modules map[string]*apiv1.DeviceModule, known []*dtdl.Content) {
	for _, c := range known {
		m := modules[c.Name]
		if m == nil {
			m = modules[c.DisplayName.String()]
		}
		if m == nil {
			m = toModule(&eventsv1.Identity{Module: c.Name})
			modules[c.Name] = m
		}
		if name := c.DisplayName.String(); name != "" {
			m.DisplayName = proto.String(name)
		}
	}
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
	components := map[string]*apiv1.DeviceComponent{}
	for name := range properties.Components {
		components[name] = &apiv1.DeviceComponent{Type: typeComponent, Name: name}
	}
	model, err := s.capabilities(state, req.GetModule(), "")
	if err != nil {
		return nil, err
	}
	if model != nil {
		describeComponents(components, model)
	}
	out := &apiv1.ListComponentsResponse{}
	for _, name := range slices.Sorted(maps.Keys(components)) {
		out.Value = append(out.Value, components[name])
	}
	return out, nil
}

// typeComponent is DTDL's name of the type.
const typeComponent = "Component"

// describeComponents adds the components of the model.
func describeComponents(components map[string]*apiv1.DeviceComponent, model *dtdl.Interface) {
	for _, c := range model.All {
		if c.Kind != dtdl.Component {
			continue
		}
		known := &apiv1.DeviceComponent{Type: typeComponent, Name: c.Name, Schema: proto.String(c.Interface.ID)}
		if name := c.DisplayName.String(); name != "" {
			known.DisplayName = proto.String(name)
		}
		components[c.Name] = known
	}
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
