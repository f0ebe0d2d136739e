package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const templateSamples = "../internal/template/testdata/"

// TestTemplatesRoundTrip puts IoT Central's kinds of templates and reads them again.
func TestTemplatesRoundTrip(t *testing.T) {
	a := newAPI(t)
	for _, name := range []string{"thermostat", "temperature-controller", "edge-gateway", "early"} {
		document, err := os.ReadFile(templateSamples + name + ".json")
		require.NoError(t, err)
		var want map[string]any
		require.NoError(t, json.Unmarshal(document, &want))
		path := "/api/deviceTemplates/" + want["@id"].(string)
		put := a.ok(http.MethodPut, path, string(document))
		require.Equal(t, "v1", put["etag"])
		got := a.ok(http.MethodGet, path, "")
		require.Equal(t, put, got)
		delete(got, "etag")
		require.Equal(t, want, got)
	}
	list := a.ok(http.MethodGet, "/api/deviceTemplates?maxpagesize=2", "")
	require.Len(t, list["value"], 2)
	list = a.ok(http.MethodGet, list["nextLink"].(string), "")
	require.Len(t, list["value"], 2)
	require.NotContains(t, list, "nextLink")
}

func TestATemplatesLife(t *testing.T) {
	a := newAPI(t)
	const one, two = "/api/deviceTemplates/dtmi:contoso:T;1", "/api/deviceTemplates/dtmi:contoso:T;2"
	model := func(contents string) string {
		return `{"@type":["ModelDefinition","DeviceModel"],"displayName":"T","capabilityModel":{"@id":"dtmi:contoso:M;1","@type":"Interface","contents":[` + contents + `]}}`
	}
	const temperature, humidity = `{"@type":"Telemetry","name":"temperature","schema":"double"}`, `{"@type":"Telemetry","name":"humidity","schema":"double"}`

	draft := a.ok(http.MethodPut, one+"/draft", model(temperature))
	require.Equal(t, "v1", draft["etag"])
	status, answer, _ := a.call(http.MethodGet, one, "")
	require.Equal(t, http.StatusNotFound, status, answer)
	status, answer, _ = a.call(http.MethodPut, "/api/devices/d", `{"template":"dtmi:contoso:T;1"}`)
	require.Equal(t, http.StatusBadRequest, status, answer, "a draft is nothing for devices")
	require.Equal(t, "T", a.ok(http.MethodPost, one+"/publish", "")["displayName"])
	a.ok(http.MethodPut, "/api/devices/d", `{"template":"dtmi:contoso:T;1"}`)
	status, answer, _ = a.call(http.MethodPost, one+"/publish", "")
	require.Equal(t, http.StatusNotFound, status, answer)

	// In place goes what takes nothing away.
	a.ok(http.MethodPut, one, model(temperature+","+humidity), "If-Match", `"v2"`)
	status, answer, _ = a.call(http.MethodPut, one, model(temperature+","+humidity), "If-Match", `"v2"`)
	require.Equal(t, http.StatusPreconditionFailed, status, answer)
	status, answer, _ = a.call(http.MethodPut, one, model(temperature))
	require.Equal(t, http.StatusConflict, status, answer)
	require.Contains(t, message(answer), "humidity")
	require.Equal(t, "humidity", answer["error"].(map[string]any)["details"].([]any)[0].(map[string]any)["target"])
	a.ok(http.MethodPut, one+"/draft", model(temperature))
	changes := a.ok(http.MethodGet, one+"/changes", "")["value"].([]any)
	require.Equal(t, map[string]any{"path": "humidity", "change": "removed", "breaking": true, "reason": changes[0].(map[string]any)["reason"]}, changes[0])
	status, answer, _ = a.call(http.MethodPost, one+"/publish", "")
	require.Equal(t, http.StatusConflict, status, answer)

	// The rest goes into a new version.
	version := a.ok(http.MethodPost, one+"/versions", "")
	require.Equal(t, "dtmi:contoso:T;2", version["@id"])
	require.Equal(t, "dtmi:contoso:M;2", at(version, "capabilityModel", "@id"))
	a.ok(http.MethodPost, two+"/publish", "")
	patched := a.ok(http.MethodPatch, two, `{"displayName":"T two","description":null}`)
	require.Equal(t, "T two", patched["displayName"])
	status, answer, _ = a.call(http.MethodDelete, one, "")
	require.Equal(t, http.StatusConflict, status, answer)
	require.Contains(t, message(answer), `"d"`)
	a.ok(http.MethodPatch, "/api/devices/d", `{"template":"dtmi:contoso:T;2"}`)
	status, _, _ = a.call(http.MethodDelete, one, "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = a.call(http.MethodGet, one, "")
	require.Equal(t, http.StatusNotFound, status)
}

// TestNewVersionsDoNotReplaceEachOther has people make versions at the same time.
func TestNewVersionsDoNotReplaceEachOther(t *testing.T) {
	a := newAPI(t)
	a.ok(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:Thermostat;1", thermostat)
	const people = 8
	made := make(chan any, people)
	var group sync.WaitGroup
	for range people {
		group.Go(func() {
			status, version, _ := a.call(http.MethodPost, "/api/deviceTemplates/dtmi:contoso:Thermostat;1/versions", "")
			if status == http.StatusOK {
				made <- version["@id"]
			}
		})
	}
	group.Wait()
	close(made)
	var ids, want []any
	for id := range made {
		ids = append(ids, id)
	}
	for i := range people {
		want = append(want, fmt.Sprintf("dtmi:contoso:Thermostat;%d", i+2))
	}
	require.ElementsMatch(t, want, ids)
}

// TestAPatchChangesOverrides wants TPL-07: PATCH is for what devices need not know of.
func TestAPatchChangesOverrides(t *testing.T) {
	a := newAPI(t)
	const path = "/api/deviceTemplates/dtmi:contoso:T;1"
	const temperature, customer = `{"@type":"Property","name":"target","schema":"double"%s}`, `{"@type":["Property","Cloud"],"name":"customer","schema":"string"}`
	patch := func(contents string) string { return `{"capabilityModel":{"contents":[` + contents + `]}}` }
	a.ok(http.MethodPut, path, `{"@type":["ModelDefinition","DeviceModel"],"displayName":"T","capabilityModel":{"@id":"dtmi:contoso:M;1","@type":"Interface","contents":[`+fmt.Sprintf(temperature, "")+`]}}`)
	patched := a.ok(http.MethodPatch, path, patch(fmt.Sprintf(temperature, `,"writable":true,"decimalPlaces":1,"maxValue":80`)+","+customer), "If-Match", `"v1"`)
	require.Len(t, at(patched, "capabilityModel", "contents"), 2)
	status, answer, _ := a.call(http.MethodPatch, path, `{"displayName":"U"}`, "If-Match", `"v1"`)
	require.Equal(t, http.StatusPreconditionFailed, status, answer)
	for name, contents := range map[string]string{
		"target": customer,
		"other":  fmt.Sprintf(temperature, "") + `,{"@type":"Telemetry","name":"other","schema":"double"}`,
	} {
		status, answer, _ := a.call(http.MethodPatch, path, patch(contents))
		require.Equal(t, http.StatusBadRequest, status, answer)
		require.Contains(t, message(answer), "with PUT")
		require.Equal(t, name, at(answer, "error", "details").([]any)[0].(map[string]any)["target"])
	}
	require.Equal(t, "v2", a.ok(http.MethodGet, path, "")["etag"])
}

func TestABrokenTemplateGetsItsErrors(t *testing.T) {
	a := newAPI(t)
	const broken = `{"@id":"dtmi:contoso:T;1","@type":["DeviceModel"],"capabilityModel":{"@id":"dtmi:contoso:M;1","@type":"Interface","contents":[
		{"@type":"Telemetry","name":"1x","schema":"double"},{"@type":["Telemetry","Temperature"],"name":"t","schema":"string","unit":"metre"}]}}`
	problems := a.ok(http.MethodPost, "/api/deviceTemplates/validate", broken)["problems"].([]any)
	require.Len(t, problems, 3)
	require.Equal(t, "$.capabilityModel.contents[0].name", problems[0].(map[string]any)["path"])
	status, answer, _ := a.call(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:T;1", broken)
	require.Equal(t, http.StatusBadRequest, status)
	require.Len(t, at(answer, "error", "details"), 3)
	for path, body := range map[string]string{
		"/api/deviceTemplates/dtmi:contoso:T;1":       `{"@id":"dtmi:contoso:U;1"}`,
		"/api/deviceTemplates/dtmi:contoso:T;1/draft": ``,
		"/api/deviceTemplates/T":                      thermostat,
	} {
		status, answer, _ := a.call(http.MethodPut, path, body)
		require.Equal(t, http.StatusBadRequest, status, answer)
	}
}

func TestATemplateIsMadeOfWhatADeviceSends(t *testing.T) {
	a := newAPI(t)
	a.ok(http.MethodPut, "/api/devices/pump-7", `{"displayName":"Pump 7"}`)
	status, answer, _ := a.call(http.MethodPost, "/api/devices/pump-7/generateTemplate", "")
	require.Equal(t, http.StatusNotFound, status, answer)
	require.NoError(t, a.db.Exec(t.Context(), `INSERT INTO telemetry (tenant, device, ts, component, body, partition, offset)
		SELECT 'default', 'pump-7', now64(3), '', '{"pressure":2.5,"on":true}'::JSON, 0, 1`))
	made := a.ok(http.MethodPost, "/api/devices/pump-7/generateTemplate", "")
	document, err := json.Marshal(made["template"])
	require.NoError(t, err)
	a.ok(http.MethodPut, "/api/deviceTemplates/"+at(made, "template", "@id").(string), string(document))
	require.Len(t, at(made, "template", "capabilityModel", "contents"), 2)

	long := strings.Repeat("a", 128)
	a.ok(http.MethodPut, "/api/devices/"+long, `{"displayName":"`+strings.Repeat("n", 100)+`"}`)
	require.NoError(t, a.db.Exec(t.Context(), `INSERT INTO telemetry (tenant, device, ts, component, body, partition, offset)
		SELECT 'default', '`+long+`', now64(3), '', '{"pressure":2.5}'::JSON, 0, 2`))
	a.ok(http.MethodPost, "/api/devices/"+long+"/generateTemplate", "")
	status, answer, _ = a.call(http.MethodPost, "/api/devices/"+long+"/generateTemplate?templateId=dtmi:"+long+";1", "")
	require.Equal(t, http.StatusBadRequest, status, answer)
}
