package query

import (
	"fmt"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"net/http"
	"testing"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestDeviceGroupsOverREST(t *testing.T) {
	a := newAPI(t)
	a.organizations("north", "south", "berlin")
	const group = "/api/deviceGroups/group_1-A"
	g := a.ok(http.MethodPut, group, `{"displayName":"Provisioned","filter":"SELECT * FROM devices WHERE $provisioned = true","organizations":["north"]}`)
	require.Equal(t, map[string]any{
		"id": "group_1-A", "etag": "v1", "displayName": "Provisioned", "filter": "SELECT * FROM devices WHERE $provisioned = true", "description": "", "organizations": []any{"north"},
	}, g)
	g = a.ok(http.MethodPatch, group, `{"description":"those that came by themselves","etag":"v1"}`)
	require.Equal(t, []any{"v2", "Provisioned", "those that came by themselves"}, []any{g["etag"], g["displayName"], g["description"]})
	g = a.ok(http.MethodPatch, group, `{"displayName":"P","filter":"SELECT * FROM devices","organizations":["south"]}`)
	require.Equal(t, []any{"v3", "P", "SELECT * FROM devices", []any{"south"}}, []any{g["etag"], g["displayName"], g["filter"], g["organizations"]})
	g = a.ok(http.MethodPut, group, `{"displayName":"Q","filter":"SELECT * FROM devices"}`, "If-Match", `"v3"`)
	require.Equal(t, []any{"v4", "Q", "", []any{}}, []any{g["etag"], g["displayName"], g["description"], g["organizations"]})
	require.Equal(t, g, a.ok(http.MethodGet, group, ""))
	a.ok(http.MethodPut, "/api/deviceGroups/a", `{"displayName":"A","filter":"SELECT * FROM devices"}`)
	page := a.ok(http.MethodGet, "/api/deviceGroups?maxpagesize=1", "")
	require.Equal(t, []string{"a"}, ids(page))
	page = a.ok(http.MethodGet, page["nextLink"].(string), "")
	require.Equal(t, []string{"group_1-A"}, ids(page))
	require.NotContains(t, page, "nextLink")
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"none", http.MethodGet, "/api/deviceGroups/none", "", 404, "does not exist"},
		{"devices of none", http.MethodGet, "/api/deviceGroups/none/devices", "", 404, "does not exist"},
		{"patch of none", http.MethodPatch, "/api/deviceGroups/none", `{"displayName":"x"}`, 404, "does not exist"},
		{"delete of none", http.MethodDelete, "/api/deviceGroups/none", "", 404, "does not exist"},
		{"old etag", http.MethodPatch, group, `{"displayName":"x","etag":"v1"}`, 412, "read it again"},
		{"id", http.MethodPut, "/api/deviceGroups/a.b", `{"displayName":"x","filter":"SELECT * FROM devices"}`, 400, "id is not valid"},
		{"another id", http.MethodPut, "/api/deviceGroups/b", `{"id":"c"}`, 400, "the path's"},
		{"no name", http.MethodPut, "/api/deviceGroups/b", `{"filter":"SELECT * FROM devices"}`, 400, "displayName"},
		{"filter", http.MethodPut, "/api/deviceGroups/b", `{"displayName":"x","filter":"SELECT * FROM devices WHERE $nope = 1"}`, 400, "there is no field \"$nope\""},
		{"filter of a preview", http.MethodPost, "/api/deviceGroups/preview", `{"filter":"SELECT"}`, 400, "expected SELECT * FROM devices"},
		{"page of a preview", http.MethodPost, "/api/deviceGroups/preview", `{"filter":"SELECT * FROM devices","maxpagesize":1001}`, 400, "maxpagesize"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, answer, _ := a.call(tc.method, tc.path, tc.body)
			require.Equal(t, tc.status, status, answer)
			require.Contains(t, message(answer), tc.says)
		})
	}
	status, _, _ := a.call(http.MethodDelete, group, "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = a.call(http.MethodGet, group, "")
	require.Equal(t, http.StatusNotFound, status)
}

