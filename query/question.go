package query

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/devicefilter"
	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/template"
	"github.com/fleetlog/fleetlog/query/fleetql"
)

// question is a query of the query language on its way to SQL.
type question struct {
	*fleetql.Query
	filterSQL

	text      string
	templates []*template.Template
	// group is the filter of a device group.
	group func(id string) (devicefilter.Expr, error)
	now   time.Time
	// typed answers have columns of one type each, for Arrow.
	typed bool
	// limit bounds the rows when the query does not.
	limit int
	// page is which of the rows are wanted; nil: all.
	page *questionPage

	meanings map[string]meaning
	// telemetry: it is about messages, not only about devices.
	telemetry bool
	// joined are the columns of devices that a question about messages needs, as SQL;
	// it calls them d0, d1 and so on.
	joined []string
	notes  []string
}

// nameKind is what a name is of.
type nameKind int

const (
	telemetryName nameKind = iota // a value of messages
	deviceName                    // a column of devices of one type
	dynamicName                   // a path in a JSON column of devices
	timeName
	idName
)

// meaning is what a name means.
type meaning struct {
	kind nameKind
	// component and path of telemetry.
	component, path string
	// complex values are objects; numeric ones are numbers or booleans, which the tables
	// of sums have; number ones are numbers.
	complex, numeric, number bool
	// column of devices, as SQL, and whether it is true or false.
	column string
	flag   bool
}

// columnsOfDevices are the names of what every device has.
var columnsOfDevices = map[string]meaning{
	"$id": {kind: idName}, "$ts": {kind: timeName},
	"$displayName": {kind: deviceName, column: "display_name"}, "$template": {kind: deviceName, column: "template"},
	"$organization": {kind: deviceName, column: "organization"}, "$enrollmentGroup": {kind: deviceName, column: "enrollment_group"},
	"$modelId": {kind: deviceName, column: "model_id"}, "$parent": {kind: deviceName, column: "parent"},
	"$provisioned": {kind: deviceName, column: "provisioned", flag: true}, "$simulated": {kind: deviceName, column: "simulated", flag: true},
	"$enabled": {kind: deviceName, column: "enabled", flag: true}, "$connected": {kind: deviceName, column: "connected", flag: true},
	"$edge": {kind: deviceName, column: "edge", flag: true}, "$waiting": {kind: deviceName, column: "waiting", flag: true},
}

// errorAt says what is wrong with the part of the query.
func (q *question) errorAt(at fleetql.Pos, format string, args ...any) error {
	return badField("query", "%s", fleetql.Errorf(q.text, at, format, args...).Error())
}

// mean finds out what a name means: an alias, a column, a capability of one of the
// templates, or, when the query is about all devices, a property.
func (q *question) mean(r fleetql.Ref) (meaning, error) {
	if known, ok := q.meanings[r.Name]; ok {
		return known, nil
	}
	m, err := q.find(r)
	if err == nil {
		q.meanings[r.Name] = m
	}
	return m, err
}

func (q *question) find(r fleetql.Ref) (meaning, error) {
	for _, it := range q.Items {
		if it.Alias == r.Name && it.Of.Name != r.Name {
			if it.Function != fleetql.None {
				return meaning{}, q.errorAt(r.Pos, "%s is the result of %s, which is known only after the rows are found: it can be ordered by, nothing else", r.Name, it.Function)
			}
			return q.find(it.Of)
		}
	}
	if m, ok := columnsOfDevices[r.Name]; ok {
		return m, nil
	}
	for prefix, column := range map[string]string{"$tags.": "tags", "$property.": "properties"} {
		if name, ok := strings.CutPrefix(r.Name, prefix); ok {
			return dynamicColumn(column, name), nil
		}
	}
	if name, ok := strings.CutPrefix(r.Name, "$telemetry."); ok {
		return meaning{kind: telemetryName, path: name}, nil
	}
	if strings.HasPrefix(r.Name, "$") {
		return meaning{}, q.errorAt(r.Pos, "there is no %s: use $id, $ts, $displayName, $template, $provisioned, $simulated, $enabled, $connected, $organization, $enrollmentGroup, $modelId, $parent, $tags.name, $property.name or $telemetry.name", r.Name)
	}
	if len(q.templates) == 0 {
		return dynamicColumn("properties", r.Name), nil
	}
	for _, t := range q.templates {
		if m, ok := capability(t, r.Name); ok {
			return m, nil
		}
	}
	return meaning{}, q.errorAt(r.Pos, "template %s has no telemetry or property %s: for what it does not name write $telemetry.%s or $property.%s", q.From[0].Template, r.Name, r.Name, r.Name)
}

