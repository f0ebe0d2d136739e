package query

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

// machine has one of everything.
const machine = `{"@type":["ModelDefinition","DeviceModel"],"displayName":"Machine","capabilityModel":{"@id":"dtmi:test:Model;1","@type":"Interface",
	"@context":["dtmi:iotcentral:context;2","dtmi:dtdl:context;2"],"contents":[
	{"@type":"Property","name":"serial","schema":"string"},
	{"@type":["Property","NumberValue"],"name":"target","schema":"double","writable":true,"minValue":5,"maxValue":30},
	{"@type":"Property","name":"limits","writable":true,"schema":{"@type":"Object","fields":[{"name":"low","schema":"integer"},{"name":"high","schema":"integer"}]}},
	{"@type":["Property","Cloud","StringValue"],"name":"customer","schema":"string"},
	{"@type":"Command","name":"reboot","request":{"name":"delay","schema":"integer"},"response":{"name":"said","schema":"string"}},
	{"@type":"Command","name":"say","durable":true,"request":{"name":"text","schema":"string"}},
	{"@type":"Command","name":"wake","durable":true},
	{"@type":"Component","name":"part","schema":{"@id":"dtmi:test:Part;1","@type":"Interface","contents":[
		{"@type":"Property","name":"target","schema":"double","writable":true},
		{"@type":"Property","name":"made","schema":"date"},
		{"@type":"Command","name":"reset","durable":true,"request":{"name":"how","schema":{"@type":"Object","fields":[{"name":"deep","schema":"boolean"}]}}}]}}]}}`

// machineDevice is a device of that template.
func machineDevice(a *api) *eventsv1.DeviceState {
	a.t.Helper()
	status, answer, _ := a.call(http.MethodPut, "/api/deviceTemplates/dtmi:test:Machine;1", machine)
	require.Equal(a.t, http.StatusOK, status, answer)
	status, answer, _ = a.call(http.MethodPut, "/api/devices/d", `{"template":"dtmi:test:Machine;1"}`)
	require.Equal(a.t, http.StatusOK, status, answer)
	return a.devices.Get(access.DefaultTenant, "d")
}

// sections are what is desired of the device, and its cloud properties.
func (a *api) sections() (desired, cloud string) {
	state := a.devices.Get(access.DefaultTenant, "d")
	return string(device.IdentityOf(state, "").GetTwin().GetDesired()), string(state.GetCloud())
}

// shown are the names of the properties of an answer.
func shown(answer map[string]any) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(answer)), func(name string) bool { return name == "$metadata" })
}

func TestPropertiesFollowTheTemplate(t *testing.T) {
	a := newAPI(t)
	before := machineDevice(a).GetRevision()
	status, p, _ := a.call(http.MethodPatch, "/api/devices/d/properties", `{"target":21.5,"customer":"ACME","part":{"target":7}}`)
	require.Equal(t, http.StatusAccepted, status, p)
	require.Equal(t, []string{"customer", "part", "target"}, shown(p))
	desired, cloud := a.sections()
	require.JSONEq(t, `{"target":21.5,"part":{"__t":"c","target":7}}`, desired, "the device is given what is writable")
	require.JSONEq(t, `{"customer":"ACME"}`, cloud)
	require.Equal(t, before+1, a.devices.Get(access.DefaultTenant, "d").GetRevision(), "both in one event")

	status, answer, _ := a.call(http.MethodPatch, "/api/devices/d/properties",
		`{"serial":"s","target":31,"limits":{"low":1.5,"mid":2},"customer":5,"colour":"red","part":{"made":"2026-11-23","target":"hot"}}`)
	require.Equal(t, http.StatusBadRequest, status)
	wrong := map[string]string{}
	for _, d := range answer["error"].(map[string]any)["details"].([]any) {
		wrong[d.(map[string]any)["target"].(string)] = d.(map[string]any)["message"].(string)
	}
	require.Contains(t, wrong["serial"], "read-only")
	require.Contains(t, wrong["target"], "greater than the greatest value 30")
	require.Contains(t, wrong["limits.low"], "whole number")
	require.Contains(t, wrong["limits.mid"], "no such field")
	require.Contains(t, wrong["customer"], "is no string")
	require.Contains(t, wrong["colour"], "it has customer, limits, serial, target; to set it anyway send unmodeled=true")
	require.Contains(t, wrong["part/made"], "read-only")
	require.Contains(t, wrong["part/target"], "is no number")
	require.Len(t, wrong, 8)
	require.Contains(t, message(answer), "8 properties")
	again, _ := a.sections()
	require.Equal(t, desired, again, "nothing is set when something is wrong")

	status, p, _ = a.call(http.MethodPatch, "/api/devices/d/properties?unmodeled=true", `{"colour":"red","customer":null}`)
	require.Equal(t, http.StatusAccepted, status, p)
	require.Equal(t, []string{"colour", "part", "target"}, shown(p))
	_, p, _ = a.call(http.MethodGet, "/api/devices/d/properties", "")
	require.Equal(t, []string{"part", "target"}, shown(p), "the template has no colour")
	_, p, _ = a.call(http.MethodGet, "/api/devices/d/properties?unmodeled=true", "")
	require.Equal(t, []string{"colour", "part", "target"}, shown(p))
}

