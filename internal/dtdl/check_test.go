package dtdl

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func decode(t testing.TB, text string) any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	require.NoError(t, decoder.Decode(&value))
	return value
}

func TestValuesAreCheckedAgainstTheirSchema(t *testing.T) {
	modes := &Schema{Kind: Enum, ValueKind: Integer, Values: []EnumValue{{Name: "off", Value: int64(0)}, {Name: "on", Value: int64(1)}}}
	colors := &Schema{Kind: Enum, ValueKind: String, Values: []EnumValue{{Name: "red", Value: "r"}}}
	object := &Schema{Kind: Object, Fields: []Field{{Name: "mode", Schema: modes}, {Name: "at", Schema: &Schema{Kind: DateTime}}}}
	for _, tc := range []struct {
		schema    *Schema
		good, bad []string
	}{
		{&Schema{Kind: Boolean}, []string{`true`, `false`}, []string{`1`, `"true"`, `null`}},
		{&Schema{Kind: Double}, []string{`1`, `-2.5e300`, `0`}, []string{`"1"`, `1e400`, `null`, `true`}},
		{&Schema{Kind: Float}, []string{`3.4e38`, `-1.5`}, []string{`3.5e38`, `[]`}},
		{&Schema{Kind: Integer}, []string{`2147483647`, `-2147483648`, `2.0`, `2e3`}, []string{`2147483648`, `-2147483649`, `2.5`, `"2"`, `1e30`}},
		{&Schema{Kind: Long}, []string{`9223372036854775807`, `-9223372036854775808`, `1e18`}, []string{`9223372036854775808`, `0.5`, `1e19`, `-1e400`}},
		{&Schema{Kind: String}, []string{`""`, `"ü"`}, []string{`1`, `null`, `{}`}},
		{&Schema{Kind: Date}, []string{`"2020-05-17"`, `"2024-02-29"`}, []string{`"2020-13-01"`, `"2023-02-29"`, `"17.5.2020"`, `"2020-05-17T00:00:00Z"`, `5`}},
		{&Schema{Kind: DateTime}, []string{`"2020-08-30T19:16:13.853Z"`, `"2020-08-30T19:16:13+02:00"`, `"2020-08-30t19:16:13z"`}, []string{`"2020-08-30T19:16:13"`, `"2020-08-30"`, `"2020-08-30 19:16:13Z"`, `1598814973`}},
		{&Schema{Kind: Time}, []string{`"19:16:13"`, `"19:16:13.853Z"`, `"19:16:13+02:00"`}, []string{`"24:16:13Z"`, `"19:16"`, `"7pm"`}},
		{&Schema{Kind: Duration}, []string{`"PT10H24M6.169083011336625S"`, `"P1Y2M3DT4H"`, `"P3W"`, `"-PT5M"`, `"PT0,5S"`}, []string{`"P"`, `"PT"`, `"P1H"`, `"P1DT"`, `"1D"`, `"P1W2D"`, `5`}},
		{modes, []string{`0`, `1`, `1.0`}, []string{`2`, `"1"`, `"on"`, `null`}},
		{colors, []string{`"r"`}, []string{`"red"`, `0`}},
		{&Schema{Kind: Array, Element: modes}, []string{`[]`, `[0,1,1]`}, []string{`[2]`, `{}`, `0`}},
		{&Schema{Kind: Map, Element: &Schema{Kind: Double}}, []string{`{}`, `{"a":1,"b c":2}`}, []string{`{"a":"x"}`, `[]`}},
		{object, []string{`{}`, `{"mode":1}`, `{"mode":0,"at":"2020-08-30T19:16:13Z"}`}, []string{`{"mode":7}`, `{"Mode":1}`, `[]`, `null`}},
		{&Schema{Kind: Geopoint}, []string{`{"lat":47.6,"lon":-122.1}`, `{"lat":1,"lon":2,"alt":0}`}, []string{`{"lat":1}`, `{"lat":1,"lon":"2"}`, `{"lat":1,"lon":2,"z":3}`, `[1,2]`}},
		{&Schema{Kind: Vector}, []string{`{"x":1,"y":2,"z":3}`}, []string{`{"x":1,"y":2}`, `{"x":1,"y":2,"z":null}`}},
		{&Schema{Kind: Point}, []string{`{"type":"Point","coordinates":[47.6,-122.1]}`, `{"type":"Point","coordinates":[1,2,3],"bbox":[]}`}, []string{`{"type":"Point","coordinates":[1]}`, `{"type":"Point"}`, `{"type":"Polygon","coordinates":[1,2]}`, `{"type":["Point"]}`, `{"type":{}}`, `[1,2]`}},
		{&Schema{Kind: MultiPoint}, []string{`{"type":"MultiPoint","coordinates":[]}`, `{"type":"MultiPoint","coordinates":[[1,2]]}`}, []string{`{"type":"MultiPoint","coordinates":[1,2]}`}},
		{&Schema{Kind: LineString}, []string{`{"type":"LineString","coordinates":[[1,2],[3,4]]}`}, []string{`{"type":"LineString","coordinates":[[1,2]]}`, `{"type":"LineString","coordinates":[[1,2],["3",4]]}`}},
		{&Schema{Kind: MultiLineString}, []string{`{"type":"MultiLineString","coordinates":[[[1,2],[3,4]]]}`}, []string{`{"type":"MultiLineString","coordinates":[[1,2],[3,4]]}`}},
		{&Schema{Kind: Polygon}, []string{`{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}`}, []string{`{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,1]]]}`, `{"type":"Polygon","coordinates":[[[0,0],[1,0],[0,0]]]}`}},
		{&Schema{Kind: MultiPolygon}, []string{`{"type":"MultiPolygon","coordinates":[[[[0,0],[1,0],[1,1],[0,0]]]]}`}, []string{`{"type":"MultiPolygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}`}},
	} {
		for _, good := range tc.good {
			require.Empty(t, tc.schema.Check(decode(t, good)), "%s %s", tc.schema.Kind, good)
			var plain any
			if json.Unmarshal([]byte(good), &plain) == nil && tc.schema.Kind != Long { // a float64 rounds the greatest long up
				require.Empty(t, tc.schema.Check(plain), "%s %s as float64", tc.schema.Kind, good)
			}
		}
		for _, bad := range tc.bad {
			require.NotEmpty(t, tc.schema.Check(decode(t, bad)), "%s %s", tc.schema.Kind, bad)
		}
	}
}

