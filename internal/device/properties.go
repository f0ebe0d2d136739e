package device

import (
	"encoding/json"
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Sync says how far a desired property is with the device (FEATURES.md PAY-23, 24).
type Sync string

// The device has not answered yet or says it is at it; has taken the value; has
// refused it or failed to.
const (
	Pending  Sync = "pending"
	Accepted Sync = "accepted"
	Rejected Sync = "rejected"
)

// Property is one property as it stands.
type Property struct {
	// Value is the desired one unless the device has refused it, else the reported
	// one; a cloud property's own.
	Value any
	// Desired is what people want, if Wished.
	Desired any
	Wished  bool
	// Cloud properties never reach the device.
	Cloud bool
	// Ack is the device's answer; nil when it gave none.
	Ack *Acknowledgement
	// DesiredStamp and ReportedStamp date the two sides; nil: unknown.
	DesiredStamp, ReportedStamp *eventsv1.PropertyStamp
}

// Acknowledgement is a device's answer to a desired property (IoT Plug and Play;
// FEATURES.md PAY-22).
type Acknowledgement struct {
	Code, Version int64
	Description   any // nil: none
}

// Sync is how far a desired property is; empty for one that nobody desires, and for
// cloud properties. An answer to an earlier value is none to this one.
func (p Property) Sync() Sync {
	switch {
	case !p.Wished || p.Cloud:
		return ""
	case p.Ack == nil || p.Ack.Version < int64(p.DesiredStamp.GetVersion()):
		return Pending
	case p.Ack.Code >= 400:
		return Rejected
	case p.Ack.Code == 201 || p.Ack.Code == 202:
		return Pending
	}
	return Accepted
}

// Properties are a device's or module's by name.
type Properties struct {
	Own map[string]Property
	// Components have properties of their own.
	Components map[string]map[string]Property
}

// PropertiesOf are the properties of the device itself (module "") with its cloud
// properties, or of one of its modules.
func PropertiesOf(s *eventsv1.DeviceState, module string) (Properties, error) {
	out := Properties{Own: map[string]Property{}, Components: map[string]map[string]Property{}}
	twin := IdentityOf(s, module).GetTwin()
	desired, err := decodeSection(twin.GetDesired())
	if err != nil {
		return out, err
	}
	reported, err := decodeSection(twin.GetReported())
	if err != nil {
		return out, err
	}
	cloud := map[string]any{}
	if module == "" {
		if cloud, err = decodeSection(s.GetCloud()); err != nil {
			return out, err
		}
	}
	dates := DesiredStamps(twin).byPath()
	out.visit(desired, func(p *Property, value any, path string) {
		p.Desired, p.Wished, p.DesiredStamp = value, true, dates[path]
		p.Value = value
	})
	dates = ReportedStamps(twin).byPath()
	out.visit(reported, func(p *Property, value any, path string) {
		p.ReportedStamp = dates[path]
		value, p.Ack = acknowledgement(value)
		if p.Value = value; p.Wished && p.Sync() != Rejected {
			p.Value = p.Desired
		}
	})
	dates = CloudStamps(s).byPath()
	out.visit(cloud, func(p *Property, value any, path string) {
		*p = Property{Value: value, Desired: value, Wished: true, Cloud: true, DesiredStamp: dates[path]}
	})
	return out, nil
}

// Values are the values alone, components as objects.
func (p Properties) Values() map[string]any {
	out := make(map[string]any, len(p.Own)+len(p.Components))
	for name, property := range p.Own {
		out[name] = property.Value
	}
	for name, properties := range p.Components {
		inner := make(map[string]any, len(properties))
		for name, property := range properties {
			inner[name] = property.Value
		}
		out[name] = inner
	}
	return out
}

// visit calls f for each property of a section, with its path.
func (p Properties) visit(section map[string]any, f func(p *Property, value any, path string)) {
	at := func(properties map[string]Property, name string, value any, path string) {
		property := properties[name]
		f(&property, value, path)
		properties[name] = property
	}
	for name, value := range section {
		inner, isComponent := IsComponent(value)
		if !isComponent {
			at(p.Own, name, value, name)
			continue
		}
		if p.Components[name] == nil {
			p.Components[name] = map[string]Property{}
		}
		for inside, value := range inner {
			if inside != componentMarker {
				at(p.Components[name], inside, value, name+"/"+inside)
			}
		}
	}
}

func decodeSection(raw []byte) (map[string]any, error) {
	object := map[string]any{}
	if len(raw) == 0 {
		return object, nil
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("properties of the state cannot be read: %w", err)
	}
	return object, nil
}

// acknowledgement takes a reported value out of its acknowledgement, if it is in
// one.
func acknowledgement(reported any) (any, *Acknowledgement) {
	object, _ := reported.(map[string]any)
	code, hasCode := object["ac"].(float64)
	version, hasVersion := object["av"].(float64)
	if !hasCode || !hasVersion {
		return reported, nil
	}
	return object["value"], &Acknowledgement{Code: int64(code), Version: int64(version), Description: object["ad"]}
}
