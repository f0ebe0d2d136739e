package dtdl

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxValueProblems are told of one value.
const maxValueProblems = 20

// ValueProblem is one place where a value does not fit its schema.
type ValueProblem struct {
	// Path within the value, a JSON path; the value itself is $.
	Path string
	// Message says what is wrong.
	Message string
}

// String is the problem in one line.
func (p ValueProblem) String() string { return p.Path + ": " + p.Message }

// Of is the path with the value's name for its root.
func (p ValueProblem) Of(name string) string { return name + strings.TrimPrefix(p.Path, "$") }

// Check says where the value does not fit the schema; nil when it does. Values are
// those of encoding/json, with or without UseNumber: nil, bool, float64, json.Number,
// string, []any and map[string]any; whole numbers may be int64, too. Of an object, fields may be missing; fields no one
// knows are problems. At most 20 problems are told.
func (s *Schema) Check(value any) []ValueProblem {
	v := &valueCheck{}
	v.check(s, value, "$")
	return v.problems
}

// Check is the schema's [Schema.Check], and for numbers also that of the least and
// greatest value.
func (c *Content) Check(value any) []ValueProblem {
	if c.Schema == nil {
		return []ValueProblem{{"$", fmt.Sprintf("the %s %s has no value", strings.ToLower(string(c.Kind)), c.Name)}}
	}
	problems := c.Schema.Check(value)
	if len(problems) > 0 || !c.Schema.Numeric() {
		return problems
	}
	number, _ := float(value)
	if c.Min != nil && number < *c.Min {
		return []ValueProblem{{"$", fmt.Sprintf("%v is less than the least value %v", number, *c.Min)}}
	}
	if c.Max != nil && number > *c.Max {
		return []ValueProblem{{"$", fmt.Sprintf("%v is greater than the greatest value %v", number, *c.Max)}}
	}
	return nil
}

// Check is the schema's [Schema.Check]; where the payload may be null, nil fits, too.
func (p *Payload) Check(value any) []ValueProblem {
	if value == nil && p.Nullable {
		return nil
	}
	return p.Schema.Check(value)
}

type valueCheck struct {
	problems []ValueProblem
}

func (v *valueCheck) add(path, format string, args ...any) {
	if len(v.problems) < maxValueProblems {
		v.problems = append(v.problems, ValueProblem{path, fmt.Sprintf(format, args...)})
	}
}

func (v *valueCheck) check(s *Schema, value any, path string) {
	if len(v.problems) == maxValueProblems {
		return
	}
	switch s.Kind {
	case Boolean:
		if _, ok := value.(bool); !ok {
			v.add(path, "%s is no boolean", show(value))
		}
	case Double, Float, Integer, Long:
		v.number(s.Kind, value, path)
	case String, Date, DateTime, Time, Duration:
		v.text(s.Kind, value, path)
	case Enum:
		v.enum(s, value, path)
	case Array:
		v.array(s, value, path)
	case Map, Object:
		v.object(s, value, path)
	case Geopoint:
		v.numbers(value, path, []string{"lat", "lon"}, []string{"alt"})
	case Vector:
		v.numbers(value, path, []string{"x", "y", "z"}, nil)
	default:
		v.geometry(s.Kind, value, path)
	}
}

func (v *valueCheck) number(kind SchemaKind, value any, path string) {
	number, ok := float(value)
	switch {
	case !ok:
		v.add(path, "%s is no number", show(value))
	case math.IsInf(number, 0) || math.IsNaN(number):
		v.add(path, "%s is beyond the numbers of a double", show(value))
	case kind == Float && math.Abs(number) > math.MaxFloat32:
		v.add(path, "%s is beyond the numbers of a float", show(value))
	case kind == Integer || kind == Long:
		v.integer(kind, value, number, path)
	}
}

