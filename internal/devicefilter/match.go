package devicefilter

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Device is what a filter looks at. The maps hold what encoding/json makes of
// JSON.
type Device struct {
	State *eventsv1.DeviceState
	// Properties are the values people see, components as objects, cloud properties
	// among them.
	Properties map[string]any
	Tags       map[string]any
}

// DeviceOf makes a state's properties and tags ready to look at.
func DeviceOf(state *eventsv1.DeviceState) (Device, error) {
	d := Device{State: state}
	if tags := state.GetTags(); len(tags) > 0 {
		if err := json.Unmarshal(tags, &d.Tags); err != nil {
			return d, fmt.Errorf("tags of device %s cannot be read: %w", state.GetDevice(), err)
		}
	}
	properties, err := device.PropertiesOf(state, "")
	if err != nil {
		return d, fmt.Errorf("device %s: %w", state.GetDevice(), err)
	}
	d.Properties = properties.Values()
	return d, nil
}

// Match reports whether the device is one of those that the expression means.
func Match(e Expr, d Device) bool { return e.matches(d) }

func (all And) matches(d Device) bool {
	for _, e := range all {
		if !e.matches(d) {
			return false
		}
	}
	return true
}

func (some Or) matches(d Device) bool {
	for _, e := range some {
		if e.matches(d) {
			return true
		}
	}
	return false
}

func (c Condition) matches(d Device) bool {
	value := d.value(c.Field)
	if c.Op == Exists {
		return exists(value) != c.Not
	}
	if _, object := value.(map[string]any); value == nil || object {
		return false
	}
	if c.Op == Equal {
		return equalsOne(value, c.Values) != c.Not
	}
	is, answered := c.compare(value, c.Values[0])
	return answered && is != c.Not
}

// exists reports whether there is a value, in an object anywhere.
func exists(value any) bool {
	object, isObject := value.(map[string]any)
	if !isObject {
		return value != nil
	}
	for _, inner := range object {
		if exists(inner) {
			return true
		}
	}
	return false
}

func equalsOne(value any, wanted []any) bool {
	if _, list := value.([]any); list {
		return false
	}
	for _, w := range wanted {
		if value == w {
			return true
		}
	}
	return false
}

// compare applies the other operators; values of some types have no answer.
func (c Condition) compare(value, wanted any) (is, answered bool) {
	order := 0
	switch w := wanted.(type) {
	case time.Time:
		v, ok := moment(value).(time.Time)
		if order = v.Compare(w); !ok {
			return false, false
		}
	case float64:
		v, ok := value.(float64)
		if order = cmp.Compare(v, w); !ok {
			return false, false
		}
	case *regexp.Regexp:
		v, ok := value.(string)
		return ok && w.MatchString(v), ok
	case string:
		v, ok := value.(string)
		if !ok {
			return false, false
		}
		if c.Op != Less && c.Op != LessOrEqual {
			return c.find(v, w), true
		}
		order = strings.Compare(v, w)
	}
	return order < 0 || order == 0 && c.Op == LessOrEqual, true
}

func (c Condition) find(value, wanted string) bool {
	switch c.Op {
	case Contains:
		return strings.Contains(strings.ToLower(value), strings.ToLower(wanted))
	case StartsWith:
		return strings.HasPrefix(strings.ToLower(value), strings.ToLower(wanted))
	case EndsWith:
		return strings.HasSuffix(strings.ToLower(value), strings.ToLower(wanted))
	}
	return false
}

// value is what the device has in the field; nil: nothing.
func (d Device) value(f Field) any {
	s := d.State
	switch f.Attribute {
	case Property:
		return at(d.Properties, f.Path)
	case Tag:
		return at(d.Tags, f.Path)
	case Enabled:
		return s.GetEnabled()
	case Provisioned:
		return s.GetProvisioned()
	case Simulated:
		return s.GetSimulated()
	case Edge:
		return s.GetEdge()
	case Waiting:
		return s.GetWaiting()
	case Connected:
		return device.IdentityOf(s, "").GetConnection().GetConnected()
	}
	if value := d.text(f.Attribute); value != "" {
		return value
	}
	return nil
}

func (d Device) text(a Attribute) string {
	s := d.State
	switch a {
	case ID:
		return s.GetDevice()
	case DisplayName:
		return s.GetDisplayName()
	case Template:
		return s.GetTemplate()
	case EnrollmentGroup:
		return s.GetEnrollmentGroup()
	case ModelID: // announced at the last connection, else at registration
		return cmp.Or(s.GetSelf().GetTwin().GetModelId(), s.GetModelId())
	case Parent:
		return s.GetParent()
	case Organization:
		if ids := s.GetOrganizations(); len(ids) > 0 {
			return ids[0]
		}
	}
	return ""
}

func at(object map[string]any, path []string) any {
	value := object[path[0]]
	for _, segment := range path[1:] {
		inner, _ := value.(map[string]any)
		value = inner[segment]
	}
	return value
}
