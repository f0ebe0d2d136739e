package query

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// says has the device or module do something, as a gateway would write it down.
func (a *api) says(id, module string, change *eventsv1.DeviceEvent) *eventsv1.DeviceState {
	a.t.Helper()
	change.Id, change.Tenant, change.Device, change.Module, change.Time = eventlog.NewID(), access.DefaultTenant, id, module, timestamppb.Now()
	state, err := a.devices.Change(a.t.Context(), change)
	require.NoError(a.t, err)
	return state
}

func reported(patch string) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: []byte(patch)}}}
}

func TestPropertiesBothWays(t *testing.T) {
	a := newAPI(t)
	a.call(http.MethodPut, "/api/devices/d", `{}`)
	status, p, _ := a.call(http.MethodPatch, "/api/devices/d/properties", `{"targetTemperature":57,"fanSpeed":3}`)
	require.Equal(t, http.StatusAccepted, status, p)
	require.InDelta(t, 57, p["targetTemperature"], 0)
	status, p, _ = a.call(http.MethodPatch, "/api/devices/d/components/thermostat2/properties", `{"targetTemperature":40}`, "Content-Type", "application/merge-patch+json")
	require.Equal(t, http.StatusAccepted, status, p)
	require.InDelta(t, 40, p["targetTemperature"], 0)

	a.says("d", "", reported(`{"serial":"s-1","targetTemperature":{"value":57,"ac":200,"av":1,"ad":"done"},
		"fanSpeed":{"value":1,"ac":400,"av":1},"thermostat2":{"__t":"c","maxTemp":38.5}}`))
	status, p, _ = a.call(http.MethodGet, "/api/devices/d/properties", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "s-1", p["serial"])
	require.InDelta(t, 57, p["targetTemperature"], 0)
	require.InDelta(t, 1, p["fanSpeed"], 0, "the device has refused 3")
	about := p["$metadata"].(map[string]any)["targetTemperature"].(map[string]any)
	require.InDelta(t, 57, about["desiredValue"], 0)
	require.InDelta(t, 1, about["desiredVersion"], 0)
	require.InDelta(t, 200, about["ackCode"], 0)
	require.InDelta(t, 1, about["ackVersion"], 0)
	require.Equal(t, "done", about["ackDescription"])
	require.NotEmpty(t, about["desiredTimestamp"])
	require.NotEmpty(t, about["lastUpdateTime"])
	component := p["thermostat2"].(map[string]any)
	require.InDelta(t, 38.5, component["maxTemp"], 0)
	require.InDelta(t, 2, component["$metadata"].(map[string]any)["targetTemperature"].(map[string]any)["desiredVersion"], 0)
	require.NotContains(t, component, "__t")

	status, p, _ = a.call(http.MethodPut, "/api/devices/d/properties", `{"fanSpeed":2,"$metadata":{}}`)
	require.Equal(t, http.StatusAccepted, status, p)
	twin := device.IdentityOf(a.devices.Get(access.DefaultTenant, "d"), "").GetTwin()
	require.JSONEq(t, `{"fanSpeed":2}`, string(twin.GetDesired()))
	require.Equal(t, uint64(3), twin.GetDesiredVersion())
	_, d, _ := a.call(http.MethodGet, "/api/devices/d", "")
	require.Equal(t, "v1", d["etag"], "properties are not what the etag guards")

	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"unknown device", http.MethodGet, "/api/devices/none/properties", "", 404, "does not exist"},
		{"unknown module", http.MethodPatch, "/api/devices/d/modules/m/properties", "{}", 404, "no module"},
		{"not an object", http.MethodPatch, "/api/devices/d/properties", "[1]", 400, "body"},
		{"forbidden name", http.MethodPatch, "/api/devices/d/properties", `{"a.b":1}`, 400, "a.b"},
		{"too deep", http.MethodPatch, "/api/devices/d/properties", strings.Repeat(`{"a":`, 11) + "1" + strings.Repeat("}", 11), 400, "nested"},
		{"value too long", http.MethodPatch, "/api/devices/d/properties", `{"a":"` + strings.Repeat("x", 5000) + `"}`, 400, "at most"},
		{"integer beyond", http.MethodPatch, "/api/devices/d/properties", `{"a":9007199254740990}`, 400, "beyond"},
		{"component that cannot be", http.MethodGet, "/api/devices/d/components/a-b/properties", "", 400, "component"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, answer, _ := a.call(tc.method, tc.path, tc.body)
			require.Equal(t, tc.status, status, answer)
			require.Contains(t, message(answer), tc.says)
		})
	}
}

