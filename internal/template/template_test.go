package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/stretchr/testify/require"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	return document
}

func parsed(t testing.TB, document []byte) *Template {
	t.Helper()
	template, err := Parse(document)
	require.NoError(t, err)
	return template
}

func TestTheSamplesRead(t *testing.T) {
	thermostat := parsed(t, sample(t, "thermostat"))
	require.Equal(t, "Thermostat", thermostat.DisplayName)
	require.Equal(t, "dtmi:contoso:Thermostat;1", thermostat.ModelID())
	require.JSONEq(t, `{"targetTemperature":21}`, string(thermostat.Initial()))
	require.True(t, thermostat.Interface("").Find(dtdl.Property, "customer").Cloud)

	controller := parsed(t, sample(t, "temperature-controller"))
	require.Len(t, controller.Components(), 3)
	require.NotNil(t, controller.Interface("thermostat2").Find(dtdl.Command, "getMaxMinReport"))
	require.Nil(t, controller.Interface("thermostat3"))
	require.Nil(t, controller.Initial())

	gateway := parsed(t, sample(t, "edge-gateway"))
	require.Len(t, gateway.Modules(), 1)
	require.NotNil(t, gateway.Module("camera", "").Find(dtdl.Property, "fps"))
	require.NotNil(t, gateway.Module("camera", "lens").Find(dtdl.Property, "focus"))
	require.Nil(t, gateway.Module("other", ""))
}

func TestAllProblemsAreToldFromTheTemplatesRoot(t *testing.T) {
	_, err := Parse([]byte(`{"@id":"x","@type":"Thing","capabilityModel":{"@id":"dtmi:a:b;1","@type":"Interface","contents":[{"@type":"Telemetry","name":"x"}]}}`))
	var problems dtdl.Problems
	require.ErrorAs(t, err, &problems)
	var paths []string
	for _, p := range problems {
		paths = append(paths, p.Path)
	}
	require.Equal(t, []string{"$.@id", "$.@type", "$.capabilityModel.contents[0]"}, paths)
	for _, bad := range []string{``, `7`, `[]`, `{}`, `{"@id":"dtmi:a:b;1","@type":["DeviceModel"]}`, `{"@id":7}`} {
		_, err := Parse([]byte(bad))
		require.ErrorAs(t, err, &problems, bad)
	}
}

// contents is a template with these contents.
func contents(t testing.TB, contents string) *Template {
	t.Helper()
	return parsed(t, []byte(`{"@id":"dtmi:a:t;1","@type":["DeviceModel"],"capabilityModel":{"@id":"dtmi:a:b;1","@type":"Interface","contents":[`+contents+`]}}`))
}

