package dtdl

import (
	"fmt"
	"strings"
)

// geometries are the GeoJSON types of the geospatial schemas and how deep the arrays
// of their coordinates are (RFC 7946 §3.1).
var geometries = map[SchemaKind]struct {
	name  string
	depth int
}{
	Point: {"Point", 0}, MultiPoint: {"MultiPoint", 1}, LineString: {"LineString", 1},
	MultiLineString: {"MultiLineString", 2}, Polygon: {"Polygon", 2}, MultiPolygon: {"MultiPolygon", 3},
}

// geometry checks a GeoJSON geometry. Members besides its type and coordinates are
// allowed (RFC 7946 §6.1); which of the coordinates is the latitude is not looked at,
// as the examples of DTDL have it otherwise than RFC 7946.
func (v *valueCheck) geometry(kind SchemaKind, value any, path string) {
	want, ok := geometries[kind]
	if !ok { // no schema has another kind
		return
	}
	members, ok := value.(map[string]any)
	if !ok {
		v.add(path, "%s is no GeoJSON object", show(value))
		return
	}
	if members["type"] != want.name {
		v.add(member(path, "type"), "%s is not %q", show(members["type"]), want.name)
		return
	}
	v.coordinates(kind, want.depth, members["coordinates"], path+".coordinates")
}

func (v *valueCheck) coordinates(kind SchemaKind, depth int, value any, path string) {
	items, ok := value.([]any)
	switch {
	case !ok:
		v.add(path, "%s is no array of coordinates", show(value))
	case depth == 0:
		v.position(items, path)
	case depth == 1 && len(items) < least(kind):
		v.add(path, "there are %d positions, of at least %d", len(items), least(kind))
	default:
		for i, item := range items {
			v.coordinates(kind, depth-1, item, path+"["+itoa(i)+"]")
		}
		if depth == 1 && isPolygon(kind) && positionKey(items[0]) != positionKey(items[len(items)-1]) {
			v.add(path, "the ring does not end where it begins")
		}
	}
}

func isPolygon(kind SchemaKind) bool { return kind == Polygon || kind == MultiPolygon }

// least is how many positions a line or a ring has (RFC 7946 §3.1.4, §3.1.6).
func least(kind SchemaKind) int {
	switch kind {
	case LineString, MultiLineString:
		return 2
	case Polygon, MultiPolygon:
		return 4
	}
	return 0
}

func (v *valueCheck) position(items []any, path string) {
	if len(items) < 2 || len(items) > 3 {
		v.add(path, "a position has 2 or 3 numbers, this one %d", len(items))
		return
	}
	for i, item := range items {
		v.number(Double, item, path+"["+itoa(i)+"]")
	}
}

// positionKey is a position's numbers, to compare it with another.
func positionKey(position any) string {
	items, _ := position.([]any)
	numbers := make([]string, len(items))
	for i := range items {
		numbers[i] = fmt.Sprint(items[i])
	}
	return strings.Join(numbers, " ")
}
