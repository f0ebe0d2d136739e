package dtdl

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func files(t testing.TB, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("testdata", pattern))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return content
}

func TestSamplesAreValid(t *testing.T) {
	for _, file := range files(t, "valid/*.json") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			model, err := Parse(read(t, file))
			require.NoError(t, err)
			require.NotEmpty(t, model.Root.All)
			require.Same(t, model.Root, model.Interfaces[model.Root.ID])
		})
	}
}

// TestEachBrokenRuleIsTold compares what is said of broken documents, one rule or
// a few each, with golden files.
func TestEachBrokenRuleIsTold(t *testing.T) {
	for _, file := range files(t, "broken/*.json") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Parse(read(t, file))
			require.Error(t, err)
			golden := strings.TrimSuffix(file, ".json") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600))
			}
			require.Equal(t, string(read(t, golden)), err.Error()+"\n")
		})
	}
}

func TestTheControllerReadsAsWritten(t *testing.T) {
	model, err := Parse(read(t, "testdata/valid/temperature-controller-v2.json"))
	require.NoError(t, err)
	require.Equal(t, 2, model.Version)
	require.Equal(t, "dtmi:com:example:TemperatureController;2", model.Root.ID)
	working := model.Root.Find(Telemetry, "workingSet")
	require.Equal(t, "DataSize", working.Semantic)
	require.Equal(t, "kibibyte", working.Unit)
	require.Equal(t, "dtmi:com:example:TemperatureController:_contents:__workingSet;2", working.ID)
	one, two := model.Root.Find(Component, "thermostat1").Interface, model.Root.Find(Component, "thermostat2").Interface
	require.Same(t, one, two)
	require.True(t, one.Find(Property, "targetTemperature").Writable)
	require.Equal(t, DateTime, one.Find(Command, "getMaxMinReport").Request.Schema.Kind)
	require.Len(t, one.Find(Command, "getMaxMinReport").Response.Schema.Fields, 5)
	require.NotNil(t, model.Root.Find(Component, "deviceInformation").Interface.Find(Property, "manufacturer"))
}

func TestInheritedContentsComeFirst(t *testing.T) {
	model, err := Parse(read(t, "testdata/valid/inheritance.json"))
	require.NoError(t, err)
	names := make([]string, 0, len(model.Root.All))
	for _, c := range model.Root.All {
		names = append(names, c.Name)
	}
	require.Equal(t, []string{"occupied", "area", "floor"}, names)
	require.Len(t, model.Root.Contents, 1)
}

func TestATemplatesModelNeedsNoContext(t *testing.T) {
	model, err := ParseTemplate([]byte(`{"@id":"dtmi:a:b;1","@type":["Interface","DeviceModel"],"contents":[
		{"@type":["Property","Cloud","StringValue"],"name":"owner","schema":"string"},
		{"@type":["Property","Initialized","NumberValue"],"name":"level","schema":"double","writable":true,"initialValue":5,"minValue":0,"maxValue":10},
		{"@type":["Telemetry","Event","EventValue"],"name":"fault","schema":"string","severity":"warning"},
		{"@type":["Property","Location"],"name":"place","schema":"geopoint","writable":true},
		{"@type":"Command","name":"upgrade","durable":true}]}`), "$.capabilityModel")
	require.NoError(t, err)
	require.True(t, model.Root.Find(Property, "owner").Cloud)
	require.JSONEq(t, "5", string(model.Root.Find(Property, "level").InitialValue))
	require.True(t, model.Root.Find(Command, "upgrade").Durable)
	_, err = ParseTemplate([]byte(`{"@id":"dtmi:a:b;1","@type":"Interface","contents":[{"@type":"Telemetry","name":"x"}]}`), "$.capabilityModel")
	var problems Problems
	require.ErrorAs(t, err, &problems)
	require.Equal(t, "$.capabilityModel.contents[0]", problems[0].Path)
}

func TestProblemsAreBounded(t *testing.T) {
	contents := strings.Repeat(`{"@type":"Telemetry"},`, 250)
	_, err := Parse([]byte(`{"@context":"dtmi:dtdl:context;2","@id":"dtmi:a:b;1","@type":"Interface","contents":[` + strings.TrimSuffix(contents, ",") + `]}`))
	var problems Problems
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems, maxProblems+1)
	require.Contains(t, problems[maxProblems].Message, "150 more")
}

