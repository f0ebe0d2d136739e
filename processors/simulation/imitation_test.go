package simulation

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/template"
	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// controller is the template of the temperature controller with two thermostats.
func controller(t testing.TB) *dtdl.Model {
	t.Helper()
	document, err := os.ReadFile("../../internal/template/testdata/temperature-controller.json")
	require.NoError(t, err)
	parsed, err := template.Parse(document)
	require.NoError(t, err)
	return parsed.Model
}

func decode(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal(body, &object), "%s", body)
	return object
}

func TestTelemetryIsTheModels(t *testing.T) {
	model := controller(t)
	i := newImitation("default", "d", model)
	for n := range 50 {
		messages, err := i.measure(noon.Add(time.Duration(n) * time.Minute))
		require.NoError(t, err)
		components := map[string]bool{}
		for _, m := range messages {
			components[m.component] = true
			contents := model.Root
			if m.component != "" {
				contents = model.Root.Find(dtdl.Component, m.component).Interface
			}
			for name, value := range decode(t, m.body) {
				c := contents.Find(dtdl.Telemetry, name)
				require.NotNil(t, c, name)
				require.Empty(t, c.Check(value), "%s: %v", name, value)
			}
		}
		require.Equal(t, map[string]bool{"": true, "thermostat1": true, "thermostat2": true}, components, "a message for each that has telemetry")
	}
}

func TestTheSameDeviceSaysTheSame(t *testing.T) {
	say := func(id string) (all []string) {
		i := newImitation("default", id, controller(t))
		for n := range 3 {
			messages, err := i.measure(noon.Add(time.Duration(n) * time.Second))
			require.NoError(t, err)
			for _, m := range messages {
				all = append(all, m.component+string(m.body))
			}
		}
		return all
	}
	require.Equal(t, say("d"), say("d"))
	require.NotEqual(t, say("d"), say("e"), "another one is another")
}

func TestADeviceIntroducesItself(t *testing.T) {
	i := newImitation("default", "d", controller(t))
	patch, err := i.introduce(noon, []byte(`{"desired":{"thermostat1":{"__t":"c","targetTemperature":42.50},"free":{"x":1},"$version":7},"reported":{"$version":1}}`))
	require.NoError(t, err)
	report := decode(t, patch)
	require.IsType(t, "", report["serialNumber"])
	one, two := report["thermostat1"].(map[string]any), report["thermostat2"].(map[string]any)
	require.Equal(t, "c", one["__t"])
	require.IsType(t, 0.0, one["maxTempSinceLastReboot"])
	require.Equal(t, map[string]any{"value": 42.5, "ac": 200.0, "av": 7.0, "ad": "simulated"}, one["targetTemperature"])
	initial := two["targetTemperature"].(map[string]any)
	require.IsType(t, 0.0, initial["value"])
	require.Equal(t, []any{203.0, 0.0}, []any{initial["ac"], initial["av"]}, "nobody wished for a value: it is the device's own")
	require.Equal(t, map[string]any{"value": map[string]any{"x": 1.0}, "ac": 200.0, "av": 7.0, "ad": "simulated"}, report["free"])
	require.NotContains(t, report, "owner", "cloud properties never reach a device")
}

func TestDesiredPropertiesAreAcknowledged(t *testing.T) {
	i := newImitation("default", "d", controller(t))
	for _, tc := range []struct{ name, desired, report string }{
		{"own", `{"a":"x","$version":3}`, `{"a":{"value":"x","ac":200,"av":3,"ad":"simulated"}}`},
		{"component by its mark", `{"other":{"__t":"c","b":1},"$version":4}`, `{"other":{"__t":"c","b":{"value":1,"ac":200,"av":4,"ad":"simulated"}}}`},
		{"component by the model", `{"thermostat1":{"targetTemperature":1e2},"$version":5}`, `{"thermostat1":{"__t":"c","targetTemperature":{"value":100,"ac":200,"av":5,"ad":"simulated"}}}`},
		{"nothing but a version", `{"$version":6}`, ``},
		{"taken back", `{"a":null,"thermostat1":null,"thermostat2":{"__t":"c","targetTemperature":null},"$version":7}`, ``},
	} {
		t.Run(tc.name, func(t *testing.T) {
			patch, err := i.acknowledge([]byte(tc.desired))
			require.NoError(t, err)
			if tc.report == "" {
				require.Empty(t, string(patch))
				return
			}
			require.JSONEq(t, tc.report, string(patch))
		})
	}
	for _, broken := range []string{``, `[]`, `{}`, `{"$version":"x"}`} {
		_, err := i.acknowledge([]byte(broken))
		require.Error(t, err, broken)
	}
}

func TestCommandsAreAnswered(t *testing.T) {
	model := controller(t)
	i := newImitation("default", "d", model)
	status, body, err := i.answer(noon, "thermostat1*getMaxMinReport")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	response := model.Root.Find(dtdl.Component, "thermostat1").Interface.Find(dtdl.Command, "getMaxMinReport").Response
	require.Empty(t, response.Schema.Check(any(decode(t, body))))
	status, body, err = i.answer(noon, "reboot")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, body)
	for _, unknown := range []string{"dance", "thermostat1*dance", "nobody*reboot", "", "*"} {
		status, _, err = i.answer(noon, unknown)
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, status, unknown)
	}
}

// FuzzDesired feeds foreign bytes to what reads the twin. What comes out is JSON.
func FuzzDesired(f *testing.F) {
	f.Add([]byte(`{"desired":{"thermostat1":{"__t":"c","targetTemperature":42.5},"free":{"x":1},"$version":7}}`))
	f.Add([]byte(`{"thermostat1":{"__t":"c","targetTemperature":42.5},"serialNumber":{},"$version":7}`))
	f.Add([]byte(`{"desired":{"":null,"__t":1,"$version":18446744073709551615}}`))
	model := controller(f)
	f.Fuzz(func(t *testing.T, document []byte) {
		i := newImitation("default", "d", model)
		for _, read := range []func() ([]byte, error){
			func() ([]byte, error) { return i.introduce(noon, document) },
			func() ([]byte, error) { return i.acknowledge(document) },
		} {
			if patch, err := read(); err == nil && patch != nil && !json.Valid(patch) {
				t.Fatalf("%s", patch)
			}
		}
	})
}
