package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/stretchr/testify/require"
)

// TestEveryCallOfTheReference does each call that IoT Central's descriptions have
// about devices, templates, groups, enrollment groups, dashboards and access, and holds each
// answer against them.
func TestEveryCallOfTheReference(t *testing.T) {
	for _, version := range []string{"2022-07-31", "2022-10-31-preview"} {
		t.Run(version, func(t *testing.T) {
			w := &walk{process: startProcess(t, t.TempDir()), reference: readReference(t, version)}
			w.templates()
			w.registry()
			w.credentials()
			w.modules()
			w.capabilities()
			w.relationships()
			w.deviceGroups()
			w.dashboards()
			w.people()
			w.enrollmentGroups()
			w.manners()
			w.end()
			for _, o := range w.reference.operations {
				require.True(t, o.called, "the walk does not call %s %s", o.method, o.path)
			}
		})
	}
}

// walk is one way through all calls of a version.
type walk struct {
	*process

	reference *reference
}

// does a call that must succeed as the reference describes. A version that does
// not have it is left alone.
func (w *walk) does(method, path string, body any) map[string]any {
	w.t.Helper()
	resource, _, _ := strings.Cut(path, "?")
	o := w.reference.find(method, resource)
	if o == nil {
		return nil
	}
	o.called = true
	status, answer, _ := w.raw(method, path, body)
	what := method + " " + path
	require.Equal(w.t, o.success, status, "%s: %s", what, answer)
	w.reference.conforms(w.t, o.schema, answer, what)
	var content map[string]any
	if len(answer) > 0 {
		require.NoError(w.t, json.Unmarshal(answer, &content))
	}
	return content
}

// comes waits for a call to succeed that answers from a projection, which is a
// moment behind the log, and then does it.
func (w *walk) comes(path string, there func(map[string]any) bool) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		status, answer, _ := w.raw(http.MethodGet, path, nil)
		var content map[string]any
		return status == http.StatusOK && json.Unmarshal(answer, &content) == nil && there(content)
	}, 30*time.Second, 20*time.Millisecond, "GET %s", path)
	w.does(http.MethodGet, path, nil)
}

// refuses does a call that must fail with the status.
func (w *walk) refuses(status int, method, path string, body any, header ...string) {
	w.t.Helper()
	got, answer, h := w.raw(method, path, body, header...)
	w.reference.refused(w.t, status, got, answer, h, method+" "+path)
}

func (w *walk) raw(method, path string, body any, header ...string) (int, []byte, http.Header) {
	w.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return w.call(method, "/api"+path+separator+"api-version="+w.reference.version, body, header...)
}

// machine is a device or module over MQTT that says yes to every command.
func (w *walk) machine(id, module, key string) paho.Client {
	w.t.Helper()
	client, resource := id, "localhost/devices/"+id
	if module != "" {
		client, resource = id+"/"+module, resource+"/modules/"+module
	}
	secret, err := base64.StdEncoding.DecodeString(key)
	require.NoError(w.t, err)
	options := paho.NewClientOptions().AddBroker("tcp://" + w.at.MQTT).SetClientID(client).
		SetUsername("localhost/" + client + "/?api-version=2021-04-12").SetPassword(sas.Sign(resource, secret, time.Now().Add(time.Hour), ""))
	c := paho.NewClient(options)
	done := func(token paho.Token) {
		w.t.Helper()
		require.True(w.t, token.WaitTimeout(30*time.Second))
		require.NoError(w.t, token.Error())
	}
	done(c.Connect())
	w.t.Cleanup(func() { c.Disconnect(100) })
	done(c.Subscribe("$iothub/methods/POST/#", 0, func(c paho.Client, m paho.Message) {
		at, err := url.Parse(m.Topic())
		if err == nil {
			c.Publish("$iothub/methods/res/200/?$rid="+at.Query().Get("$rid"), 0, false, `"done"`)
		}
	}))
	events := "devices/" + id + "/messages/events/"
	if module != "" {
		events = "devices/" + id + "/modules/" + module + "/messages/events/"
	}
	done(c.Publish(events, 1, false, `{"temperature":21.5}`))
	done(c.Publish(events+"$.sub=part", 1, false, `{"temperature":22.5}`))
	return c
}

const machineTemplate = "dtmi:walk:Machine;1"