func (v *valueCheck) integer(kind SchemaKind, value any, number float64, path string) {
	whole, ok := integer(value)
	switch {
	case number != math.Trunc(number):
		v.add(path, "%s is no whole number", show(value))
	case kind == Integer && (!ok || whole < math.MinInt32 || whole > math.MaxInt32):
		v.add(path, "%s is beyond the 32 bits of an integer", show(value))
	case !ok:
		v.add(path, "%s is beyond the 64 bits of a long", show(value))
	}
}

// float is the value as a number; infinite when it is too large for one.
func float(value any) (float64, bool) {
	switch n := value.(type) {
	case float64:
		return n, true
	case int64:
		return float64(n), true
	case json.Number:
		f, err := strconv.ParseFloat(n.String(), 64)
		return f, err == nil || math.IsInf(f, 0)
	}
	return 0, false
}

// integer is the value as a whole number, when it is one of 64 bits. 2.0 and 2e0 are 2.
func integer(value any) (int64, bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case json.Number:
		if whole, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
			return whole, true
		}
	}
	f, ok := float(value)
	// 2^63 itself is beyond, and the greatest float64 below is well within.
	if !ok || f != math.Trunc(f) || f < math.MinInt64 || f >= math.MaxInt64 {
		return 0, false
	}
	return int64(f), true
}

func (v *valueCheck) text(kind SchemaKind, value any, path string) {
	s, ok := value.(string)
	if !ok {
		v.add(path, "%s is no string, as a %s is written", show(value), kind)
		return
	}
	if want := badText(kind, s); want != "" {
		v.add(path, "%s is no %s: %s", quote(s), kind, want)
	}
}

func (v *valueCheck) enum(s *Schema, value any, path string) {
	wanted := value
	if s.ValueKind == Integer {
		if whole, ok := integer(value); ok {
			wanted = whole
		}
	}
	switch wanted.(type) {
	case int64, string:
		if slices.ContainsFunc(s.Values, func(e EnumValue) bool { return e.Value == wanted }) {
			return
		}
	}
	v.add(path, "%s is none of the Enum's values", show(value))
}

func (v *valueCheck) array(s *Schema, value any, path string) {
	items, ok := value.([]any)
	if !ok {
		v.add(path, "%s is no array", show(value))
		return
	}
	for i, item := range items {
		v.check(s.Element, item, path+"["+itoa(i)+"]")
	}
}

func (v *valueCheck) object(s *Schema, value any, path string) {
	members, ok := value.(map[string]any)
	if !ok {
		v.add(path, "%s is no object", show(value))
		return
	}
	for _, name := range sorted(members) {
		inside := s.Element
		if s.Kind == Object {
			inside = s.field(name)
		}
		if inside == nil {
			v.add(member(path, name), "the Object has no such field")
			continue
		}
		v.check(inside, members[name], member(path, name))
	}
}

// field is the schema of a field; nil when there is none of that name.
func (s *Schema) field(name string) *Schema {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return s.Fields[i].Schema
		}
	}
	return nil
}

// numbers checks an object of numbers.
func (v *valueCheck) numbers(value any, path string, required, optional []string) {
	members, ok := value.(map[string]any)
	if !ok {
		v.add(path, "%s is no object with %s", show(value), strings.Join(required, ", "))
		return
	}
	for _, name := range required {
		if _, ok := members[name]; !ok {
			v.add(path, "there is no %s", name)
		}
	}
	for _, name := range sorted(members) {
		if !slices.Contains(required, name) && !slices.Contains(optional, name) {
			v.add(member(path, name), "it has no such member")
			continue
		}
		v.number(Double, members[name], member(path, name))
	}
}

func sorted(members map[string]any) []string {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func member(path, name string) string {
	if len(name) > 64 || !plainKey.MatchString(name) {
		return path + "[" + quote(name) + "]"
	}
	return path + "." + name
}

// show is the value for a message.
func show(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case string:
		return quote(v)
	case map[string]any:
		return "an object"
	case []any:
		return "an array"
	}
	return short(fmt.Sprint(value))
}