func TestWhatIsBreaking(t *testing.T) {
	const enum = `{"@type":"Telemetry","name":"x","schema":{"@type":"Enum","valueSchema":"integer","enumValues":[`
	const object = `{"@type":"Telemetry","name":"x","schema":{"@type":"Object","fields":[`
	component := func(contents string) string {
		return `{"@type":"Component","name":"c","schema":{"@id":"dtmi:a:c;1","@type":"Interface","contents":[` + contents + `]}}`
	}
	const telemetry = `{"@type":"Telemetry","name":"x","schema":"double"}`
	for _, tc := range []struct {
		name, from, to string
		want           []Change // without reasons
	}{
		{"nothing", telemetry, telemetry, nil},
		{"added", ``, telemetry, []Change{{Path: "x", What: Added, Breaking: false}}},
		{"removed", telemetry, ``, []Change{{Path: "x", What: Removed, Breaking: true}}},
		{"another kind", telemetry, `{"@type":"Property","name":"x","schema":"double"}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"another schema", telemetry, `{"@type":"Telemetry","name":"x","schema":"string"}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"another name to look at", telemetry, `{"@type":"Telemetry","name":"x","displayName":"X","schema":"double"}`, []Change{{Path: "x", What: Changed, Breaking: false}}},
		{"a cloud property", `{"@type":"Property","name":"x","schema":"double"}`, `{"@type":["Property","Cloud"],"name":"x","schema":"double"}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"no longer writable", `{"@type":"Property","name":"x","schema":"double","writable":true}`, `{"@type":"Property","name":"x","schema":"double"}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"now writable", `{"@type":"Property","name":"x","schema":"double"}`, `{"@type":"Property","name":"x","schema":"double","writable":true}`, []Change{{Path: "x", What: Changed, Breaking: false}}},
		{"another unit", `{"@type":["Telemetry","Temperature"],"name":"x","schema":"double","unit":"kelvin"}`, `{"@type":["Telemetry","Temperature"],"name":"x","schema":"double","unit":"degreeCelsius"}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"more values", enum + `{"name":"a","enumValue":1}]}}`, enum + `{"name":"a","enumValue":1},{"name":"b","enumValue":2}]}}`, []Change{{Path: "x", What: Changed, Breaking: false}}},
		{"fewer values", enum + `{"name":"a","enumValue":1},{"name":"b","enumValue":2}]}}`, enum + `{"name":"a","enumValue":1}]}}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"more fields", object + `{"name":"a","schema":"double"}]}}`, object + `{"name":"a","schema":"double"},{"name":"b","schema":"double"}]}}`, []Change{{Path: "x", What: Changed, Breaking: false}}},
		{"another field", object + `{"name":"a","schema":"double"}]}}`, object + `{"name":"a","schema":"string"}]}}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"a command's payload", `{"@type":"Command","name":"x","request":{"name":"r","schema":"double"}}`, `{"@type":"Command","name":"x"}`, []Change{{Path: "x", What: Changed, Breaking: true}}},
		{"within a component", component(telemetry), component(``), []Change{{Path: "c/x", What: Removed, Breaking: true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := Compare(contents(t, tc.from), contents(t, tc.to))
			for i := range found {
				require.NotEmpty(t, found[i].Reason)
				found[i].Reason, found[i].Override = "", false
			}
			require.Equal(t, tc.want, found)
		})
	}
}

// TestWhatIsAnOverride wants what a patch may change: nothing that devices have to
// know of.
func TestWhatIsAnOverride(t *testing.T) {
	const cloud, property = `{"@type":["Property","Cloud"],"name":"x","schema":"double"}`, `{"@type":"Property","name":"x","schema":"double"}`
	component := func(content string) string {
		return `{"@type":"Component","name":"c","schema":{"@id":"dtmi:a:c;1","@type":"Interface","contents":[` + content + `]}}`
	}
	for _, tc := range []struct {
		name, from, to string
		override       bool
	}{
		{"a new cloud property", ``, cloud, true},
		{"a cloud property gone", cloud, ``, true},
		{"another schema of a cloud property", cloud, strings.Replace(cloud, "double", "string", 1), true},
		{"decimal places", property, strings.Replace(property, `"name"`, `"decimalPlaces":1,"name"`, 1), true},
		{"bounds", property, strings.Replace(property, `"name"`, `"minValue":50,"maxValue":80,"name"`, 1), true},
		{"writable", property, strings.Replace(property, `"name"`, `"writable":true,"name"`, 1), true},
		{"a name to look at, in a component", component(property), component(strings.Replace(property, `"name"`, `"displayName":"X","name"`, 1)), true},
		{"a new property", ``, property, false},
		{"a property gone", property, ``, false},
		{"another schema", property, strings.Replace(property, "double", "string", 1), false},
		{"a property for a cloud property", cloud, property, false},
		{"a cloud property for a property", property, cloud, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := Compare(contents(t, tc.from), contents(t, tc.to))
			require.Len(t, found, 1)
			require.Equal(t, tc.override, len(BeyondOverrides(found)) == 0)
		})
	}
}

func TestATemplateIsMadeUp(t *testing.T) {
	generated, err := Generate("dtmi:a:d;1", "Pump 7", [][]byte{
		[]byte(`{"temperature":21,"on":true,"state":"idle","at":"2026-11-23T10:00:00Z","place":{"lat":1,"lon":2},"g":{"x":1,"y":2,"z":3},"window":{"low":1}}`),
		[]byte(`{"temperature":21.5,"state":"2026-11-23T10:00:00Z","window":{"high":"x"},"mixed":1,"$version":3,"samples":[1,2]}`),
		[]byte(`{"mixed":"one"}`), []byte(`broken`),
	}, []byte(`{"firmware":"1.0","target":{"value":5,"ac":200,"av":1},"thermostat1":{"__t":"c","max":3},"on":1}`))
	require.NoError(t, err)
	made := parsed(t, generated.JSON)
	schemas := map[string]dtdl.SchemaKind{}
	for _, c := range made.Model.Root.All {
		schemas[c.Name] = c.Schema.Kind
	}
	require.Equal(t, map[string]dtdl.SchemaKind{
		"temperature": "double", "state": "string", "at": "dateTime", "place": "geopoint", "g": "vector", "window": "Object", "samples": "Array",
		"firmware": "string", "target": "double",
	}, schemas)
	require.Len(t, made.Model.Root.Find(dtdl.Telemetry, "window").Schema.Fields, 2)
	require.Contains(t, generated.LeftOut, "mixed")
	require.Contains(t, generated.LeftOut, "$version")
	require.Contains(t, generated.LeftOut, "on")
}

// TestWhatIsMadeUpIsAlwaysATemplate has devices with the longest names, and with more
// than a template can have.
func TestWhatIsMadeUpIsAlwaysATemplate(t *testing.T) {
	many := func(count int, value string) []byte {
		members := make([]string, count)
		for i := range members {
			members[i] = fmt.Sprintf(`"n%03d":%s`, i, value)
		}
		return []byte("{" + strings.Join(members, ",") + "}")
	}
	wide := string(many(30, `"a text"`))
	for _, tc := range []struct {
		name, id, displayName string
		message               []byte
		full                  bool
	}{
		{"a long display name", "dtmi:a:d;1", strings.Repeat("ü", 200), []byte(`{"x":1}`), false},
		{"no version", "dtmi:a:d", "D", []byte(`{"x":1}`), false},
		{"too many contents", "dtmi:a:d;1", "D", many(310, "1"), true},
		{"too large", "dtmi:a:d;1", "D", many(290, wide), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			generated, err := Generate(tc.id, tc.displayName, [][]byte{tc.message}, nil)
			require.NoError(t, err)
			made := parsed(t, generated.JSON)
			require.Equal(t, firstOf(tc.displayName, 64), made.DisplayName)
			require.Equal(t, tc.full, len(generated.LeftOut) > 0)
			var sent map[string]any
			require.NoError(t, json.Unmarshal(tc.message, &sent))
			require.Len(t, sent, len(made.Model.Root.All)+len(generated.LeftOut), "what is left out is told")
		})
	}
}

// TestANameLeftOutStaysOut counts more names left out than are told.
func TestANameLeftOutStaysOut(t *testing.T) {
	var bad []string
	for i := range maxInferred + 1 {
		bad = append(bad, fmt.Sprintf(`"%d":1`, i))
	}
	generated, err := Generate("dtmi:a:d;1", "D", [][]byte{[]byte("{" + strings.Join(bad, ",") + "}"), []byte(`{"mixed":1}`), []byte(`{"mixed":"one"}`)}, nil)
	require.NoError(t, err)
	require.Empty(t, parsed(t, generated.JSON).Model.Root.All)
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"thermostat", "temperature-controller", "edge-gateway", "early"} {
		f.Add(sample(f, name))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		template, err := Parse(document)
		if err != nil {
			return
		}
		require.Empty(t, Compare(template, template))
		if initial := template.Initial(); initial != nil {
			require.True(t, json.Valid(initial))
		}
	})
}

func FuzzGenerate(f *testing.F) {
	f.Add("D", []byte(`{"a":1,"b":{"c":[true]}}`), []byte(`{"a":{"b":"2026-11-23T10:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, displayName string, message, reported []byte) {
		_, err := Generate("dtmi:a:d;1", displayName, [][]byte{message, message}, reported)
		require.NoError(t, err)
	})
}

// TestComparingIsBounded compares schemas that refer to each other: five levels of
// forty fields are a hundred million paths.
func TestComparingIsBounded(t *testing.T) {
	document := []byte(`{"@id":"dtmi:a:t;1","@type":["DeviceModel"],"capabilityModel":{"@context":"dtmi:dtdl:context;3","@id":"dtmi:a:b;1","@type":"Interface","schemas":[`)
	for level := range 4 {
		document = fmt.Appendf(document, `{"@id":"dtmi:a:b:s%d;1","@type":"Object","fields":[`, level)
		for field := range 30 {
			schema := "double"
			if level < 3 {
				schema = fmt.Sprintf("dtmi:a:b:s%d;1", level+1)
			}
			document = fmt.Appendf(document, `{"name":"f%d","schema":%q},`, field, schema)
		}
		document = append(document[:len(document)-1], `]},`...)
	}
	document = append(document[:len(document)-1], `],"contents":[{"@type":"Telemetry","name":"x","schema":"dtmi:a:b:s0;1"}]}}`...)
	require.Empty(t, Compare(parsed(t, document), parsed(t, document)))
}