func (w *walk) templates() {
	const part = `{"@id":"dtmi:walk:Part;1","@type":"Interface","contents":[
		{"@type":"Telemetry","name":"temperature","schema":"double"},
		{"@type":"Property","name":"target","schema":"double","writable":true},
		{"@type":"Command","name":"reset"}]}`
	model := func(id string) string {
		return `{"displayName":"Machine","@type":["ModelDefinition","DeviceModel"],"capabilityModel":{
			"@id":"` + id + `","@type":"Interface","@context":["dtmi:iotcentral:context;2","dtmi:dtdl:context;2"],"displayName":"Machine","contents":[
			{"@type":"Telemetry","name":"temperature","schema":"double"},
			{"@type":"Property","name":"target","schema":"double","writable":true},
			{"@type":["Property","Cloud"],"name":"customer","schema":"string"},
			{"@type":"Command","name":"reboot","request":{"name":"delay","schema":"integer"},"response":{"name":"said","schema":"string"}},
			{"@type":"Component","name":"part","schema":` + part + `}]}}`
	}
	w.does(http.MethodPut, "/deviceTemplates/"+machineTemplate, model("dtmi:walk:MachineModel;1"))
	w.does(http.MethodPut, "/deviceTemplates/dtmi:walk:Spare;1", model("dtmi:walk:SpareModel;1"))
	w.does(http.MethodGet, "/deviceTemplates", nil)
	w.does(http.MethodGet, "/deviceTemplates/"+machineTemplate, nil)
	w.does(http.MethodPatch, "/deviceTemplates/"+machineTemplate, `{"displayName":"The machine"}`)
	w.does(http.MethodDelete, "/deviceTemplates/dtmi:walk:Spare;1", nil)
}

func (w *walk) registry() {
	d := w.does(http.MethodPut, "/devices/machine", `{"displayName":"Machine","template":"`+machineTemplate+`","simulated":false,"enabled":true}`)
	require.Equal(w.t, machineTemplate, d["template"])
	w.does(http.MethodPut, "/devices/edge", `{"displayName":"Edge","type":["iotEdge"]}`)
	w.does(http.MethodPut, "/devices/plain", `{}`)
	w.does(http.MethodPut, "/devices/child", `{}`)
	w.does(http.MethodGet, "/devices/machine", nil)
	require.Equal(w.t, "Plain", w.does(http.MethodPatch, "/devices/plain", `{"displayName":"Plain"}`)["displayName"])
	require.Len(w.t, w.does(http.MethodGet, "/devices", nil)["value"], 4)
}

func (w *walk) credentials() {
	const own = "/devices/plain/attestation"
	w.does(http.MethodPut, own, `{"type":"symmetricKey","symmetricKey":{"primaryKey":"MDEyMzQ1Njc4OWFiY2RlZg==","secondaryKey":"MDEyMzQ1Njc4OWFiY2RlZg=="}}`)
	w.does(http.MethodGet, own, nil)
	w.does(http.MethodPatch, own, `{"symmetricKey":{"primaryKey":"ZmVkY2JhOTg3NjU0MzIxMA=="}}`)
	w.does(http.MethodDelete, own, nil)
	w.refuses(http.StatusNotFound, http.MethodGet, own, nil)
	w.does(http.MethodPut, own, map[string]any{"type": "x509", "x509": map[string]any{
		"clientCertificates": map[string]any{"primary": map[string]any{"certificate": enginetest.Device(w.t, "plain", nil).PEM()}},
	}})
	w.does(http.MethodGet, own, nil)
	w.does(http.MethodGet, "/devices/plain/credentials", nil)
	w.refuses(http.StatusBadRequest, http.MethodPut, own, `{"type":"tpm","tpm":{"endorsementKey":"AAAA"}}`)
}

func (w *walk) modules() {
	const manifest = `{"data":{"modulesContent":{"$edgeAgent":{"properties.desired":{"schemaVersion":"1.1"}},"sensor":{"properties.desired":{"target":20}}}}}`
	w.does(http.MethodPost, "/devices/edge/applyDeploymentManifest", manifest)
	w.ok(http.MethodPut, "/api/devices/edge/modules/sensor", nil)
	modules := w.does(http.MethodGet, "/devices/edge/modules", nil)["value"].([]any)
	require.Len(w.t, modules, 1)
	require.Equal(w.t, "sensor", modules[0].(map[string]any)["name"])
	w.does(http.MethodGet, "/devices/edge", nil)
}

