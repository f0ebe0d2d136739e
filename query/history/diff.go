package history

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Change is one thing that is not as it was.
type Change struct {
	// Path is as in JSON pointers (RFC 6901).
	Path string
	// Before and After are values as encoding/json has them; nil: nothing there.
	Before, After any
	// Secret values are not told.
	Secret bool
}

// Diff is what is in one state of a device not as in the other, in order of the
// paths; nil is the state of a device that never existed. It tells everything but
// what every change counts on: version, revision, when things were set.
func Diff(before, after *eventsv1.DeviceState) []Change {
	var d differ
	d.compare("", treeOf(before.ProtoReflect()), treeOf(after.ProtoReflect()))
	return d.changes
}

// Kind is the event's change as the contract names it; empty for one that this
// version does not know.
func Kind(ev *eventsv1.DeviceEvent) string {
	if field := changeOf(ev); field != nil {
		return string(field.Name())
	}
	return ""
}

// Intent is what the event says that somebody wanted, without secrets.
func Intent(ev *eventsv1.DeviceEvent) map[string]any {
	field := changeOf(ev)
	if field == nil {
		return map[string]any{}
	}
	return visible(treeOf(ev.ProtoReflect().Get(field).Message())).(map[string]any)
}

func changeOf(ev *eventsv1.DeviceEvent) protoreflect.FieldDescriptor {
	m := ev.ProtoReflect()
	return m.WhichOneof(m.Descriptor().Oneofs().ByName("change"))
}

type differ struct{ changes []Change }

// compare notes what differs between two values at a path; nil is none.
func (d *differ) compare(path string, before, after any) {
	switch before, after := complete(before, after), complete(after, before); {
	case reflect.DeepEqual(before, after):
	case reflect.TypeOf(before) == reflect.TypeOf(after) && members(before) != nil:
		d.compareMembers(path, members(before), members(after))
	case before == nil && isComponent(after):
		d.compareMembers(path, nil, unmarked(members(after)))
	case isComponent(before) && after == nil:
		d.compareMembers(path, unmarked(members(before)), nil)
	case isSecret(before) || isSecret(after):
		d.changes = append(d.changes, Change{Path: path, Secret: true})
	default:
		d.changes = append(d.changes, Change{Path: path, Before: visible(before), After: visible(after)})
	}
}

func (d *differ) compareMembers(path string, before, after map[string]any) {
	names := slices.Collect(maps.Keys(before))
	for name := range after {
		if _, both := before[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		d.compare(path+"/"+escape.Replace(name), before[name], after[name])
	}
}

// escape writes a name as a part of a JSON pointer (RFC 6901 §3).
var escape = strings.NewReplacer("~", "~0", "/", "~1")

// complete gives a value that is not there the one it is the same as, of the other
// one's kind.
func complete(value, other any) any {
	if value != nil {
		return value
	}
	switch other.(type) {
	case section:
		return section{}
	case flag:
		return flag(false)
	}
	return nil
}

// members are those of anything that has some, nil of anything else.
func members(value any) map[string]any {
	switch v := value.(type) {
	case section:
		return v
	case component:
		return v
	case entry:
		return v
	case map[string]any:
		return v
	}
	return nil
}

// marker makes an object of properties a component (FEATURES.md PAY-20).
const marker = "__t"

func isComponent(value any) bool { _, is := value.(component); return is }

// unmarked leaves out the marker of a component that has anything else to show.
func unmarked(members map[string]any) map[string]any {
	if len(members) == 1 {
		return members
	}
	rest := maps.Clone(members)
	delete(rest, marker)
	return rest
}

func isSecret(value any) bool { _, is := value.(secret); return is }

// visible is a tree as encoding/json has it. Numbers lose what 64 bits of a float
// do not hold.
func visible(value any) any {
	if inner := members(value); inner != nil {
		object := make(map[string]any, len(inner))
		for name, value := range inner {
			object[name] = visible(value)
		}
		return object
	}
	switch v := value.(type) {
	case flag:
		return bool(v)
	case secret:
		return "secret"
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = visible(v[i])
		}
		return list
	case json.Number:
		number, err := v.Float64()
		if err != nil { // beyond a float
			return v.String()
		}
		return number
	}
	return value
}