// TestDeviceGroupMembers wants a group to be what its query means at the moment.
func TestDeviceGroupMembers(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	for i := range 25 {
		a.ok(http.MethodPut, fmt.Sprintf("/api/devices/d-%02d", i), `{"displayName":"Meter"}`)
		a.ok(http.MethodPatch, fmt.Sprintf("/api/devices/d-%02d/properties", i), fmt.Sprintf(`{"target":%d.5,"inside":{"__t":"c","mode":"%d"}}`, i, i%2))
	}
	const warm = `SELECT * FROM devices WHERE target > 10 AND inside.mode = \"1\" AND CONTAINS($displayName, \"meter\")`
	a.ok(http.MethodPut, "/api/deviceGroups/warm", `{"displayName":"Warm","filter":"`+warm+`"}`)
	page := a.ok(http.MethodGet, "/api/deviceGroups/warm/devices?maxpagesize=5", "")
	require.Equal(t, []string{"d-11", "d-13", "d-15", "d-17", "d-19"}, ids(page))
	require.Equal(t, "Meter", page["value"].([]any)[0].(map[string]any)["displayName"])
	require.Equal(t, []string{"d-21", "d-23"}, ids(a.ok(http.MethodGet, page["nextLink"].(string), "")))

	a.ok(http.MethodPatch, "/api/devices/d-00/properties", `{"target":99,"inside":{"__t":"c","mode":"1"}}`)
	a.ok(http.MethodPatch, "/api/devices/d-11/properties", `{"target":1}`)
	require.Equal(t, []string{"d-00", "d-13"}, ids(a.ok(http.MethodGet, "/api/deviceGroups/warm/devices?maxpagesize=2", "")))
	preview := a.ok(http.MethodPost, "/api/deviceGroups/preview", `{"filter":"`+warm+`","maxpagesize":2}`)
	require.Equal(t, []string{"d-00", "d-13"}, ids(preview))
	require.EqualValues(t, 7, preview["count"])
	preview = a.ok(http.MethodPost, "/api/deviceGroups/preview", `{"filter":"`+warm+`"}`)
	require.Len(t, ids(preview), 7)
	require.EqualValues(t, 7, preview["count"])
}

// TestTemplatesHaveAGroup wants GRP-05's group without anybody making it, and its
// place to be free for another.
func TestTemplatesHaveAGroup(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	enginetest.PublishTemplate(t, a.catalog, "dtmi:contoso:Thermostat;1", "dtmi:contoso:Model;1")
	_, err := a.catalog.Change(t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: access.DefaultTenant, Kind: template.KindName, Resource: "dtmi:contoso:Draft;1", Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_DeviceTemplate{DeviceTemplate: &eventsv1.DeviceTemplate{Draft: []byte("{}")}},
	})
	require.NoError(t, err)
	a.ok(http.MethodPut, "/api/devices/d", `{"template":"dtmi:contoso:Thermostat;1"}`)
	a.ok(http.MethodPut, "/api/devices/e", `{}`)
	a.ok(http.MethodPut, "/api/deviceGroups/a", `{"displayName":"A","filter":"SELECT * FROM devices"}`)
	a.ok(http.MethodPut, "/api/deviceGroups/z", `{"displayName":"Z","filter":"SELECT * FROM devices"}`)
	const path = "/api/deviceGroups/dtmi-contoso-Thermostat-1"
	require.Equal(t, map[string]any{
		"id": "dtmi-contoso-Thermostat-1", "displayName": "Thermostat - All devices", "filter": `SELECT * FROM devices WHERE $template = "dtmi:contoso:Thermostat;1"`,
		"description": "", "organizations": []any{}, "etag": "",
	}, a.ok(http.MethodGet, path, ""))
	found := []string{}
	for next := "/api/deviceGroups?maxpagesize=1"; next != ""; {
		page := a.ok(http.MethodGet, next, "")
		found = append(found, ids(page)...)
		next, _ = page["nextLink"].(string)
	}
	require.Equal(t, []string{"a", "dtmi-contoso-Thermostat-1", "z"}, found)
	require.Equal(t, []string{"d"}, ids(a.ok(http.MethodGet, path+"/devices", "")))
	status, answer, _ := a.call(http.MethodDelete, path, "")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, message(answer), "cannot be deleted")

	g := a.ok(http.MethodPatch, path, `{"filter":"SELECT * FROM devices"}`)
	require.Equal(t, []any{"v1", "Thermostat - All devices"}, []any{g["etag"], g["displayName"]})
	require.Equal(t, []string{"d", "e"}, ids(a.ok(http.MethodGet, path+"/devices", "")))
	status, _, _ = a.call(http.MethodDelete, path, "")
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, []string{"d"}, ids(a.ok(http.MethodGet, path+"/devices", "")))
}
