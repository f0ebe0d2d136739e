// Package sample makes up values for simulated devices, as plausible as the device
// model allows: in go a telemetry or property of the model and its value before, out
// comes the next value, which always fits the model.
//
// It is pure: the same source of randomness gives the same values.
package sample

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
)

// maxValues bounds one sample: schemas that are used many times in each other could
// make a value of millions.
const maxValues = 1000

// Value is a value for the content at that time, given the one before it, or nil for
// the first. It is one that encoding/json writes: bool, float64, int64, string, []any
// or map[string]any; nil when the content has no value, as commands and components.
func Value(c *dtdl.Content, rng *rand.Rand, at time.Time, previous any) any {
	if c.Schema == nil {
		return nil
	}
	m := &maker{rng: rng, at: at, left: maxValues}
	return m.value(c.Schema, measureOf(c), previous)
}

// Payload is a value for a command's request or response; nil when there is none.
func Payload(p *dtdl.Payload, rng *rand.Rand, at time.Time) any {
	if p == nil || p.Schema == nil {
		return nil
	}
	m := &maker{rng: rng, at: at, left: maxValues}
	return m.value(p.Schema, measure{semantic: p.Semantic, unit: p.Unit, name: p.Name}, nil)
}

// measure is what is known of a number besides its schema.
type measure struct {
	name, semantic, unit string
	least, most          *float64
}

func measureOf(c *dtdl.Content) measure {
	return measure{name: c.Name, semantic: c.Semantic, unit: c.Unit, least: c.Min, most: c.Max}
}

type maker struct {
	rng  *rand.Rand
	at   time.Time
	left int
}

func (m *maker) value(s *dtdl.Schema, of measure, previous any) any {
	m.left--
	switch s.Kind {
	case dtdl.Boolean:
		return m.boolean(previous)
	case dtdl.Double, dtdl.Float, dtdl.Integer, dtdl.Long:
		return m.number(s.Kind, of, previous)
	case dtdl.String:
		return m.text(of.name, previous)
	case dtdl.Date, dtdl.DateTime, dtdl.Time, dtdl.Duration:
		return m.moment(s.Kind)
	case dtdl.Enum:
		return m.choice(s, previous)
	case dtdl.Array, dtdl.Map, dtdl.Object:
		return m.complex(s, previous)
	}
	return m.place(s.Kind, previous)
}

// boolean turns once in twenty times.
func (m *maker) boolean(previous any) bool {
	before, ok := previous.(bool)
	if !ok {
		return m.rng.IntN(2) == 0
	}
	if m.rng.IntN(20) == 0 {
		return !before
	}
	return before
}

// choice stays with the Enum's value nine times of ten.
func (m *maker) choice(s *dtdl.Schema, previous any) any {
	if len(s.Values) == 0 { // no value fits, and null is the least wrong
		return nil
	}
	same := func(v dtdl.EnumValue) bool { return v.Value == plain(previous) }
	if slices.ContainsFunc(s.Values, same) && m.rng.IntN(10) > 0 {
		return plain(previous)
	}
	return s.Values[m.rng.IntN(len(s.Values))].Value
}

// text keeps what it was: names, serial numbers and versions do not change.
func (m *maker) text(name string, previous any) string {
	if before, ok := previous.(string); ok {
		return before
	}
	if name == "" {
		name = "text"
	}
	return name + "-" + strconv.Itoa(1000+m.rng.IntN(9000))
}

func (m *maker) moment(kind dtdl.SchemaKind) string {
	at := m.at.UTC()
	if at.Year() < 1 || at.Year() > 9999 { // which RFC 3339 cannot write
		at = time.Unix(0, 0).UTC()
	}
	switch kind {
	case dtdl.Date:
		return at.Format(time.DateOnly)
	case dtdl.DateTime:
		return at.Format("2006-01-02T15:04:05.000Z")
	case dtdl.Time:
		return at.Format("15:04:05.000Z")
	}
	return "PT" + strconv.Itoa(m.rng.IntN(60)) + "M" + strconv.Itoa(m.rng.IntN(60)) + "S"
}

func (m *maker) complex(s *dtdl.Schema, previous any) any {
	switch s.Kind {
	case dtdl.Array:
		return m.array(s, previous)
	case dtdl.Map:
		return m.keyed(s, previous)
	}
	before, _ := previous.(map[string]any)
	object := make(map[string]any, len(s.Fields))
	for _, f := range s.Fields {
		if m.left <= 0 || empty(f.Schema) { // fields may be missing
			continue
		}
		object[f.Name] = m.value(f.Schema, measure{name: f.Name, semantic: f.Semantic, unit: f.Unit}, before[f.Name])
	}
	return object
}

func (m *maker) array(s *dtdl.Schema, previous any) []any {
	before, _ := previous.([]any)
	array := []any{}
	for i := range 3 {
		if m.left <= 0 || empty(s.Element) {
			break
		}
		var old any
		if i < len(before) {
			old = before[i]
		}
		array = append(array, m.value(s.Element, measure{}, old))
	}
	return array
}

func (m *maker) keyed(s *dtdl.Schema, previous any) map[string]any {
	before, _ := previous.(map[string]any)
	values := map[string]any{}
	for _, key := range []string{"first", "second"} {
		if m.left > 0 && !empty(s.Element) {
			values[key] = m.value(s.Element, measure{}, before[key])
		}
	}
	return values
}

// empty tells whether no value fits: DTDL v3 allows Enums without values.
func empty(s *dtdl.Schema) bool { return s.Kind == dtdl.Enum && len(s.Values) == 0 }
