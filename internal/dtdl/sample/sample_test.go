package sample_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/dtdl/sample"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

var kinds = []dtdl.SchemaKind{
	dtdl.Boolean, dtdl.Date, dtdl.DateTime, dtdl.Double, dtdl.Duration, dtdl.Float, dtdl.Integer, dtdl.Long, dtdl.String, dtdl.Time,
	dtdl.Array, dtdl.Enum, dtdl.Map, dtdl.Object,
	dtdl.Point, dtdl.MultiPoint, dtdl.LineString, dtdl.MultiLineString, dtdl.Polygon, dtdl.MultiPolygon, dtdl.Geopoint, dtdl.Vector,
}

// schemas draws one of any kind.
func schemas(t *rapid.T, level int) *dtdl.Schema {
	s := &dtdl.Schema{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
	if level == 5 && (s.Kind == dtdl.Array || s.Kind == dtdl.Map || s.Kind == dtdl.Object) {
		s.Kind = dtdl.Double
	}
	switch s.Kind {
	case dtdl.Array, dtdl.Map:
		s.Element = schemas(t, level+1)
	case dtdl.Object:
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching("[a-z]{1,4}"), 0, 4, rapid.ID[string]).Draw(t, "fields") {
			s.Fields = append(s.Fields, dtdl.Field{Name: name, Schema: schemas(t, level+1)})
		}
	case dtdl.Enum:
		if rapid.Bool().Draw(t, "words") {
			s.ValueKind, s.Values = dtdl.String, []dtdl.EnumValue{{Name: "on", Value: "1"}, {Name: "off", Value: "0"}}
		} else {
			s.ValueKind, s.Values = dtdl.Integer, []dtdl.EnumValue{{Name: "on", Value: int64(1)}, {Name: "off", Value: int64(-2)}}
		}
	}
	return s
}

func contents(t *rapid.T) *dtdl.Content {
	c := &dtdl.Content{
		Kind: dtdl.Telemetry, Schema: schemas(t, 0),
		Name:     rapid.SampledFrom([]string{"temperature", "battery", "pressure", "x"}).Draw(t, "name"),
		Semantic: rapid.SampledFrom([]string{"", "Temperature", "Pressure", "Latitude", "Velocity", "Energy", "Torque"}).Draw(t, "semantic"),
		Unit:     rapid.SampledFrom([]string{"", "kelvin", "degreeFahrenheit", "bar", "knot", "unity"}).Draw(t, "unit"),
	}
	least := rapid.Float64Range(-2e9, 2e9).Draw(t, "least")
	most := least + rapid.Float64Range(1, 1e6).Draw(t, "wide") // a whole number has to fit
	if most > 2147483646 {
		return c
	}
	if rapid.Bool().Draw(t, "min") {
		c.Min = &least
	}
	if rapid.Bool().Draw(t, "max") {
		c.Max = &most
	}
	return c
}

func TestSamplesFitTheirModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := contents(t)
		rng := seeded(rapid.Uint64().Draw(t, "seed"))
		var previous any
		for i := range 20 {
			value := sample.Value(c, rng, noon.Add(time.Duration(i)*time.Minute), previous)
			require.Empty(t, c.Check(value), "%v", value)
			written, err := json.Marshal(value)
			require.NoError(t, err)
			previous = value
			if i%2 == 1 { // the value before may also come back from JSON
				require.NoError(t, json.Unmarshal(written, &previous))
				require.Empty(t, c.Check(previous), "%s", written)
			}
		}
	})
}

func TestSamplesAreTheSameForTheSameSeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, seed := contents(t), rapid.Uint64().Draw(t, "seed")
		require.Equal(t, sample.Value(c, seeded(seed), noon, nil), sample.Value(c, seeded(seed), noon, nil))
	})
}

func TestEveryModelHasSamples(t *testing.T) {
	files, err := filepath.Glob("../testdata/valid/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	rng := seeded(7)
	for _, file := range files {
		document, err := os.ReadFile(file)
		require.NoError(t, err)
		model, err := dtdl.Parse(document)
		require.NoError(t, err)
		for _, in := range model.Interfaces {
			for _, c := range in.All {
				requireSample(t, c, rng)
			}
		}
	}
}

func requireSample(t *testing.T, c *dtdl.Content, rng *rand.Rand) {
	t.Helper()
	switch c.Kind {
	case dtdl.Telemetry, dtdl.Property:
		if c.Schema.Kind == dtdl.Enum && len(c.Schema.Values) == 0 {
			require.Nil(t, sample.Value(c, rng, noon, nil), "no value fits an Enum without any")
			return
		}
		require.Empty(t, c.Check(sample.Value(c, rng, noon, nil)), c.Name)
	case dtdl.Command:
		if c.Request != nil {
			require.Empty(t, c.Request.Check(sample.Payload(c.Request, rng, noon)), c.Name)
		}
	default:
		require.Nil(t, sample.Value(c, rng, noon, nil))
	}
}

func TestSamplesArePlausible(t *testing.T) {
	for _, tc := range []struct {
		semantic, unit string
		least, most    float64
	}{
		{"Temperature", "degreeCelsius", 5, 35},
		{"Temperature", "kelvin", 278, 308},
		{"Temperature", "degreeFahrenheit", 41, 95},
		{"RelativeHumidity", "percent", 0, 100},
		{"RelativeHumidity", "unity", 0, 1},
		{"Pressure", "hectopascal", 980, 1050},
		{"Pressure", "bar", 0.98, 1.05},
		{"Latitude", "degreeOfArc", 46, 49},
	} {
		c := &dtdl.Content{Kind: dtdl.Telemetry, Name: "x", Semantic: tc.semantic, Unit: tc.unit, Schema: &dtdl.Schema{Kind: dtdl.Double}}
		rng, seen := seeded(3), map[float64]bool{}
		var previous any
		for range 500 {
			previous = sample.Value(c, rng, noon, previous)
			number := previous.(float64)
			seen[number] = true
			require.True(t, tc.least <= number && number <= tc.most, "%s in %s: %v", tc.semantic, tc.unit, number)
		}
		require.Greater(t, len(seen), 30, "%s in %s does not change", tc.semantic, tc.unit)
	}
}

func TestBooleansRarelyTurn(t *testing.T) {
	c := &dtdl.Content{Kind: dtdl.Telemetry, Name: "door", Schema: &dtdl.Schema{Kind: dtdl.Boolean}}
	rng, turns := seeded(5), 0
	previous := sample.Value(c, rng, noon, nil)
	for range 1000 {
		next := sample.Value(c, rng, noon, previous)
		if next != previous {
			turns++
		}
		previous = next
	}
	require.InDelta(t, 50, turns, 30)
}

func TestSchemasUsedManyTimesInEachOtherMakeSmallSamples(t *testing.T) {
	s := &dtdl.Schema{Kind: dtdl.Double}
	for range 5 {
		wide := &dtdl.Schema{Kind: dtdl.Object}
		for i := range 26 {
			wide.Fields = append(wide.Fields, dtdl.Field{Name: string(rune('a' + i)), Schema: s})
		}
		s = wide
	}
	c := &dtdl.Content{Kind: dtdl.Telemetry, Name: "deep", Schema: s}
	value := sample.Value(c, seeded(1), noon, nil)
	require.Empty(t, c.Check(value))
	written, err := json.Marshal(value)
	require.NoError(t, err)
	require.Less(t, len(written), 64<<10)
}
