// Package sample makes up values for simulated devices: plausible ones, by schema
// and semantic type, that wander from one to the next.
//
// It is pure: the same generator state, time and previous value give the same
// value. Every value passes [dtdl.Content.Check].
package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
)

// Value is the content's next value after the previous one (nil: it is the first),
// as encoding/json would decode it.
func Value(c *dtdl.Content, random *rand.Rand, at time.Time, previous any) any {
	if c.Schema.Kind == dtdl.Object || c.Schema.Kind == dtdl.Enum || !numeric(c.Schema.Kind) {
		return Of(c.Schema, random, at, previous)
	}
	r := rangeOf(c)
	return within(c, r.next(random, at, previous), r)
}

// Of is a value of a schema.
func Of(s *dtdl.Schema, random *rand.Rand, at time.Time, previous any) any {
	switch s.Kind {
	case dtdl.Boolean:
		was, _ := previous.(bool)
		return was != (random.IntN(10) == 0)
	case dtdl.Double, dtdl.Float, dtdl.Integer, dtdl.Long:
		return round(s.Kind, percent.next(random, at, previous))
	case dtdl.Enum:
		return enumValue(s, random, previous)
	case dtdl.Array:
		return []any{Of(s.Element, random, at, nil)}
	case dtdl.Map:
		return map[string]any{"key1": Of(s.Element, random, at, member(previous, "key1"))}
	case dtdl.Object:
		out := map[string]any{}
		for _, f := range s.Fields {
			out[f.Name] = Of(f.Schema, random, at, member(previous, f.Name))
		}
		return out
	case dtdl.Geopoint:
		return map[string]any{"lat": walk(random, member(previous, "lat"), 47.64, 0.001, -90, 90), "lon": walk(random, member(previous, "lon"), -122.13, 0.001, -180, 180), "alt": walk(random, member(previous, "alt"), 50, 0.5, -100, 1000)}
	case dtdl.Vector:
		return map[string]any{"x": walk(random, member(previous, "x"), 0, 0.2, -5, 5), "y": walk(random, member(previous, "y"), 0, 0.2, -5, 5), "z": walk(random, member(previous, "z"), 1, 0.2, -5, 5)}
	case dtdl.Point, dtdl.MultiPoint, dtdl.LineString, dtdl.MultiLineString, dtdl.Polygon, dtdl.MultiPolygon:
		return geometry(s.Kind, random)
	}
	return text(s.Kind, random, at)
}

func numeric(k dtdl.SchemaKind) bool {
	return k == dtdl.Double || k == dtdl.Float || k == dtdl.Integer || k == dtdl.Long
}

func member(value any, name string) any {
	object, _ := value.(map[string]any)
	return object[name]
}

func text(kind dtdl.SchemaKind, random *rand.Rand, at time.Time) string {
	switch kind {
	case dtdl.Date:
		return at.UTC().Format(time.DateOnly)
	case dtdl.DateTime:
		return at.UTC().Format(time.RFC3339)
	case dtdl.Time:
		return at.UTC().Format("15:04:05Z")
	case dtdl.Duration:
		return fmt.Sprintf("PT%dS", 1+random.IntN(3600))
	}
	words := []string{"alder", "birch", "cedar", "elm", "larch", "maple", "oak", "pine", "rowan", "willow"}
	return words[random.IntN(len(words))]
}

func enumValue(s *dtdl.Schema, random *rand.Rand, previous any) any {
	if previous != nil && random.IntN(5) != 0 && len(s.Check(previous)) == 0 {
		return previous
	}
	value := s.Values[random.IntN(len(s.Values))].Value
	if i, ok := value.(int64); ok {
		return float64(i)
	}
	return value
}

