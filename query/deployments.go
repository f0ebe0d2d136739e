package query

import (
	"context"
	"encoding/json"
	"reflect"

	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// This file is the deployment manifests of IoT Edge devices.

func (s *moduleService) ApplyDeploymentManifest(ctx context.Context, req *apiv1.ApplyDeploymentManifestRequest) (*apiv1.DeploymentManifest, error) {
	event, err := toDeployment(req.GetManifest())
	if err != nil {
		return nil, err
	}
	state, err := s.change(ctx, req.GetDeviceId(), "", event)
	if err != nil {
		return nil, err
	}
	return toManifest(state), nil
}

// manifest is the event that gives the device the manifest; nil when there is none,
// or the device has it as it stands, as in a body that was read before.
func (s *deviceService) manifest(ctx context.Context, id string, m *apiv1.DeploymentManifest) (*eventsv1.DeviceEvent, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // no manifest is no error
	}
	event, err := toDeployment(m)
	if err != nil {
		return nil, err
	}
	p, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	has := toManifest(s.registry.Get(p.Tenant, id))
	same := has != nil && has.GetId() == m.GetId() && has.GetDisplayName() == m.GetDisplayName()
	if same && reflect.DeepEqual(has.GetData().AsMap(), m.GetData().AsMap()) {
		return nil, nil //nolint:nilnil // as above
	}
	sign(ctx, p, id, event)
	if err := device.Validate(event); err != nil { // before any other field is set
		return nil, badField("deploymentManifest", "%s", err)
	}
	return event, nil
}

// deploy gives the device a manifest.
func (s *deviceService) deploy(ctx context.Context, id string, manifest *eventsv1.DeviceEvent) (*apiv1.Device, error) {
	state, err := s.identities.change(ctx, id, "", manifest)
	if err != nil {
		return nil, err
	}
	return answer(ctx, state), nil
}

func toDeployment(m *apiv1.DeploymentManifest) (*eventsv1.DeviceEvent, error) {
	if m.GetData() == nil {
		return nil, badField("data", "the deployment manifest has no data: send an object with modulesContent")
	}
	content, err := json.Marshal(m.GetData().AsMap())
	if err != nil {
		return nil, badField("data", "the deployment manifest is not JSON: %s", err)
	}
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_DeploymentApplied{DeploymentApplied: &eventsv1.DeploymentApplied{
		Deployment: &eventsv1.Deployment{Id: m.GetId(), DisplayName: m.GetDisplayName()}, Content: content,
	}}}, nil
}

// toManifest is the manifest the device has, its content made of what its modules
// are desired to be; nil when it has none.
func toManifest(s *eventsv1.DeviceState) *apiv1.DeploymentManifest {
	if s.GetDeployment() == nil {
		return nil
	}
	modules := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for _, m := range s.GetModules() {
		modules.Fields[m.GetModule()] = object("properties.desired", toStruct(m.GetTwin().GetDesired()))
	}
	out := &apiv1.DeploymentManifest{Data: object("modulesContent", modules).GetStructValue()}
	if id := s.GetDeployment().GetId(); id != "" {
		out.Id = proto.String(id)
	}
	if name := s.GetDeployment().GetDisplayName(); name != "" {
		out.DisplayName = proto.String(name)
	}
	return out
}

// object has one member.
func object(name string, value *structpb.Struct) *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{name: structpb.NewStructValue(value)}})
}
