package query

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const manifest = `{"modulesContent":{"$edgeAgent":{"properties.desired":{"schemaVersion":"1.1"}},"Sensor":{"properties.desired":{"SendInterval":10}}}}`

func TestTagsAndTypeOfADevice(t *testing.T) {
	a := newAPI(t)
	status, d, _ := a.call(http.MethodPut, "/api/devices/d", `{"type":["iotEdge"],"tags":{"site":"Basel","floor":{"no":2}}}`)
	require.Equal(t, http.StatusOK, status, d)
	require.Equal(t, []any{"iotEdge"}, d["type"])
	require.Equal(t, map[string]any{"site": "Basel", "floor": map[string]any{"no": 2.0}}, d["tags"])
	status, d, _ = a.call(http.MethodPatch, "/api/devices/d", `{"type":["iotEdge"],"tags":{"site":null,"floor":{"wing":"A"}}}`)
	require.Equal(t, http.StatusOK, status, d)
	require.Equal(t, map[string]any{"floor": map[string]any{"no": 2.0, "wing": "A"}}, d["tags"])
	status, d, _ = a.call(http.MethodPut, "/api/devices/d", `{}`)
	require.Equal(t, http.StatusOK, status)
	require.NotContains(t, d, "tags", "PUT replaces what it is not given")
	require.Empty(t, d["type"])
	for body, says := range map[string]string{`{"type":["iotEdge"]}`: "PUT", `{"type":["toaster"]}`: "toaster", `{"tags":{"a.b":1}}`: "a.b"} {
		status, answer, _ := a.call(http.MethodPatch, "/api/devices/d", body)
		require.Equal(t, http.StatusBadRequest, status, "%s: %v", body, answer)
		require.Contains(t, message(answer), says)
	}
}

func TestAnEdgeDeviceHasItsManifest(t *testing.T) {
	a := newAPI(t)
	status, d, _ := a.call(http.MethodPut, "/api/devices/edge", `{"type":["iotEdge"],"deploymentManifest":{"id":"m1","displayName":"First","data":`+manifest+`}}`)
	require.Equal(t, http.StatusOK, status, d)
	deployed := d["deploymentManifest"].(map[string]any)
	require.Equal(t, "First", deployed["displayName"])
	modules := deployed["data"].(map[string]any)["modulesContent"].(map[string]any)
	require.Equal(t, map[string]any{"properties.desired": map[string]any{"SendInterval": 10.0}}, modules["Sensor"])

	status, again, _ := a.call(http.MethodPatch, "/api/devices/edge", `{"displayName":"Edge","deploymentManifest":{"id":"m1","displayName":"First","data":`+manifest+`}}`)
	require.Equal(t, http.StatusOK, status, again)
	require.Equal(t, "v3", again["etag"], "a manifest that is sent back is not applied again")

	_, list, _ := a.call(http.MethodGet, "/api/devices/edge/modules", "")
	require.Len(t, list["value"], 1)
	sensor := list["value"].([]any)[0].(map[string]any)
	require.Equal(t, "Sensor", sensor["name"])
	require.Equal(t, []any{"Relationship", "EdgeModule"}, sensor["@type"])
	_, list, _ = a.call(http.MethodGet, "/api/devices/edge/modules?system=true", "")
	require.Len(t, list["value"], 2)

	const apply = "/api/devices/edge/applyDeploymentManifest"
	status, applied, _ := a.call(http.MethodPost, apply, `{"data":{"modulesContent":{"Sensor":{"properties.desired":{"SendInterval":5}}}}}`)
	require.Equal(t, http.StatusOK, status, applied)
	modules = applied["data"].(map[string]any)["modulesContent"].(map[string]any)
	require.Equal(t, map[string]any{"properties.desired": map[string]any{"SendInterval": 5.0}}, modules["Sensor"])
	_, d, _ = a.call(http.MethodGet, "/api/devices/edge", "")
	require.Equal(t, applied, d["deploymentManifest"])

	a.call(http.MethodPut, "/api/devices/plain", `{}`)
	for name, tc := range map[string]struct {
		path, body string
		status     int
	}{
		"no data":           {apply, `{}`, 400},
		"no modules":        {apply, `{"data":{}}`, 400},
		"no edge device":    {"/api/devices/plain/applyDeploymentManifest", `{"data":` + manifest + `}`, 409},
		"no device":         {"/api/devices/none/applyDeploymentManifest", `{"data":` + manifest + `}`, 404},
		"content is no map": {apply, `{"data":{"modulesContent":[]}}`, 400},
	} {
		status, answer, _ := a.call(http.MethodPost, tc.path, tc.body)
		require.Equal(t, tc.status, status, "%s: %v", name, answer)
	}
	status, answer, _ := a.call(http.MethodPut, "/api/devices/new", `{"type":["iotEdge"],"deploymentManifest":{"data":{"modulesContent":{}}}}`)
	require.Equal(t, http.StatusBadRequest, status, answer)
	status, _, _ = a.call(http.MethodGet, "/api/devices/new", "")
	require.Equal(t, http.StatusNotFound, status, "nothing is made with a manifest that is none")
}

