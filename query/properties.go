package query

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/dtdl"
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
	var state *eventsv1.DeviceState
	var err error
	if req.GetAt() != nil {
		state, err = s.history.get(ctx, req.GetDeviceId(), req.GetModule(), req.GetAt())
	} else {
		state, _, err = s.get(ctx, req.GetDeviceId(), req.GetModule())
	}
	if err != nil {
		return nil, err
	}
	model, err := s.model(state, req.GetModule(), req.GetComponent(), req.GetUnmodeled())
	if err != nil {
		return nil, err
	}
	return properties(state, req.GetModule(), req.GetComponent(), seen(model, req.GetUnmodeled()))
}

func (s *propertyService) ReplaceProperties(ctx context.Context, req *apiv1.ReplacePropertiesRequest) (*structpb.Struct, error) {
	return s.write(ctx, req, true)
}

func (s *propertyService) UpdateProperties(ctx context.Context, req *apiv1.UpdatePropertiesRequest) (*structpb.Struct, error) {
	return s.write(ctx, req, false)
}

// writeRequest is what the requests that set properties have in common.
type writeRequest interface {
	GetDeviceId() string
	GetModule() string
	GetComponent() string
	GetProperties() *structpb.Struct
	GetUnmodeled() bool
}

func (s *propertyService) write(ctx context.Context, req writeRequest, replace bool) (*structpb.Struct, error) {
	module, component := req.GetModule(), req.GetComponent()
	if err := checkComponent(component); err != nil {
		return nil, err
	}
	state, _, err := s.get(ctx, req.GetDeviceId(), module)
	if err != nil {
		return nil, err
	}
	model, err := s.model(state, module, component, req.GetUnmodeled())
	if err != nil {
		return nil, err
	}
	had, err := device.PropertiesOf(state, module)
	if err != nil {
		return nil, toStatus(err)
	}
	write, values := newPropertyWrite(model, req.GetUnmodeled()), req.GetProperties().AsMap()
	if component != "" {
		if replace {
			write.remove(had.Components[component])
		}
		write.take(values)
		write.within(component)
		replace = false
	} else {
		write.take(values)
		if replace && model != nil && !req.GetUnmodeled() {
			write.forget(had)
			replace = false
		}
	}
	if err := write.err(); err != nil {
		return nil, err
	}
	event, err := write.event(replace, module == "" && len(state.GetCloud()) > 0)
	if err != nil {
		return nil, err
	}
	if state, err = s.change(ctx, req.GetDeviceId(), module, event); err != nil {
		return nil, err
	}
	answerWith(ctx, http.StatusAccepted)
	return properties(state, module, component, seen(model, req.GetUnmodeled()))
}

// model is what the template says of the properties; with unmodeled it need not have
// the component.
func (s *propertyService) model(state *eventsv1.DeviceState, module, component string, unmodeled bool) (*dtdl.Interface, error) {
	model, err := s.capabilities(state, module, component)
	if err != nil && unmodeled {
		return nil, nil //nolint:nilnil // as for a device without a template
	}
	return model, err
}

func checkComponent(name string) error {
	if name != "" && !componentPattern.MatchString(name) {
		return badField("componentName", "component name is not valid: use up to 64 letters, digits and '_', beginning with a letter")
	}
	return nil
}

// properties are an identity's as IoT Central shows them: values by name,
// components as objects, and what is known about each property in $metadata. A model
// leaves out what it does not have; nil shows everything.
func properties(state *eventsv1.DeviceState, module, component string, model *dtdl.Interface) (*structpb.Struct, error) {
	all, err := device.PropertiesOf(state, module)
	if err != nil {
		return nil, toStatus(err)
	}
	if component != "" {
		all = device.Properties{Own: all.Components[component]}
	}
	values := withMetadata(modeled(model, all.Own))
	for name, inner := range all.Components {
		if model == nil {
			values[name] = withMetadata(inner)
		} else if c := model.Find(dtdl.Component, name); c != nil {
			values[name] = withMetadata(modeled(c.Interface, inner))
		}
	}
	s, err := structpb.NewStruct(values)
	if err != nil {
		return nil, toStatus(fmt.Errorf("properties: %w", err))
	}
	return s, nil
}

// seen is the model that a reader's view is bound by: none with unmodeled.
func seen(model *dtdl.Interface, unmodeled bool) *dtdl.Interface {
	if unmodeled {
		return nil
	}
	return model
}

// modeled are the properties that the model has.
func modeled(model *dtdl.Interface, properties map[string]device.Property) map[string]device.Property {
	if model == nil {
		return properties
	}
	found := map[string]device.Property{}
	for name, p := range properties {
		if model.Find(dtdl.Property, name) != nil {
			found[name] = p
		}
	}
	return found
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