// capabilities are telemetry, properties and commands of a device and a module,
// and of a component of each.
func (w *walk) capabilities() {
	key := w.ok(http.MethodGet, "/api/devices/machine/credentials", nil)["symmetricKey"].(map[string]any)["primaryKey"].(string)
	w.machine("machine", "", key)
	w.machine("edge", "sensor", w.ok(http.MethodGet, "/api/devices/edge/modules/sensor/credentials", nil)["primaryKey"].(string))
	for _, of := range []struct{ path, command, request string }{
		{"/devices/machine", "reboot", `{"request":5,"responseTimeout":30,"connectionTimeout":10}`},
		{"/devices/machine/components/part", "reset", `{}`},
		{"/devices/edge/modules/sensor", "reboot", `{"request":{"delay":5}}`},
		{"/devices/edge/modules/sensor/components/part", "reset", `{"request":[1]}`},
	} {
		w.does(http.MethodPut, of.path+"/properties", `{"target":20}`)
		w.does(http.MethodPatch, of.path+"/properties", `{"target":21.5}`)
		require.InDelta(w.t, 21.5, w.does(http.MethodGet, of.path+"/properties", nil)["target"], 0, of.path)
		answered := w.does(http.MethodPost, of.path+"/commands/"+of.command, of.request)
		require.Equal(w.t, []any{"done", 200.0}, []any{answered["response"], answered["responseCode"]})
		w.comes(of.path+"/commands/"+of.command, func(history map[string]any) bool {
			value, _ := history["value"].([]any)
			return len(value) == 1
		})
		want := 21.5
		if strings.HasSuffix(of.path, "/part") {
			want = 22.5
		}
		w.comes(of.path+"/telemetry/temperature", func(last map[string]any) bool { return last["value"] == want })
	}
	for _, path := range []string{"/devices/machine", "/devices/edge/modules/sensor"} {
		components := w.does(http.MethodGet, path+"/components", nil)["value"].([]any)
		require.Len(w.t, components, 1, path)
		require.Equal(w.t, "part", components[0].(map[string]any)["name"])
	}
}

func (w *walk) relationships() {
	const one = "/devices/edge/relationships/r1"
	w.does(http.MethodPut, one, `{"source":"edge","target":"child"}`)
	w.does(http.MethodGet, one, nil)
	require.Len(w.t, w.does(http.MethodGet, "/devices/edge/relationships", nil)["value"], 1)
	require.Len(w.t, w.does(http.MethodGet, "/devices/child/relationships", nil)["value"], 1)
	w.does(http.MethodPatch, one, `{"target":"plain"}`)
	w.does(http.MethodDelete, "/devices/plain/relationships/r1", nil)
	w.refuses(http.StatusNotFound, http.MethodGet, one, nil)
}

// people are roles, organizations, users and API tokens.
func (w *walk) people() {
	const operator, viewer = "ae2c9854-393b-4f97-8c42-479d70ce626e", "84cc62c1-dabe-49d3-b16e-8b291232b285"
	w.does(http.MethodGet, "/roles", nil)
	require.Equal(w.t, "App Operator", w.does(http.MethodGet, "/roles/"+operator, nil)["displayName"])
	w.does(http.MethodPut, "/organizations/seattle", map[string]any{"displayName": "Seattle"})
	w.does(http.MethodPatch, "/organizations/seattle", map[string]any{"displayName": "Seattle office"})
	w.does(http.MethodGet, "/organizations/seattle", nil)
	w.does(http.MethodGet, "/organizations", nil)
	inSeattle := []any{map[string]any{"role": viewer, "organization": "seattle"}}
	for id, subject := range map[string]map[string]any{
		"anna": {"type": "email", "email": "anna@contoso.com"}, "robot": {"type": "servicePrincipal", "tenantId": "t-1", "objectId": "o-1"}, "crew": {"type": "adGroup", "tenantId": "t-1", "objectId": "g-1"},
	} {
		subject["roles"] = []any{map[string]any{"role": operator}}
		w.does(http.MethodPut, "/users/"+id, subject)
		w.does(http.MethodPatch, "/users/"+id, map[string]any{"roles": inSeattle})
		require.Equal(w.t, inSeattle, w.does(http.MethodGet, "/users/"+id, nil)["roles"])
	}
	w.does(http.MethodGet, "/users", nil)
	w.does(http.MethodPut, "/apiTokens/script", map[string]any{"roles": inSeattle})
	w.does(http.MethodGet, "/apiTokens/script", nil)
	w.does(http.MethodGet, "/apiTokens", nil)
	for _, path := range []string{"/apiTokens/script", "/users/anna", "/users/robot", "/users/crew", "/organizations/seattle"} {
		w.does(http.MethodDelete, path, nil)
	}
}

func (w *walk) dashboards() {
	const one = "/dashboards/dtmi:kkhf3ks0zs"
	chart := map[string]any{"type": "lineChart", "group": "machines", "devices": []string{"machine"},
		"capabilities": []any{map[string]any{"capability": "temperature", "aggregateFunction": "avg"}},
		"queryRange":   map[string]any{"type": "time", "duration": "PT30M", "resolution": "PT1M"},
		"format":       map[string]any{"xAxisEnabled": true, "yAxisEnabled": true, "legendEnabled": true}}
	tile := map[string]any{"displayName": "Temperature", "configuration": chart, "x": 0, "y": 0, "width": 2, "height": 2}
	w.does(http.MethodPut, one, map[string]any{"displayName": "Machines", "favorite": false, "tiles": []any{tile}})
	w.does(http.MethodPatch, one, map[string]any{"favorite": true})
	w.does(http.MethodGet, one, nil)
	w.does(http.MethodGet, "/dashboards", nil)
	w.does(http.MethodDelete, one, nil)
}