// edgeTemplate is of a device with two modules.
const edgeTemplate = `{"@type":["ModelDefinition","DeviceModel","EdgeModel"],"displayName":"Edge","capabilityModel":{"@id":"dtmi:test:Edge;1","@type":["Interface","EdgeModel"],
	"@context":["dtmi:iotcentral:context;2","dtmi:dtdl:context;2"],"contents":[
	{"@type":["Relationship","EdgeModule"],"name":"Sensor","displayName":"The sensor","maxMultiplicity":1,"target":[{"@id":"dtmi:test:Sensor;1","@type":"Interface","contents":[
		{"@type":"Property","name":"SendInterval","schema":"integer","writable":true},
		{"@type":"Command","name":"stop"},
		{"@type":"Component","name":"lens","displayName":"Lens","schema":{"@id":"dtmi:test:Lens;1","@type":"Interface","contents":[
			{"@type":"Property","name":"focus","schema":"double","writable":true}]}}]}]},
	{"@type":["Relationship","EdgeModule"],"name":"Spare","maxMultiplicity":1,"target":[{"@id":"dtmi:test:Spare;1","@type":"Interface","contents":[{"@type":"Command","name":"stop"}]}]}]}}`

func TestModulesFollowTheTemplate(t *testing.T) {
	a := newAPI(t)
	status, answer, _ := a.call(http.MethodPut, "/api/deviceTemplates/dtmi:test:EdgeTemplate;1", edgeTemplate)
	require.Equal(t, http.StatusOK, status, answer)
	status, answer, _ = a.call(http.MethodPut, "/api/devices/e", `{"template":"dtmi:test:EdgeTemplate;1","type":["iotEdge"],"deploymentManifest":{"data":`+manifest+`}}`)
	require.Equal(t, http.StatusOK, status, answer)
	_, list, _ := a.call(http.MethodGet, "/api/devices/e/modules", "")
	var found []any
	for _, m := range list["value"].([]any) {
		found = append(found, m.(map[string]any)["name"], m.(map[string]any)["displayName"])
	}
	require.Equal(t, []any{"Sensor", "The sensor", "Spare", nil}, found, "one that the device has, one that it shall have")
	const sensor = "/api/devices/e/modules/Sensor"
	_, list, _ = a.call(http.MethodGet, sensor+"/components", "")
	require.Equal(t, []any{map[string]any{"@type": "Component", "name": "lens", "displayName": "Lens", "schema": "dtmi:test:Lens;1"}}, list["value"])
	for _, tc := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{http.MethodPut, "/properties", `{"SendInterval":5}`, 202, ""},
		{http.MethodPatch, "/properties", `{"SendInterval":"often"}`, 400, "is no number"},
		{http.MethodPatch, "/properties", `{"colour":"red"}`, 400, "it has SendInterval"},
		{http.MethodPatch, "/components/lens/properties", `{"focus":1.5}`, 202, ""},
		{http.MethodPut, "/components/lens/properties", `{"focus":"near"}`, 400, "is no number"},
		{http.MethodGet, "/components/eye/properties", "", 404, "it has lens"},
		{http.MethodPost, "/commands/fly", "{}", 404, "it has stop"},
		{http.MethodPost, "/components/lens/commands/fly", "{}", 404, "it has none"},
	} {
		status, answer, _ := a.call(tc.method, sensor+tc.path, tc.body)
		require.Equal(t, tc.status, status, "%s %s: %v", tc.method, tc.path, answer)
		require.Contains(t, message(answer), tc.says)
	}
	status, answer, _ = a.call(http.MethodPatch, "/api/devices/e/modules/$edgeAgent/properties", `{"any":"thing"}`)
	require.Equal(t, http.StatusAccepted, status, "the template does not speak of this module: %v", answer)
}

func TestModulesAndComponentsOfTheTemplate(t *testing.T) {
	a := newAPI(t)
	machineDevice(a)
	a.says("d", "", reported(`{"wing":{"__t":"c","span":2}}`))
	_, list, _ := a.call(http.MethodGet, "/api/devices/d/components", "")
	require.Equal(t, []any{
		map[string]any{"@type": "Component", "name": "part", "schema": "dtmi:test:Part;1"},
		map[string]any{"@type": "Component", "name": "wing"},
	}, list["value"])
}
