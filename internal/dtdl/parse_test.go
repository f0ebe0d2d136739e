package dtdl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func valid(t testing.TB, name string) []byte {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("testdata", "valid", name))
	require.NoError(t, err)
	return document
}

func TestValidDocumentsAreRead(t *testing.T) {
	files, err := filepath.Glob("testdata/valid/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			model, err := Parse(valid(t, filepath.Base(file)))
			require.NoError(t, err)
			require.NotEmpty(t, model.Root.All)
			require.Same(t, model.Root, model.Interfaces[model.Root.ID])
		})
	}
}

func TestComponentsShareTheirInterface(t *testing.T) {
	model, err := Parse(valid(t, "controller2.json"))
	require.NoError(t, err)
	require.Equal(t, 2, model.Version)
	first, second := model.Root.Find(Component, "thermostat1"), model.Root.Find(Component, "thermostat2")
	require.Same(t, first.Interface, second.Interface)
	require.Equal(t, "dtmi:com:fleetlog:Thermostat;1", first.Interface.ID)
	require.NotNil(t, model.Root.Find(Component, "deviceInformation").Interface.Find(Property, "swVersion"))
}

func TestMissingIdentifiersAreAssigned(t *testing.T) {
	model, err := Parse(valid(t, "thermostat2.json"))
	require.NoError(t, err)
	report := model.Root.Find(Command, "getMaxMinReport")
	require.Equal(t, "dtmi:com:fleetlog:Thermostat:_contents:__getMaxMinReport;1", report.ID)
	require.Equal(t, "dtmi:com:fleetlog:Thermostat:_contents:__getMaxMinReport:_response:_schema;1", report.Response.Schema.ID)

	model, err = Parse(valid(t, "sensor3.json"))
	require.NoError(t, err)
	require.Equal(t, "dtmi:com:fleetlog:Base:_contents:__temperature", model.Root.All[0].ID, "version 3 may leave the version out")
	require.Equal(t, "dtmi:com:fleetlog:Sensor:_contents:__co2;1.2", model.Root.Contents[0].ID)
}

func TestTheModelSaysWhatTheDocumentSays(t *testing.T) {
	model, err := Parse(valid(t, "thermostat2.json"))
	require.NoError(t, err)
	require.Equal(t, Text{"en": "Keeps a room warm", "de-CH": "Hält ein Zimmer warm"}, model.Root.Description)
	temperature, target := model.Root.Find(Telemetry, "temperature"), model.Root.Find(Property, "targetTemperature")
	require.Equal(t, "Temperature", temperature.Semantic)
	require.Equal(t, "degreeCelsius", temperature.Unit)
	require.Equal(t, []string{"Telemetry", "Temperature"}, temperature.Types)
	require.Equal(t, "$.contents[0]", temperature.Path)
	require.True(t, target.Writable)
	require.False(t, model.Root.Find(Property, "maxTempSinceLastReboot").Writable)
	report := model.Root.Find(Command, "getMaxMinReport")
	require.Equal(t, "Since", report.Request.DisplayName.String())
	require.Equal(t, Object, report.Response.Schema.Kind)
	require.Len(t, report.Response.Schema.Fields, 3)
}

func TestInheritedContentsComeFirst(t *testing.T) {
	model, err := Parse(valid(t, "space2.json"))
	require.NoError(t, err)
	require.Equal(t, "name", model.Root.All[0].Name)
	require.Len(t, model.Root.All, len(model.Root.Contents)+1)
	require.Len(t, model.Root.Extends, 1)
	place := model.Root.Find(Property, "devices").Schema.Element
	require.Same(t, model.Root.Schemas["dtmi:com:fleetlog:Room:place;1"], place)
	require.Equal(t, "dtmi:com:fleetlog:Floor;1", model.Root.Find(Relationship, "floor").Target)
	require.Equal(t, 1, model.Root.Find(Relationship, "floor").MaxMultiplicity)
	require.Len(t, model.Root.Find(Relationship, "cleanedBy").Properties, 1)
}

func TestIoTCentralsExtensionIsKept(t *testing.T) {
	model, err := Parse(valid(t, "iotcentral2.json"))
	require.NoError(t, err)
	root := model.Root
	cargo := root.Find(Telemetry, "cargo")
	require.InDelta(t, -40, *cargo.Min, 0)
	require.InDelta(t, 80.5, *cargo.Max, 0)
	require.Equal(t, 1, *cargo.Display.Decimals)
	require.Equal(t, "°C", cargo.Display.Unit.String())
	require.Equal(t, "warning", root.Find(Telemetry, "fault").Display.Severity)
	require.Equal(t, json.RawMessage("-18"), root.Find(Property, "target").InitialValue)
	require.Equal(t, json.RawMessage("10"), root.Find(Command, "defrost").Request.InitialValue)
	require.True(t, root.Find(Command, "defrost").Durable)
	require.True(t, root.Find(Property, "customer").Cloud)
	require.False(t, root.Find(Property, "door").Cloud)
	require.Equal(t, "closed", root.Find(Property, "door").Display.False.String())
	require.Equal(t, "metrePerSecond", root.Find(Telemetry, "velocity").Unit)
	require.NotNil(t, root.Find(Relationship, "filter").Interface.Find(Property, "period"))
	require.Equal(t, "dtmi:com:fleetlog:Pallet;1", root.Find(Relationship, "pallets").Target)
	require.Nil(t, root.Find(Relationship, "pallets").Interface)
	require.Contains(t, root.Types, "GatewayModel")
}

