package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/structpb"
)

// propertyService reads and writes properties: desired ones are a person's
// wishes, reported ones the device's answers.
type propertyService struct {
	apiv1.UnimplementedPropertyServiceServer
	identities
}

// componentPattern is DTDL v2's name of a component.
var componentPattern = regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9_]{0,62}[A-Za-z0-9])?$`)

func (s *propertyService) GetProperties(ctx context.Context, req *apiv1.GetPropertiesRequest) (*structpb.Struct, error) {
	if err := checkComponent(req.GetComponent()); err != nil {
		return nil, err
	}
	if req.GetAt() != nil {
		return s.propertiesAt(ctx, req)
	}
	state, _, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	return properties(state, req.GetModule(), req.GetComponent())
}

func (s *propertyService) ReplaceProperties(ctx context.Context, req *apiv1.ReplacePropertiesRequest) (*structpb.Struct, error) {
	if req.GetComponent() != "" {
		return s.replaceComponent(ctx, req)
	}
	return s.write(ctx, req.GetDeviceId(), req.GetModule(), "", req.GetProperties().AsMap(), true)
}

// replaceComponent removes what the component has and is not given.
func (s *propertyService) replaceComponent(ctx context.Context, req *apiv1.ReplacePropertiesRequest) (*structpb.Struct, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	before, err := device.PropertiesOf(state, req.GetModule())
	if err != nil {
		return nil, toStatus(err)
	}
	patch := map[string]any{}
	for name, p := range before.Components[req.GetComponent()] {
		if p.Wished {
			patch[name] = nil
		}
	}
	for name, value := range req.GetProperties().AsMap() {
		patch[name] = value
	}
	return s.write(ctx, req.GetDeviceId(), req.GetModule(), req.GetComponent(), patch, false)
}

func (s *propertyService) UpdateProperties(ctx context.Context, req *apiv1.UpdatePropertiesRequest) (*structpb.Struct, error) {
	return s.write(ctx, req.GetDeviceId(), req.GetModule(), req.GetComponent(), req.GetProperties().AsMap(), false)
}

func (s *propertyService) write(ctx context.Context, id, module, component string, values map[string]any, replace bool) (*structpb.Struct, error) {
	if err := checkComponent(component); err != nil {
		return nil, err
	}
	delete(values, "$metadata") // a reader may send back what it read
	if component != "" {
		values["__t"] = "c"
		values = map[string]any{component: values}
	}
	patch, err := json.Marshal(values)
	if err != nil {
		return nil, badField("properties", "the properties are not JSON: %s", err)
	}
	state, err := s.change(ctx, id, module, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesDesired{
		PropertiesDesired: &eventsv1.PropertiesDesired{Patch: patch, Replace: replace},
	}})
	if err != nil {
		return nil, err
	}
	answerWith(ctx, http.StatusAccepted)
	return properties(state, module, component)
}

func checkComponent(name string) error {
	if name != "" && !componentPattern.MatchString(name) {
		return badField("componentName", "component name is not valid: use up to 64 letters, digits and '_', beginning with a letter")
	}
	return nil
}

// properties are an identity's as IoT Central shows them: values by name,
// components as objects, and what is known about each property in $metadata.
func properties(state *eventsv1.DeviceState, module, component string) (*structpb.Struct, error) {
	all, err := device.PropertiesOf(state, module)
	if err != nil {
		return nil, toStatus(err)
	}
	if component != "" {
		all = device.Properties{Own: all.Components[component]}
	}
	values := withMetadata(all.Own)
	for name, inner := range all.Components {
		values[name] = withMetadata(inner)
	}
	s, err := structpb.NewStruct(values)
	if err != nil {
		return nil, toStatus(fmt.Errorf("properties: %w", err))
	}
	return s, nil
}

func withMetadata(properties map[string]device.Property) map[string]any {
	values, metadata := map[string]any{}, map[string]any{}
	for name, p := range properties {
		values[name], metadata[name] = p.Value, about(p)
	}
	values["$metadata"] = metadata
	return values
}

// about is what is known of a property (FEATURES.md PAY-25), and how far the
// device is with it.
func about(p device.Property) map[string]any {
	m := map[string]any{}
	if p.Wished {
		m["desiredValue"] = p.Desired
	}
	if s := p.DesiredStamp; s != nil {
		m["desiredVersion"], m["desiredTimestamp"] = s.GetVersion(), s.GetAt().AsTime().Format(time.RFC3339Nano)
	}
	if s := p.ReportedStamp; s != nil {
		m["lastUpdateTime"] = s.GetAt().AsTime().Format(time.RFC3339Nano)
	}
	if a := p.Ack; a != nil {
		m["ackCode"], m["ackVersion"] = a.Code, a.Version
		if a.Description != nil {
			m["ackDescription"] = a.Description
		}
	}
	if sync := p.Sync(); sync != "" {
		m["syncStatus"] = string(sync)
	}
	return m
}