func TestModulesAndTheirTwins(t *testing.T) {
	a := newAPI(t)
	a.call(http.MethodPut, "/api/devices/d", `{}`)
	status, m, _ := a.call(http.MethodPut, "/api/devices/d/modules/camera", "")
	require.Equal(t, http.StatusOK, status, m)
	status, p, _ := a.call(http.MethodPatch, "/api/devices/d/modules/camera/properties", `{"fps":5}`)
	require.Equal(t, http.StatusAccepted, status, p)
	status, p, _ = a.call(http.MethodGet, "/api/devices/d/modules/camera/properties", "")
	require.Equal(t, http.StatusOK, status)
	require.InDelta(t, 5, p["fps"], 0)
	_, list, _ := a.call(http.MethodGet, "/api/devices/d/modules", "")
	require.Len(t, list["value"], 1)
	status, keys, _ := a.call(http.MethodGet, "/api/devices/d/modules/camera/credentials", "")
	require.Equal(t, http.StatusOK, status)
	_, own, _ := a.call(http.MethodGet, "/api/devices/d/credentials", "")
	require.NotEqual(t, own["symmetricKey"].(map[string]any)["primaryKey"], keys["primaryKey"])
	status, _, _ = a.call(http.MethodDelete, "/api/devices/d/modules/camera", "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = a.call(http.MethodDelete, "/api/devices/d/modules/camera", "")
	require.Equal(t, http.StatusNotFound, status)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d/modules/a%20b", "")
	require.Equal(t, http.StatusBadRequest, status, answer)
}

func TestCloudToDeviceQueue(t *testing.T) {
	a := newAPI(t)
	a.call(http.MethodPut, "/api/devices/d", `{}`)
	status, m, _ := a.call(http.MethodPost, "/api/devices/d/c2d", `{"payload":{"open":true},"properties":{"b":"2","a":"1"},"messageId":"m-1"}`)
	require.Equal(t, http.StatusAccepted, status, m)
	status, _, _ = a.call(http.MethodPost, "/api/devices/d/c2d", `{"payload":"as it stands"}`)
	require.Equal(t, http.StatusAccepted, status)
	_, list, _ := a.call(http.MethodGet, "/api/devices/d/c2d", "")
	require.Len(t, list["value"], 2)
	first := list["value"].([]any)[0].(map[string]any)
	require.Equal(t, m["id"], first["id"])
	require.Equal(t, base64.StdEncoding.EncodeToString([]byte(`{"open":true}`)), first["body"])
	require.Equal(t, map[string]any{"a": "1", "b": "2"}, first["properties"])
	for i := range 48 {
		status, answer, _ := a.call(http.MethodPost, "/api/devices/d/c2d", `{"payload":1}`)
		require.Equal(t, http.StatusAccepted, status, "%d: %v", i, answer)
	}
	status, answer, _ := a.call(http.MethodPost, "/api/devices/d/c2d", `{"payload":1}`)
	require.Equal(t, http.StatusTooManyRequests, status, answer)
	require.Contains(t, message(answer), "50")
	status, purged, _ := a.call(http.MethodDelete, "/api/devices/d/c2d", "")
	require.Equal(t, http.StatusOK, status)
	require.InDelta(t, 50, purged["totalMessagesPurged"], 0)
	_, list, _ = a.call(http.MethodGet, "/api/devices/d/c2d", "")
	require.Empty(t, list["value"])
	for name, body := range map[string]string{
		"both payload and body": `{"payload":1,"body":"AA=="}`,
		"expired":               `{"payload":1,"expires":"2020-01-01T00:00:00Z"}`,
		"too long":              `{"payload":1,"expires":"2126-01-01T00:00:00Z"}`,
		"too large":             `{"payload":"` + strings.Repeat("x", 65<<10) + `"}`,
		"empty property name":   `{"payload":1,"properties":{"":"x"}}`,
	} {
		status, answer, _ := a.call(http.MethodPost, "/api/devices/d/c2d", body)
		require.Equal(t, http.StatusBadRequest, status, "%s: %v", name, answer)
	}
}

func TestCommands(t *testing.T) {
	a := newAPI(t)
	a.call(http.MethodPut, "/api/devices/d", `{}`)
	status, answer, _ := a.call(http.MethodPost, "/api/devices/d/commands/reboot", `{}`)
	require.Equal(t, http.StatusNotFound, status, answer)
	require.Contains(t, message(answer), "not connected")

	a.says("d", "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: "c1", Node: "n"}}})
	type result struct {
		status int
		answer map[string]any
	}
	results := make(chan result, 1)
	go func() {
		status, answer, _ := a.call(http.MethodPost, "/api/devices/d/components/thermostat1/commands/getReport", `{"request":{"since":5}}`)
		results <- result{status, answer}
	}()
	var asked *eventsv1.Command
	require.Eventually(t, func() bool {
		waiting := device.IdentityOf(a.devices.Get(access.DefaultTenant, "d"), "").GetCommands()
		if len(waiting) > 0 {
			asked = waiting[0]
		}
		return asked != nil
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, "thermostat1*getReport", asked.GetMethod())
	require.JSONEq(t, `{"since":5}`, string(asked.GetPayload()))
	a.says("d", "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_CommandAnswered{CommandAnswered: &eventsv1.CommandAnswered{
		Command: asked.GetId(), Status: 409, Payload: []byte(`"busy"`),
	}}})
	got := <-results
	require.Equal(t, http.StatusCreated, got.status, got.answer)
	require.InDelta(t, 409, got.answer["responseCode"], 0)
	require.Equal(t, "busy", got.answer["response"])
	require.Equal(t, asked.GetId(), got.answer["id"])

	status, answer, _ = a.call(http.MethodPost, "/api/devices/d/commands/reboot", `{"responseTimeout":5}`)
	require.Equal(t, http.StatusGatewayTimeout, status, answer)
	require.Empty(t, device.IdentityOf(a.devices.Get(access.DefaultTenant, "d"), "").GetCommands(), "nobody waits any more")
	for name, body := range map[string]string{
		"response timeout too short":  `{"responseTimeout":4}`,
		"connection timeout too long": `{"connectionTimeout":31}`,
		"request too large":           `{"request":"` + strings.Repeat("x", 129<<10) + `"}`,
	} {
		status, answer, _ := a.call(http.MethodPost, "/api/devices/d/commands/reboot", body)
		require.Equal(t, http.StatusBadRequest, status, "%s: %v", name, answer)
	}
	status, answer, _ = a.call(http.MethodPost, "/api/devices/d/commands/a%20b", `{}`)
	require.Equal(t, http.StatusBadRequest, status, answer)
}