func TestPutReplacesWhatTheCallerSees(t *testing.T) {
	a := newAPI(t)
	machineDevice(a)
	a.call(http.MethodPatch, "/api/devices/d/properties?unmodeled=true", `{"target":21,"customer":"ACME","colour":"red","part":{"target":7,"shade":"dark"}}`)
	status, p, _ := a.call(http.MethodPut, "/api/devices/d/properties", `{"limits":{"low":1}}`)
	require.Equal(t, http.StatusAccepted, status, p)
	desired, cloud := a.sections()
	require.JSONEq(t, `{"limits":{"low":1},"colour":"red","part":{"__t":"c","shade":"dark"}}`, desired)
	require.JSONEq(t, `{}`, cloud)
	_, p, _ = a.call(http.MethodGet, "/api/devices/d/properties", "")
	encoded, err := json.Marshal(p)
	require.NoError(t, err)
	status, p, _ = a.call(http.MethodPut, "/api/devices/d/properties", string(encoded))
	require.Equal(t, http.StatusAccepted, status, "what was read can be written: %v", p)
	again, _ := a.sections()
	require.JSONEq(t, desired, again)
	status, p, _ = a.call(http.MethodPut, "/api/devices/d/properties?unmodeled=true", `{"target":20}`)
	require.Equal(t, http.StatusAccepted, status, p)
	desired, _ = a.sections()
	require.JSONEq(t, `{"target":20}`, desired)
}

// TestPutLeavesAloneWhatItsCallerDoesNotSee replaces the properties of the template
// while somebody else changes others.
func TestPutLeavesAloneWhatItsCallerDoesNotSee(t *testing.T) {
	a := newAPI(t)
	machineDevice(a)
	a.call(http.MethodPatch, "/api/devices/d/properties?unmodeled=true", `{"target":21,"customer":"ACME","colour":"red","part":{"target":7,"shade":"dark"}}`)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d/properties", `{"limits":{"low":1}}`)
	require.Equal(t, http.StatusAccepted, status, answer)
	desired, cloud := a.sections()
	require.JSONEq(t, `{"limits":{"low":1},"colour":"red","part":{"__t":"c","shade":"dark"}}`, desired)
	require.JSONEq(t, `{}`, cloud)
	before := a.devices.Get(access.DefaultTenant, "d").GetSelf().GetTwin()
	status, answer, _ = a.call(http.MethodPut, "/api/devices/d/properties", `{}`)
	require.Equal(t, http.StatusAccepted, status, answer)
	after := a.devices.Get(access.DefaultTenant, "d").GetSelf().GetTwin()
	require.Equal(t, device.DesiredStamps(before).Of("colour").GetVersion(), device.DesiredStamps(after).Of("colour").GetVersion(), "it was not written again")
}

func TestPropertiesOfAComponentFollowItsInterface(t *testing.T) {
	a := newAPI(t)
	machineDevice(a)
	const part = "/api/devices/d/components/part/properties"
	a.call(http.MethodPatch, part+"?unmodeled=true", `{"target":7,"shade":"dark"}`)
	status, p, _ := a.call(http.MethodPut, part, `{}`)
	require.Equal(t, http.StatusAccepted, status, p)
	require.Empty(t, shown(p))
	desired, _ := a.sections()
	require.JSONEq(t, `{"part":{"__t":"c","shade":"dark"}}`, desired)
	for _, tc := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{http.MethodPatch, part, `{"made":"2026-11-23"}`, 400, "read-only"},
		{http.MethodPut, part, `{"target":true}`, 400, "true is no number"},
		{http.MethodGet, "/api/devices/d/components/wing/properties", "", 404, "it has part"},
		{http.MethodPatch, "/api/devices/d/components/wing/properties", `{"a":1}`, 404, "it has part"},
		{http.MethodPatch, "/api/devices/d/components/wing/properties?unmodeled=true", `{"a":1}`, 202, ""},
		{http.MethodPatch, "/api/devices/d/properties", `{"part":5}`, 400, "is a component"},
		{http.MethodPatch, "/api/devices/d/properties", `{"part":null}`, 202, ""},
	} {
		status, answer, _ := a.call(tc.method, tc.path, tc.body)
		require.Equal(t, tc.status, status, "%s %s: %v", tc.method, tc.path, answer)
		require.Contains(t, message(answer), tc.says)
	}
	desired, _ = a.sections()
	require.JSONEq(t, `{"wing":{"__t":"c","a":1}}`, desired)
}