func TestValues(t *testing.T) {
	enum := &Schema{Kind: Enum, ValueKind: Integer, Values: []EnumValue{{Name: "on", Value: int64(1)}}}
	object := &Schema{Kind: Object, Fields: []Field{{Name: "at", Schema: &Schema{Kind: Time}}, {Name: "list", Schema: &Schema{Kind: Array, Element: &Schema{Kind: Integer}}}}}
	for _, tc := range []struct {
		schema *Schema
		value  string
		wrong  string // path and the beginning of the message; empty: fits
	}{
		{&Schema{Kind: Boolean}, `true`, ""},
		{&Schema{Kind: Boolean}, `1`, " is not true or false"},
		{&Schema{Kind: Integer}, `2147483647`, ""},
		{&Schema{Kind: Integer}, `2147483648`, " is not a whole number of 32 bits"},
		{&Schema{Kind: Integer}, `1.5`, " is not a whole number"},
		{&Schema{Kind: Long}, `9007199254740991`, ""},
		{&Schema{Kind: Long}, `1e300`, " is not a whole number of 64 bits"},
		{&Schema{Kind: Float}, `1e300`, " is beyond a float's range"},
		{&Schema{Kind: Double}, `"1"`, " is not a number"},
		{&Schema{Kind: String}, `null`, " is not a string"},
		{&Schema{Kind: Date}, `"2026-11-23"`, ""},
		{&Schema{Kind: Date}, `"2026-13-23"`, " is not a date"},
		{&Schema{Kind: DateTime}, `"2020-08-30T19:16:13.853Z"`, ""},
		{&Schema{Kind: DateTime}, `"2020-08-30"`, " is not a time"},
		{&Schema{Kind: Duration}, `"PT10H24M6.169083011336625S"`, ""},
		{&Schema{Kind: Duration}, `"PT"`, " is not a duration"},
		{&Schema{Kind: Duration}, `"P"`, " is not a duration"},
		{&Schema{Kind: Time}, `"23:59:59Z"`, ""},
		{&Schema{Kind: Time}, `"24:00:00"`, " is not a time of day"},
		{enum, `1`, ""},
		{enum, `2`, " is none of the values [1]"},
		{&Schema{Kind: Geopoint}, `{"lat":47.6,"lon":-122.1,"alt":0}`, ""},
		{&Schema{Kind: Geopoint}, `{"lat":47.6}`, " has no lon"},
		{&Schema{Kind: Vector}, `{"x":1,"y":2,"z":"3"}`, ".z is not a number"},
		{&Schema{Kind: Point}, `{"type":"Point","coordinates":[1,2]}`, ""},
		{&Schema{Kind: Polygon}, `{"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1],["a",0]]]}`, ".coordinates[0][3][0] is not a number"},
		{object, `{"list":[1,2]}`, ""},
		{object, `{"list":[1,"2"]}`, ".list[1] is not a number"},
		{object, `{"colour":1}`, ".colour is no field"},
		{&Schema{Kind: Map, Element: &Schema{Kind: Boolean}}, `{"a b":1}`, `["a b"] is not true or false`},
	} {
		var value any
		require.NoError(t, json.Unmarshal([]byte(tc.value), &value))
		found := tc.schema.Check(value)
		if tc.wrong == "" {
			require.Empty(t, found, tc.value)
			continue
		}
		require.NotEmpty(t, found, tc.value)
		require.Contains(t, found[0].Path+" "+found[0].Message, tc.wrong)
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"valid/*.json", "broken/*.json"} {
		for _, file := range files(f, pattern) {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		model, err := Parse(document)
		if err != nil {
			var problems Problems
			require.ErrorAs(t, err, &problems)
			require.NotEmpty(t, problems)
			require.LessOrEqual(t, len(problems), maxProblems+1)
			return
		}
		require.NotNil(t, model.Root)
		again, err := Parse(document)
		require.NoError(t, err)
		require.Equal(t, len(model.Root.All), len(again.Root.All))
	})
}

func BenchmarkParse(b *testing.B) {
	document := read(b, "testdata/valid/temperature-controller-v2.json")
	b.SetBytes(int64(len(document)))
	for b.Loop() {
		if _, err := Parse(document); err != nil {
			b.Fatal(err)
		}
	}
}
