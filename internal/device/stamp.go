package device

import (
	"slices"
	"strings"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// componentMarker is the member that makes an object of a twin a component
// (FEATURES.md PAY-20).
const componentMarker = "__t"

// IsComponent reports whether a property's value is a component's properties.
func IsComponent(value any) (map[string]any, bool) {
	object, _ := value.(map[string]any)
	return object, object != nil && object[componentMarker] == "c"
}

// stamp dates the properties that a patch changes, in a list of its own.
func stamp(stamps []*eventsv1.PropertyStamp, changes map[string]any, version uint64, at *timestamppb.Timestamp) []*eventsv1.PropertyStamp {
	out := slices.Clone(stamps)
	set := func(path string) {
		s := &eventsv1.PropertyStamp{Path: path, Version: version, At: at}
		i, found := findStamp(out, path)
		if found {
			out[i] = s
			return
		}
		out = slices.Insert(out, i, s)
	}
	for name, value := range changes {
		component, isComponent := IsComponent(value)
		switch {
		case value == nil:
			out = unstamp(out, name, true)
		case !isComponent:
			set(name)
		}
		for inner, value := range component {
			switch {
			case inner == componentMarker:
			case value == nil:
				out = unstamp(out, name+"/"+inner, false)
			default:
				set(name + "/" + inner)
			}
		}
	}
	return out
}

func unstamp(stamps []*eventsv1.PropertyStamp, path string, below bool) []*eventsv1.PropertyStamp {
	return slices.DeleteFunc(stamps, func(s *eventsv1.PropertyStamp) bool {
		return s.GetPath() == path || below && strings.HasPrefix(s.GetPath(), path+"/")
	})
}

func findStamp(stamps []*eventsv1.PropertyStamp, path string) (int, bool) {
	return slices.BinarySearchFunc(stamps, path, func(s *eventsv1.PropertyStamp, path string) int { return strings.Compare(s.GetPath(), path) })
}

// StampOf is when a property was last set; nil when that is not known.
func StampOf(stamps []*eventsv1.PropertyStamp, path string) *eventsv1.PropertyStamp {
	if i, found := findStamp(stamps, path); found {
		return stamps[i]
	}
	return nil
}