func dynamicColumn(column, name string) meaning {
	return meaning{kind: dynamicName, column: column + "." + path(name)}
}

// capability is the telemetry or the property that the name is of in the template: of
// a component, if its first part is one, with members of an object behind it.
func capability(t *template.Template, name string) (meaning, bool) {
	component, rest := "", name
	if first, behind, ok := strings.Cut(name, "."); ok && t.Interface(first) != nil {
		component, rest = first, behind
	}
	in := t.Interface(component)
	if in == nil {
		return meaning{}, false
	}
	first, member, _ := strings.Cut(rest, ".")
	if found := in.Find(dtdl.Telemetry, first); found != nil {
		schema := memberSchema(found.Schema, member)
		return meaning{kind: telemetryName, component: component, path: rest, complex: isComplex(schema), numeric: schema != nil && (schema.Numeric() || schema.Kind == dtdl.Boolean), number: schema != nil && schema.Numeric()}, true
	}
	if in.Find(dtdl.Property, first) != nil {
		return dynamicColumn("properties", name), true
	}
	return meaning{}, false
}

// memberSchema follows the names into objects; nil when that leads nowhere.
func memberSchema(s *dtdl.Schema, member string) *dtdl.Schema {
	if member == "" || s == nil {
		return s
	}
	first, rest, _ := strings.Cut(member, ".")
	for _, f := range s.Fields {
		if f.Name == first {
			return memberSchema(f.Schema, rest)
		}
	}
	return nil
}

func isComplex(s *dtdl.Schema) bool {
	return s != nil && (s.Kind == dtdl.Object || s.Kind == dtdl.Map || s.Kind == dtdl.Geopoint || s.Kind == dtdl.Vector)
}

// settle finds out what the question is about.
func (q *question) settle() error {
	q.meanings = map[string]meaning{}
	telemetry, properties, times := q.Window > 0, false, false
	see := func(r fleetql.Ref) error {
		m, err := q.mean(r)
		switch m.kind {
		case telemetryName:
			telemetry = true
		case dynamicName:
			properties = true
		case timeName:
			times = true
		case deviceName, idName:
		}
		return err
	}
	keys := map[string]bool{}
	for _, it := range q.Items {
		if err := see(it.Of); err != nil {
			return err
		}
		if keys[it.Key()] {
			return q.errorAt(it.Pos, "%s is selected twice: give one an alias with AS", it.Key())
		}
		keys[it.Key()] = true
	}
	for _, r := range q.Group {
		if err := see(r); err != nil {
			return err
		}
	}
	for _, o := range q.Order {
		if o.Function != fleetql.None || slices.ContainsFunc(q.Items, func(it fleetql.Item) bool { return it.Alias == o.Name }) {
			continue
		}
		if err := see(o.Ref); err != nil {
			return err
		}
	}
	if err := visit(q.Where, func(c fleetql.Condition) error {
		switch c := c.(type) {
		case fleetql.Within:
			telemetry = true
		case fleetql.Compare:
			return see(c.Ref)
		case fleetql.In:
			return see(c.Ref)
		case fleetql.Match:
			return see(c.Ref)
		case fleetql.IsNull:
			return see(c.Ref)
		}
		return nil
	}); err != nil {
		return err
	}
	q.telemetry = telemetry || times && !properties
	return nil
}

// visit calls do for every condition that has no conditions in it.
func visit(c fleetql.Condition, do func(fleetql.Condition) error) error {
	var parts []fleetql.Condition
	switch c := c.(type) {
	case nil:
		return nil
	case fleetql.And:
		parts = c
	case fleetql.Or:
		parts = c
	case fleetql.Not:
		parts = []fleetql.Condition{c.Condition}
	default:
		return do(c)
	}
	for _, part := range parts {
		if err := visit(part, do); err != nil {
			return err
		}
	}
	return nil
}

// aggregated reports whether rows are gathered.
func (q *question) aggregated() bool {
	for _, it := range q.Items {
		if it.Function != fleetql.None {
			return true
		}
	}
	return q.Window > 0 || len(q.Group) > 0
}

// note tells whoever asks for the plan why it is as it is.
func (q *question) note(format string, args ...any) {
	q.notes = append(q.notes, fmt.Sprintf(format, args...))
}