func TestVersion3KeepsUnitsWhereItAllowsThem(t *testing.T) {
	model, err := Parse(valid(t, "sensor3.json"))
	require.NoError(t, err)
	require.Equal(t, 3, model.Version)
	require.Equal(t, "hectopascal", model.Root.Find(Telemetry, "all").Schema.Fields[0].Unit)
	require.Equal(t, "Temperature", model.Root.Find(Command, "calibrate").Request.Semantic)
	require.True(t, model.Root.Find(Command, "calibrate").Request.Nullable)
	require.Equal(t, "temperature", model.Root.Find(Telemetry, "accuracy").Annotates)
}

func TestInATemplateTheContextMayBeMissing(t *testing.T) {
	document := []byte(`{"@id": "dtmi:com:fleetlog:Thing;1", "@type": "Interface", "contents": [
		{"@type": ["Telemetry", "Location"], "name": "place", "schema": "geopoint"},
		{"@type": "Property", "name": "1st", "schema": "double"}]}`)
	_, err := ParseAt(document, "$.capabilityModel")
	var problems Problems
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems, 1)
	require.Equal(t, "$.capabilityModel.contents[1].name", problems[0].Path)
	require.ErrorContains(t, err, "1st")

	model, err := ParseAt(bytes.Replace(document, []byte("1st"), []byte("first"), 1), "$.capabilityModel")
	require.NoError(t, err)
	require.Equal(t, 2, model.Version)
}

func TestDocumentsAreBounded(t *testing.T) {
	long := append([]byte(`[`), bytes.Repeat([]byte(" "), maxDocument)...)
	many := []byte("[" + strings.Repeat("0,", maxNodes) + "0]")
	crowd := []byte(`[{"@context":"dtmi:dtdl:context;3","@id":"dtmi:a:B;1","@type":"Interface","contents":[`)
	for i := range 3000 {
		crowd = fmt.Appendf(crowd, `{"@type":"Telemetry","name":"t%d","schema":"date"},`, i)
	}
	crowd = append(bytes.TrimSuffix(crowd, []byte(",")), "]}"...)
	for i := range 3000 {
		crowd = fmt.Appendf(crowd, `,{"@context":"dtmi:dtdl:context;3","@id":"dtmi:a:C%d;1","@type":"Interface","extends":"dtmi:a:B;1"}`, i)
	}
	crowd = append(crowd, ']')
	for name, document := range map[string][]byte{"long": long, "many": many, "crowd": crowd, "no UTF-8": {'"', 0xff, '"'}} {
		_, err := Parse(document)
		var problems Problems
		require.True(t, errors.As(err, &problems), name)
		require.Len(t, problems, 1, "%s: %v", name, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*.json", "testdata/broken/[a-d]*.json"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, file := range files {
			document, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(document)
		}
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		model, err := ParseAt(document, "$")
		if err != nil {
			var problems Problems
			require.ErrorAs(t, err, &problems)
			require.Nil(t, model)
			require.NotEmpty(t, problems)
			require.LessOrEqual(t, len(problems), maxProblems+1)
			return
		}
		again, err := ParseAt(document, "$")
		require.NoError(t, err)
		require.Equal(t, model.Root.ID, again.Root.ID)
		require.Len(t, again.Root.All, len(model.Root.All))
		for _, in := range model.Interfaces {
			requireWhole(t, in)
		}
	})
}

// requireWhole checks what others rely on in any model.
func requireWhole(t *testing.T, in *Interface) {
	t.Helper()
	names := map[string]bool{}
	for _, c := range in.All {
		require.NotEmpty(t, c.ID)
		require.False(t, names[c.Name], c.Name)
		names[c.Name] = true
		switch c.Kind {
		case Telemetry, Property:
			requireMade(t, c.Schema, 0)
		case Component:
			require.NotNil(t, c.Interface)
		}
	}
}

func requireMade(t *testing.T, s *Schema, level int) {
	t.Helper()
	require.NotNil(t, s)
	require.LessOrEqual(t, level, maxNesting)
	switch s.Kind {
	case Array, Map:
		requireMade(t, s.Element, level+1)
	case Enum:
		require.Contains(t, []SchemaKind{Integer, String}, s.ValueKind)
	}
}

func BenchmarkParseTemperatureController(b *testing.B) {
	document := valid(b, "controller2.json")
	b.ReportAllocs()
	b.SetBytes(int64(len(document)))
	for b.Loop() {
		if _, err := Parse(document); err != nil {
			b.Fatal(err)
		}
	}
}