func (w *walk) deviceGroups() {
	const one = "/deviceGroups/machines"
	w.does(http.MethodPut, one, map[string]any{"displayName": "Machines", "filter": `SELECT * FROM devices WHERE $template = "` + machineTemplate + `"`, "organizations": []string{}})
	w.does(http.MethodGet, one, nil)
	w.does(http.MethodGet, "/deviceGroups", nil)
	w.does(http.MethodPatch, one, `{"description":"All of them"}`)
	w.comes(one+"/devices", func(page map[string]any) bool {
		value, _ := page["value"].([]any)
		return len(value) == 1
	})
	w.does(http.MethodDelete, one, nil)
}

func (w *walk) enrollmentGroups() {
	const one, certificate = "/enrollmentGroups/makers", "/enrollmentGroups/makers/certificates/primary"
	ca := enginetest.Authority(w.t, "Makers", nil)
	w.does(http.MethodPut, "/enrollmentGroups/keys", `{"displayName":"Keys","type":"iotEdge","attestation":{"type":"symmetricKey"}}`)
	w.does(http.MethodPut, one, `{"displayName":"Makers","type":"iot","attestation":{"type":"x509","x509":{}}}`)
	w.does(http.MethodPatch, one, `{"displayName":"The makers"}`)
	w.does(http.MethodPut, certificate, map[string]any{"verified": false, "certificate": ca.PEM()})
	w.does(http.MethodGet, certificate, nil)
	code := w.does(http.MethodPost, certificate+"/generateVerificationCode", nil)["verificationCode"].(string)
	w.does(http.MethodPost, certificate+"/verify", map[string]any{"certificate": enginetest.Device(w.t, code, ca).PEM()})
	w.does(http.MethodGet, one, nil)
	w.does(http.MethodDelete, certificate, nil)
	w.does(http.MethodGet, "/enrollmentGroups", nil)
	w.does(http.MethodDelete, one, nil)
	w.refuses(http.StatusNotFound, http.MethodGet, one, nil)
}

// manners are what all calls share: pages, etags, errors and versions.
func (w *walk) manners() {
	var ids []string
	next := "/devices?maxpagesize=1"
	for next != "" {
		page := w.does(http.MethodGet, next, nil)
		require.Len(w.t, page["value"], 1)
		ids = append(ids, page["value"].([]any)[0].(map[string]any)["id"].(string))
		link, _ := page["nextLink"].(string)
		at, err := url.Parse(link)
		require.NoError(w.t, err)
		next = ""
		if link != "" {
			require.Equal(w.t, w.reference.version, at.Query().Get("api-version"))
			next = strings.TrimPrefix(at.RequestURI(), "/api")
		}
	}
	require.Equal(w.t, []string{"child", "edge", "machine", "plain"}, ids)

	d := w.does(http.MethodGet, "/devices/plain", nil)
	stale := d["etag"].(string)
	w.does(http.MethodPatch, "/devices/plain", map[string]any{"etag": stale, "displayName": "Plainer"})
	w.refuses(http.StatusPreconditionFailed, http.MethodPatch, "/devices/plain", map[string]any{"etag": stale, "displayName": "Plainest"})
	w.refuses(http.StatusPreconditionFailed, http.MethodPut, "/devices/plain", `{}`, "If-Match", `"`+stale+`"`)
	w.refuses(http.StatusConflict, http.MethodPut, "/devices/plain", `{}`, "If-None-Match", "*")
	w.refuses(http.StatusUnauthorized, http.MethodGet, "/devices", nil, "Authorization", "")
	for _, o := range w.reference.operations {
		none := pathParameter.ReplaceAllString(o.path, "none")
		status, answer, header := w.call(o.method, "/api"+none+"?api-version=1999-01-01", "{}")
		w.reference.refused(w.t, http.StatusBadRequest, status, answer, header, fmt.Sprintf("%s %s of no version", o.method, none))
		if o.method == http.MethodGet && strings.Contains(o.path, "{") && !strings.Contains(o.path, "{entry}") {
			w.refuses(http.StatusNotFound, http.MethodGet, none, nil)
		}
	}
}

func (w *walk) end() {
	for _, id := range []string{"machine", "edge", "plain", "child"} {
		w.does(http.MethodDelete, "/devices/"+id, nil)
		w.refuses(http.StatusNotFound, http.MethodGet, "/devices/"+id, nil)
	}
	require.Empty(w.t, w.does(http.MethodGet, "/devices", nil)["value"])
	w.does(http.MethodDelete, "/deviceTemplates/"+machineTemplate, nil)
}
