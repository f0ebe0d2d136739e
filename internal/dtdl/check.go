package dtdl

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// ValueProblem is what keeps a value from being of a schema.
type ValueProblem struct {
	// Path within the value, `.window[2]`; empty for the value itself.
	Path    string
	Message string
}

// maxValueProblems bounds how many are told of one value.
const maxValueProblems = 20

// Check compares a value with the content's schema and bounds. The value is what
// encoding/json decodes, numbers as float64 or json.Number.
func (c *Content) Check(value any) []ValueProblem {
	found := c.Schema.Check(value)
	if f, ok := number(value); ok && len(found) == 0 {
		if c.Min != nil && f < *c.Min {
			found = append(found, ValueProblem{Message: fmt.Sprintf("is less than %v", *c.Min)})
		}
		if c.Max != nil && f > *c.Max {
			found = append(found, ValueProblem{Message: fmt.Sprintf("is greater than %v", *c.Max)})
		}
	}
	return found
}

// Check compares a value with the schema, as [Content.Check] does.
func (s *Schema) Check(value any) []ValueProblem {
	c := checker{}
	c.check(s, value, "")
	return c.found
}

type checker struct{ found []ValueProblem }

func (c *checker) wrong(path, format string, args ...any) {
	if len(c.found) < maxValueProblems {
		c.found = append(c.found, ValueProblem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

// Formats of text values: ISO 8601 as RFC 3339 and XML Schema write it (DTDL v2
// §Primitive schemas).
var (
	durationText = regexp.MustCompile(`^-?P(?:\d+Y)?(?:\d+M)?(?:\d+W)?(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+(?:[.,]\d+)?S)?)?$`)
	timeText     = regexp.MustCompile(`^([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(?:\.\d+)?(?:Z|[+-]([01]\d|2[0-3]):?[0-5]\d)?$`)
)

const maxTextBytes = 1 << 20

func (c *checker) check(s *Schema, value any, path string) {
	if s == nil { // of a document that has problems
		return
	}
	switch s.Kind {
	case Boolean:
		if _, ok := value.(bool); !ok {
			c.wrong(path, "is not true or false")
		}
	case Double, Float, Integer, Long:
		c.number(s.Kind, value, path)
	case String, Date, DateTime, Duration, Time:
		c.text(s.Kind, value, path)
	case Enum:
		c.enum(s, value, path)
	case Array:
		items, ok := value.([]any)
		if !ok {
			c.wrong(path, "is not an array")
		}
		for i, item := range items {
			c.check(s.Element, item, path+"["+strconv.Itoa(i)+"]")
		}
	case Map:
		members, ok := value.(map[string]any)
		if !ok {
			c.wrong(path, "is not an object")
		}
		for _, name := range sortedNames(members) {
			c.check(s.Element, members[name], path+step(name))
		}
	case Object:
		c.object(s, value, path)
	case Geopoint:
		c.members(value, path, []string{"lat", "lon"}, []string{"alt"})
	case Vector:
		c.members(value, path, []string{"x", "y", "z"}, nil)
	default:
		c.geospatial(s.Kind, value, path)
	}
}

// number is a value that is one.
func number(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	}
	return 0, false
}

func (c *checker) number(kind SchemaKind, value any, path string) {
	f, ok := number(value)
	whole := ok && f == math.Trunc(f)
	switch {
	case !ok:
		c.wrong(path, "is not a number")
	case kind == Integer && (!whole || f < math.MinInt32 || f > math.MaxInt32):
		c.wrong(path, "is not a whole number of 32 bits")
	case kind == Long && (!whole || f < math.MinInt64 || f >= math.MaxInt64):
		c.wrong(path, "is not a whole number of 64 bits")
	case kind == Float && math.Abs(f) > math.MaxFloat32:
		c.wrong(path, "is beyond a float's range")
	}
}

func (c *checker) text(kind SchemaKind, value any, path string) {
	s, ok := value.(string)
	if !ok || len(s) > maxTextBytes {
		c.wrong(path, "is not a string")
		return
	}
	switch kind {
	case Date:
		if _, err := time.Parse(time.DateOnly, s); err != nil {
			c.wrong(path, "is not a date like 2026-11-23")
		}
	case DateTime:
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			c.wrong(path, "is not a time like 2026-11-23T10:00:00Z")
		}
	case Duration:
		if !durationText.MatchString(s) || s[len(s)-1] == 'P' || s[len(s)-1] == 'T' {
			c.wrong(path, "is not a duration like PT1H30M")
		}
	case Time:
		if !timeText.MatchString(s) {
			c.wrong(path, "is not a time of day like 10:00:00Z")
		}
	}
}

func (c *checker) enum(s *Schema, value any, path string) {
	matches := func(v EnumValue) bool {
		if s.ValueKind == String {
			return v.Value == value
		}
		f, ok := number(value)
		i, isInt := v.Value.(int64)
		return ok && isInt && f == float64(i)
	}
	if !slices.ContainsFunc(s.Values, matches) {
		allowed := make([]any, 0, len(s.Values))
		for _, v := range s.Values[:min(len(s.Values), 10)] {
			allowed = append(allowed, v.Value)
		}
		c.wrong(path, "is none of the values %v", allowed)
	}
}

func (c *checker) object(s *Schema, value any, path string) {
	members, ok := value.(map[string]any)
	if !ok {
		c.wrong(path, "is not an object")
		return
	}
	for _, name := range sortedNames(members) {
		i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
		if i < 0 {
			c.wrong(path+step(name), "is no field of the schema")
			continue
		}
		c.check(s.Fields[i].Schema, members[name], path+step(name))
	}
}

// members checks an object of numbers (FEATURES.md PAY-06).
func (c *checker) members(value any, path string, need, may []string) {
	members, ok := value.(map[string]any)
	if !ok {
		c.wrong(path, "is not an object with %v", need)
		return
	}
	for _, name := range need {
		if _, there := members[name]; !there {
			c.wrong(path, "has no %s", name)
		}
	}
	for _, name := range sortedNames(members) {
		if !slices.Contains(need, name) && !slices.Contains(may, name) {
			c.wrong(path+step(name), "is not expected: use %v", append(slices.Clone(need), may...))
		} else if _, ok := number(members[name]); !ok && members[name] != nil {
			c.wrong(path+step(name), "is not a number")
		}
	}
}

// depths of GeoJSON's coordinates, and its names (RFC 7946 §3.1).
var (
	coordinateDepth = map[SchemaKind]int{Point: 1, MultiPoint: 2, LineString: 2, MultiLineString: 3, Polygon: 3, MultiPolygon: 4}
	geometryName    = map[SchemaKind]string{
		Point: "Point", MultiPoint: "MultiPoint", LineString: "LineString", MultiLineString: "MultiLineString", Polygon: "Polygon", MultiPolygon: "MultiPolygon",
	}
)

func (c *checker) geospatial(kind SchemaKind, value any, path string) {
	geometry, ok := value.(map[string]any)
	if !ok || geometry["type"] != geometryName[kind] {
		c.wrong(path, "is not GeoJSON of type %s", geometryName[kind])
		return
	}
	c.coordinates(geometry["coordinates"], coordinateDepth[kind], path+".coordinates")
}

func (c *checker) coordinates(value any, depth int, path string) {
	items, ok := value.([]any)
	if !ok || depth == 1 && (len(items) < 2 || len(items) > 3) {
		c.wrong(path, "is not an array of coordinates")
		return
	}
	for i, item := range items {
		at := path + "[" + strconv.Itoa(i) + "]"
		if depth > 1 {
			c.coordinates(item, depth-1, at)
		} else if _, ok := number(item); !ok {
			c.wrong(at, "is not a number")
		}
	}
}

func sortedNames(members map[string]any) []string {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
