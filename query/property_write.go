package query

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/dtdl"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
)

// componentMarker is the member that makes an object of a twin a component
// (FEATURES.md PAY-20).
const componentMarker = "__t"

// propertyWrite takes apart what somebody sets: desired properties go to the device,
// cloud properties stay here, and what the template does not allow is noted, all of
// it.
type propertyWrite struct {
	// model of whose properties they are; nil: anything goes.
	model *dtdl.Interface
	// unmodeled lets properties through that the model does not have.
	unmodeled      bool
	desired, cloud map[string]any
	found          errdetails.BadRequest
}

func newPropertyWrite(model *dtdl.Interface, unmodeled bool) *propertyWrite {
	return &propertyWrite{model: model, unmodeled: unmodeled, desired: map[string]any{}, cloud: map[string]any{}}
}

func (w *propertyWrite) wrong(path, format string, args ...any) {
	w.found.FieldViolations = append(w.found.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: path, Description: path + fmt.Sprintf(format, args...)})
}

// err is what is wrong with what was taken; nil when nothing is.
func (w *propertyWrite) err() error {
	switch n := len(w.found.GetFieldViolations()); n {
	case 0:
		return nil
	case 1:
		return detailed(codes.InvalidArgument, w.found.GetFieldViolations()[0].GetDescription(), &w.found)
	default:
		return detailed(codes.InvalidArgument, fmt.Sprintf("%d properties cannot be set, all in details; the first: %s", n, w.found.GetFieldViolations()[0].GetDescription()), &w.found)
	}
}

// take takes in the properties of the model itself.
func (w *propertyWrite) take(values map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		if name == "$metadata" { // a reader may send back what it read
			continue
		}
		if w.model == nil {
			w.desired[name] = bare(value)
			continue
		}
		if c := w.model.Find(dtdl.Component, name); c != nil {
			w.takeComponent(c, value)
			continue
		}
		w.takeProperty(w.model, name, name, value, w.desired, w.cloud)
	}
}

// bare is a component that was read, without what is known about its properties.
func bare(value any) any {
	if inner, ok := value.(map[string]any); ok {
		if _, read := inner["$metadata"]; read {
			inner = maps.Clone(inner)
			delete(inner, "$metadata")
			inner[componentMarker] = "c"
			return inner
		}
	}
	return value
}

// takeComponent takes in the properties of a component; null removes them all.
func (w *propertyWrite) takeComponent(c *dtdl.Content, value any) {
	inner, ok := value.(map[string]any)
	switch {
	case value == nil:
		w.desired[c.Name] = nil
		if slices.ContainsFunc(c.Interface.All, func(p *dtdl.Content) bool { return p.Cloud }) {
			w.cloud[c.Name] = nil
		}
		return
	case !ok:
		w.wrong(c.Name, " is a component: send an object with its properties")
		return
	}
	desired, cloud := map[string]any{}, map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(inner)) {
		if name != "$metadata" && name != componentMarker {
			w.takeProperty(c.Interface, c.Name+"/"+name, name, inner[name], desired, cloud)
		}
	}
	place(w.desired, c.Name, desired)
	place(w.cloud, c.Name, cloud)
}

// place puts a component's properties where they belong, if there are any.
func place(section map[string]any, component string, properties map[string]any) {
	if len(properties) > 0 {
		properties[componentMarker] = "c"
		section[component] = properties
	}
}

func (w *propertyWrite) takeProperty(model *dtdl.Interface, path, name string, value any, desired, cloud map[string]any) {
	c := model.Find(dtdl.Property, name)
	switch {
	case c == nil && w.unmodeled:
		desired[name] = bare(value)
		return
	case c == nil:
		w.wrong(path, " is no property of the template%s; to set it anyway send unmodeled=true", those(model, dtdl.Property))
		return
	case !c.Cloud && !c.Writable:
		w.wrong(path, " is read-only: the device alone reports it")
		return
	}
	if value != nil { // null removes
		for _, p := range c.Check(value) {
			w.wrong(p.Of(path), ": %s", p.Message)
		}
	}
	if c.Cloud {
		cloud[name] = value
	} else {
		desired[name] = value
	}
}

// forget removes what the caller can see and has not given. What he cannot see, the
// properties that the model does not have, is not touched, whoever changes it
// meanwhile.
func (w *propertyWrite) forget(had device.Properties) {
	w.forgetOf(w.model, had.Own, w.desired, w.cloud)
	for name, properties := range had.Components {
		c := w.model.Find(dtdl.Component, name)
		if given, there := w.desired[name]; c == nil || there && given == nil {
			continue
		}
		desired, cloud := members(w.desired[name]), members(w.cloud[name])
		w.forgetOf(c.Interface, properties, desired, cloud)
		place(w.desired, name, desired)
		place(w.cloud, name, cloud)
	}
}

func (w *propertyWrite) forgetOf(model *dtdl.Interface, had map[string]device.Property, desired, cloud map[string]any) {
	for name, p := range had {
		section := desired
		if p.Cloud {
			section = cloud
		}
		if _, given := section[name]; !given && p.Wished && model.Find(dtdl.Property, name) != nil {
			section[name] = nil
		}
	}
}

// members are an object's, none of anything else.
func members(value any) map[string]any {
	if object, ok := value.(map[string]any); ok {
		return object
	}
	return map[string]any{}
}

// remove takes out what a component has and the caller can see; what the caller
// gives goes before it.
func (w *propertyWrite) remove(had map[string]device.Property) {
	for name, p := range had {
		visible := w.model == nil || w.unmodeled || w.model.Find(dtdl.Property, name) != nil
		switch {
		case !p.Wished || !visible:
		case p.Cloud:
			w.cloud[name] = nil
		default:
			w.desired[name] = nil
		}
	}
}

// within makes what was taken the properties of that component.
func (w *propertyWrite) within(component string) {
	for _, section := range []*map[string]any{&w.desired, &w.cloud} {
		wrapped := map[string]any{}
		place(wrapped, component, *section)
		*section = wrapped
	}
}

// event is the change: one event for both kinds. A section that a patch does not
// touch stays as it is; a device that has cloud properties has them replaced too.
func (w *propertyWrite) event(replace, hasCloud bool) (*eventsv1.DeviceEvent, error) {
	change := &eventsv1.PropertiesDesired{Replace: replace}
	var err error
	if replace || len(w.desired) > 0 || len(w.cloud) == 0 {
		if change.Patch, err = json.Marshal(w.desired); err != nil {
			return nil, badField("properties", "the properties are not JSON: %s", err)
		}
	}
	if len(w.cloud) > 0 || replace && hasCloud {
		if change.Cloud, err = json.Marshal(w.cloud); err != nil {
			return nil, badField("properties", "the properties are not JSON: %s", err)
		}
	}
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: change}}, nil
}