func TestValueProblemsSayWhereAndWhat(t *testing.T) {
	schema := &Schema{Kind: Array, Element: &Schema{Kind: Object, Fields: []Field{
		{Name: "on", Schema: &Schema{Kind: Boolean}}, {Name: "limits", Schema: &Schema{Kind: Map, Element: &Schema{Kind: Integer}}},
	}}}
	problems := schema.Check(decode(t, `[{"on": true}, {"on": "yes", "off": 1, "limits": {"a b": 2.5}}]`))
	require.Equal(t, []ValueProblem{
		{`$[1].limits["a b"]`, "2.5 is no whole number"},
		{"$[1].off", "the Object has no such field"},
		{"$[1].on", `"yes" is no boolean`},
	}, problems)
}

func TestContentsBoundTheirNumbers(t *testing.T) {
	least, most := -10.0, 50.5
	c := &Content{Kind: Telemetry, Name: "t", Schema: &Schema{Kind: Double}, Min: &least, Max: &most}
	require.Empty(t, c.Check(json.Number("50.5")))
	require.Empty(t, c.Check(-10.0))
	require.Len(t, c.Check(json.Number("50.6")), 1)
	require.Len(t, c.Check(-11.0), 1)
	require.Len(t, c.Check("warm"), 1)
	require.Len(t, (&Content{Kind: Component, Name: "c"}).Check(1.0), 1)
}

func TestPayloadsMayBeNullOnlyWhenTheModelSaysSo(t *testing.T) {
	p := &Payload{Schema: &Schema{Kind: Double}}
	require.NotEmpty(t, p.Check(nil))
	p.Nullable = true
	require.Empty(t, p.Check(nil))
	require.NotEmpty(t, p.Check("x"))
}

func TestAValueNeverHasTooManyProblems(t *testing.T) {
	many := make([]any, 1000)
	require.Len(t, (&Schema{Kind: Array, Element: &Schema{Kind: Double}}).Check(many), maxValueProblems)
}

func FuzzCheck(f *testing.F) {
	for _, seed := range []string{`1`, `{"lat":1,"lon":2}`, `{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}`, `"PT5M"`, `[[[[]]]]`, `{"a":[1]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var value any
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if decoder.Decode(&value) != nil {
			return
		}
		for kind := range allKinds() {
			schema := &Schema{Kind: kind, Element: &Schema{Kind: Double}, ValueKind: Integer}
			require.LessOrEqual(t, len(schema.Check(value)), maxValueProblems)
		}
	})
}

func allKinds() map[SchemaKind]bool {
	all := map[SchemaKind]bool{}
	for _, kinds := range [][]SchemaKind{primitives, geospatials, centralKinds, complexes} {
		for _, kind := range kinds {
			all[kind] = true
		}
	}
	return all
}
