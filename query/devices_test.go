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
