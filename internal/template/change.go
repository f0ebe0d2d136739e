package template

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"github.com/fleetlog/fleetlog/internal/dtdl"
)

// Change is one difference between two versions of a template.
type Change struct {
	// Path names the content, `thermostat1/targetTemperature`; empty: the model.
	Path string
	// What has happened to it: added, removed or changed.
	What string
	// Breaking changes take something from those who rely on it: rules, exports,
	// queries, devices (FEATURES.md VER-03).
	Breaking bool
	// Overrides change cloud properties, or how the platform shows, bounds and sets
	// values; devices need not know of them (FEATURES.md TPL-07, TPL-24).
	Override bool
	Reason   string
}

// What can have happened.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Compare lists the changes from one version of a template to the next, in the
// order of their paths.
func Compare(from, to *Template) []Change {
	d := differ{compared: map[[2]*dtdl.Schema]string{}}
	if from.ModelID() != to.ModelID() {
		d.add("", Changed, true, "the model's id is another: devices announce %s and would no longer find their template", from.ModelID())
	}
	d.interfaces("", from.Model.Root, to.Model.Root)
	slices.SortStableFunc(d.changes, func(a, b Change) int {
		return bytes.Compare([]byte(a.Path), []byte(b.Path))
	})
	return d.changes
}

// Breaking are those of the changes that are.
func Breaking(changes []Change) []Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return !c.Breaking })
}

// BeyondOverrides are those of the changes that a patch may not make.
func BeyondOverrides(changes []Change) []Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Override })
}

type differ struct {
	changes []Change
	// compared are pairs of schemas that were compared before: a few named schemas can
	// stand in very many places.
	compared map[[2]*dtdl.Schema]string
}

func (d *differ) add(path, what string, breaking bool, format string, args ...any) {
	d.changes = append(d.changes, Change{Path: path, What: what, Breaking: breaking, Reason: fmt.Sprintf(format, args...)})
}

// override marks the changes since the first count.
func (d *differ) override(count int) {
	for i := range d.changes[count:] {
		d.changes[count+i].Override = true
	}
}

func (d *differ) interfaces(path string, from, to *dtdl.Interface) {
	for _, before := range from.All {
		at, count := join(path, before.Name), len(d.changes)
		after := find(to, before.Name)
		switch {
		case after == nil:
			d.add(at, Removed, true, "the %s is gone: rules, exports and queries that use it lose it", noun(before))
		case after.Kind != before.Kind || after.Cloud != before.Cloud:
			d.add(at, Changed, true, "the %s has become a %s", noun(before), noun(after))
		default:
			d.content(at, before, after)
		}
		if before.Cloud && (after == nil || after.Cloud) {
			d.override(count)
		}
	}
	for _, after := range to.All {
		if find(from, after.Name) == nil {
			d.add(join(path, after.Name), Added, false, "a new %s takes nothing from anybody", noun(after))
			if after.Cloud {
				d.override(len(d.changes) - 1)
			}
		}
	}
}

