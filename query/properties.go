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
	_, identity, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	return properties(identity.GetTwin(), req.GetComponent())
}

func (s *propertyService) ReplaceProperties(ctx context.Context, req *apiv1.ReplacePropertiesRequest) (*structpb.Struct, error) {
	if req.GetComponent() != "" {
		return s.replaceComponent(ctx, req)
	}
	return s.write(ctx, req.GetDeviceId(), req.GetModule(), "", req.GetProperties().AsMap(), true)
}

// replaceComponent removes what the component has and is not given.
func (s *propertyService) replaceComponent(ctx context.Context, req *apiv1.ReplacePropertiesRequest) (*structpb.Struct, error) {
	_, identity, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	patch := map[string]any{}
	desired, err := section(identity.GetTwin().GetDesired())
	if err != nil {
		return nil, toStatus(err)
	}
	before, _ := device.IsComponent(desired[req.GetComponent()])
	for name := range before {
		patch[name] = nil
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
	identity, err := s.change(ctx, id, module, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesDesired{
		PropertiesDesired: &eventsv1.PropertiesDesired{Patch: patch, Replace: replace},
	}})
	if err != nil {
		return nil, err
	}
	answerWith(ctx, http.StatusAccepted)
	return properties(identity.GetTwin(), component)
}

func checkComponent(name string) error {
	if name != "" && !componentPattern.MatchString(name) {
		return badField("componentName", "component name is not valid: use up to 64 letters, digits and '_', beginning with a letter")
	}
	return nil
}

func section(raw []byte) (map[string]any, error) {
	object := map[string]any{}
	if len(raw) == 0 {
		return object, nil
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("twin section: %w", err)
	}
	return object, nil
}

// properties is the twin as IoT Central shows it: values by name, components as
// objects, and what is known about each property in $metadata.
func properties(twin *eventsv1.Twin, component string) (*structpb.Struct, error) {
	desired, err := section(twin.GetDesired())
	if err != nil {
		return nil, toStatus(err)
	}
	reported, err := section(twin.GetReported())
	if err != nil {
		return nil, toStatus(err)
	}
	view := propertyView{twin}
	var values map[string]any
	if component != "" {
		inDesired, _ := device.IsComponent(desired[component])
		inReported, _ := device.IsComponent(reported[component])
		values = view.component(inDesired, inReported, component+"/")
	} else {
		values = view.root(desired, reported)
	}
	s, err := structpb.NewStruct(values)
	if err != nil {
		return nil, toStatus(fmt.Errorf("properties: %w", err))
	}
	return s, nil
}

type propertyView struct{ twin *eventsv1.Twin }

// root is the properties of the identity itself and of all its components.
func (v propertyView) root(desired, reported map[string]any) map[string]any {
	own, ownReported := map[string]any{}, map[string]any{}
	components := map[string]struct{ desired, reported map[string]any }{}
	for name, value := range desired {
		if inner, ok := device.IsComponent(value); ok {
			c := components[name]
			c.desired = inner
			components[name] = c
			continue
		}
		own[name] = value
	}
	for name, value := range reported {
		if inner, ok := device.IsComponent(value); ok {
			c := components[name]
			c.reported = inner
			components[name] = c
			continue
		}
		ownReported[name] = value
	}
	out := v.component(own, ownReported, "")
	for name, c := range components {
		out[name] = v.component(c.desired, c.reported, name+"/")
	}
	return out
}

func (v propertyView) component(desired, reported map[string]any, path string) map[string]any {
	out, metadata := map[string]any{}, map[string]any{}
	for name := range desired {
		out[name] = nil
	}
	for name := range reported {
		out[name] = nil
	}
	delete(out, "__t")
	for name := range out {
		wish, wished := desired[name]
		value, ack := acknowledgement(reported[name])
		about := ack.metadata()
		if wished {
			about["desiredValue"] = wish
			v.dates(about, v.twin.GetDesiredStamps(), path+name, "desiredVersion", "desiredTimestamp")
			if !ack.refused() {
				value = wish
			}
		}
		v.dates(about, v.twin.GetReportedStamps(), path+name, "", "lastUpdateTime")
		out[name], metadata[name] = value, about
	}
	out["$metadata"] = metadata
	return out
}

func (v propertyView) dates(about map[string]any, stamps []*eventsv1.PropertyStamp, path, version, at string) {
	s := device.StampOf(stamps, path)
	if s == nil {
		return
	}
	if version != "" {
		about[version] = s.GetVersion()
	}
	about[at] = s.GetAt().AsTime().Format(time.RFC3339Nano)
}

// ack is a device's answer to a desired property (IoT Plug and Play; FEATURES.md
// PAY-22).
type ack struct {
	code, version any
	description   any
}

// acknowledgement takes a reported value out of its acknowledgement, if it is in
// one.
func acknowledgement(reported any) (value any, a ack) {
	object, ok := reported.(map[string]any)
	if !ok {
		return reported, ack{}
	}
	code, hasCode := object["ac"].(float64)
	version, hasVersion := object["av"].(float64)
	if !hasCode || !hasVersion {
		return reported, ack{}
	}
	return object["value"], ack{code: code, version: version, description: object["ad"]}
}

// refused is PnP's reading of the code: from 400 on the device does not do it.
func (a ack) refused() bool {
	code, ok := a.code.(float64)
	return ok && code >= http.StatusBadRequest
}

func (a ack) metadata() map[string]any {
	about := map[string]any{}
	if a.code != nil {
		about["ackCode"], about["ackVersion"] = a.code, a.version
	}
	if a.description != nil {
		about["ackDescription"] = a.description
	}
	return about
}