func geometry(kind dtdl.SchemaKind, random *rand.Rand) any {
	at := func() any { return []any{-122.13 + random.Float64()/100, 47.64 + random.Float64()/100} }
	line := []any{at(), at()}
	start := at()
	ring := []any{start, at(), at(), start}
	coordinates := map[dtdl.SchemaKind]any{
		dtdl.Point: at(), dtdl.MultiPoint: line, dtdl.LineString: line, dtdl.MultiLineString: []any{line},
		dtdl.Polygon: []any{ring}, dtdl.MultiPolygon: []any{[]any{ring}},
	}
	names := map[dtdl.SchemaKind]string{
		dtdl.Point: "Point", dtdl.MultiPoint: "MultiPoint", dtdl.LineString: "LineString", dtdl.MultiLineString: "MultiLineString",
		dtdl.Polygon: "Polygon", dtdl.MultiPolygon: "MultiPolygon",
	}
	return map[string]any{"type": names[kind], "coordinates": coordinates[kind]}
}

// wander is a value that keeps around a middle within bounds.
type wander struct{ middle, step, low, high float64 }

var percent = wander{50, 2, 0, 100}

// usual is how values of a semantic type wander, in the unit named first.
var usual = map[string]wander{
	"degreeCelsius": {21, 0.3, -40, 60}, "degreeFahrenheit": {70, 0.5, -40, 140}, "kelvin": {294, 0.3, 233, 333},
	"percent": {45, 1, 0, 100}, "unity": {0.45, 0.01, 0, 1},
	"pascal": {101325, 50, 95000, 105000}, "kilopascal": {101.3, 0.05, 95, 105}, "bar": {1.013, 0.001, 0.9, 1.1}, "millibar": {1013, 0.5, 950, 1050},
	"volt": {230, 0.5, 207, 253}, "ampere": {5, 0.2, 0, 16}, "watt": {1150, 30, 0, 3600}, "kilowatt": {1.15, 0.03, 0, 10}, "hertz": {50, 0.01, 49, 51},
	"metrePerSecond": {3, 0.2, 0, 40}, "kilometrePerHour": {50, 2, 0, 130}, "lux": {400, 10, 0, 100000}, "decibel": {45, 1, 20, 110},
}

func rangeOf(c *dtdl.Content) wander {
	w, known := usual[c.Unit]
	switch {
	case c.Semantic == "Latitude":
		w = wander{47.64, 0.001, -90, 90}
	case c.Semantic == "Longitude":
		w = wander{-122.13, 0.001, -180, 180}
	case !known:
		w = percent
	}
	if c.Min != nil {
		w.low = *c.Min
		w.high = max(w.high, w.low)
	}
	if c.Max != nil {
		w.high = *c.Max
		w.low = min(w.low, w.high)
	}
	if c.Min != nil && c.Max != nil {
		w.low, w.high, w.step = *c.Min, *c.Max, (*c.Max-*c.Min)/50
	}
	if w.middle < w.low || w.middle > w.high {
		w.middle = w.low + (w.high-w.low)/2
	}
	return w
}

// next wanders on, drawn a little to the middle of the day's wave.
func (w wander) next(random *rand.Rand, at time.Time, previous any) float64 {
	day := float64(at.Unix()%86400) / 86400
	middle := w.middle + 3*w.step*math.Sin(2*math.Pi*day)
	was, ok := previous.(float64)
	if !ok {
		was = middle
	}
	return min(max(was+(middle-was)/20+w.step*(2*random.Float64()-1), w.low), w.high)
}

func walk(random *rand.Rand, previous any, start, step, low, high float64) any {
	return round(dtdl.Double, wander{start, step, low, high}.next(random, time.Time{}, previous))
}

// within rounds to the schema and keeps to the bounds.
func within(c *dtdl.Content, f float64, w wander) any {
	v := round(c.Schema.Kind, f)
	if len(c.Check(v)) == 0 {
		return v
	}
	for _, edge := range []float64{math.Ceil(w.low), math.Floor(w.high), w.low, w.high} {
		if len(c.Check(edge)) == 0 {
			return edge
		}
	}
	return v
}

func round(k dtdl.SchemaKind, f float64) float64 {
	if k == dtdl.Integer || k == dtdl.Long {
		return math.Round(f)
	}
	return math.Round(f*1e4) / 1e4
}