func find(i *dtdl.Interface, name string) *dtdl.Content {
	for _, c := range i.All {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

func noun(c *dtdl.Content) string {
	if c.Cloud {
		return "cloud property"
	}
	return map[dtdl.Kind]string{
		dtdl.Telemetry: "telemetry", dtdl.Property: "property", dtdl.Command: "command", dtdl.Component: "component", dtdl.Relationship: "relationship",
	}[c.Kind]
}

func (d *differ) content(path string, before, after *dtdl.Content) {
	count := len(d.changes)
	switch before.Kind {
	case dtdl.Component, dtdl.Relationship:
		d.target(path, before, after)
	case dtdl.Command:
		d.payload(path, "request", before.Request, after.Request)
		d.payload(path, "response", before.Response, after.Response)
	default:
		d.value(path, before, after)
	}
	if len(d.changes) == count && !sameTexts(before, after) {
		d.add(path, Changed, false, "what it is called, its bounds or its look have changed, its values have not")
		d.override(count)
	}
}

func (d *differ) target(path string, before, after *dtdl.Content) {
	switch {
	case before.Interface != nil && after.Interface != nil:
		d.interfaces(path, before.Interface, after.Interface)
	case before.Target != after.Target:
		d.add(path, Changed, true, "it leads to %s instead of %s", after.Target, before.Target)
	}
}

func (d *differ) payload(path, what string, before, after *dtdl.Payload) {
	switch {
	case before == nil && after == nil:
	case before == nil || after == nil:
		d.add(path, Changed, true, "the command's %s is there in one version only", what)
	default:
		if why := d.incompatible(before.Schema, after.Schema); why != "" {
			d.add(path, Changed, true, "the command's %s: %s", what, why)
		} else if !reflect.DeepEqual(before.Schema, after.Schema) {
			d.add(path, Changed, false, "the command's %s takes all it took, and more", what)
		}
	}
}

func (d *differ) value(path string, before, after *dtdl.Content) {
	if why := d.incompatible(before.Schema, after.Schema); why != "" {
		d.add(path, Changed, true, "%s", why)
	} else if !reflect.DeepEqual(before.Schema, after.Schema) {
		d.add(path, Changed, false, "its schema takes all it took, and more")
	}
	switch {
	case before.Unit != "" && before.Unit != after.Unit:
		d.add(path, Changed, true, "its unit was %s: the same numbers would mean something else", before.Unit)
	case before.Semantic != "" && before.Semantic != after.Semantic:
		d.add(path, Changed, true, "it was a %s", before.Semantic)
	}
	count := len(d.changes)
	switch {
	case before.Writable && !after.Writable:
		d.add(path, Changed, true, "it can no longer be written: what sets it fails")
	case !before.Writable && after.Writable:
		d.add(path, Changed, false, "it can be written now")
	}
	d.override(count)
}

// incompatible says why values of one schema are not all values of another; empty
// when they are. More enum values and more fields are no harm.
func (d *differ) incompatible(before, after *dtdl.Schema) string {
	pair := [2]*dtdl.Schema{before, after}
	if why, known := d.compared[pair]; known {
		return why
	}
	why := d.compare(before, after)
	d.compared[pair] = why
	return why
}

func (d *differ) compare(before, after *dtdl.Schema) string {
	if before.Kind != after.Kind {
		return fmt.Sprintf("its schema was %s and would be %s", before.Kind, after.Kind)
	}
	switch before.Kind {
	case dtdl.Array, dtdl.Map:
		return d.incompatible(before.Element, after.Element)
	case dtdl.Enum:
		return enumIncompatible(before, after)
	case dtdl.Object:
		for _, f := range before.Fields {
			i := slices.IndexFunc(after.Fields, func(g dtdl.Field) bool { return g.Name == f.Name })
			if i < 0 {
				return fmt.Sprintf("its field %s is gone", f.Name)
			}
			if why := d.incompatible(f.Schema, after.Fields[i].Schema); why != "" {
				return fmt.Sprintf("field %s: %s", f.Name, why)
			}
		}
	}
	return ""
}

func enumIncompatible(before, after *dtdl.Schema) string {
	if before.ValueKind != after.ValueKind {
		return fmt.Sprintf("its values were %s and would be %s", before.ValueKind, after.ValueKind)
	}
	for _, v := range before.Values {
		if !slices.ContainsFunc(after.Values, func(w dtdl.EnumValue) bool { return w.Value == v.Value && w.Name == v.Name }) {
			return fmt.Sprintf("its value %v (%s) is gone or is called otherwise", v.Value, v.Name)
		}
	}
	return ""
}

// sameTexts reports whether nothing differs that is not about values.
func sameTexts(a, b *dtdl.Content) bool {
	return reflect.DeepEqual(a.DisplayName, b.DisplayName) && reflect.DeepEqual(a.Description, b.Description) && reflect.DeepEqual(a.Comment, b.Comment) &&
		reflect.DeepEqual(a.Min, b.Min) && reflect.DeepEqual(a.Max, b.Max) && bytes.Equal(a.InitialValue, b.InitialValue) &&
		reflect.DeepEqual(a.Display, b.Display) && a.Durable == b.Durable && reflect.DeepEqual(a.Types, b.Types)
}
