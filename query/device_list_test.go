package query

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ids are the devices of a list's page.
func ids(page map[string]any) []string {
	found := []string{}
	for _, d := range page["value"].([]any) {
		found = append(found, d.(map[string]any)["id"].(string))
	}
	return found
}

// search is the path of a list of devices.
func search(filter, orderby string, size int) string {
	return "/api/devices?" + url.Values{"filter": {filter}, "orderby": {orderby}, "maxpagesize": {fmt.Sprint(size)}}.Encode()
}

func TestDeviceListFilters(t *testing.T) {
	a := newAPI(t)
	a.organizations("north", "south", "berlin")
	a.projectDevices()
	enginetest.PublishTemplate(t, a.catalog, "dtmi:contoso:Thermostat;1", "dtmi:contoso:Model;1")
	for i, body := range []string{
		`{"displayName":"Lobby","template":"dtmi:contoso:Thermostat;1","organizations":["north"]}`,
		`{"displayName":"Second lobby","enabled":false}`,
		`{"displayName":"It's \\ \t%_","simulated":true}`,
		`{"displayName":"Cellar","template":"dtmi:contoso:Thermostat;1"}`,
	} {
		a.ok(http.MethodPut, fmt.Sprintf("/api/devices/d-%d", i), body)
	}
	for _, tc := range []struct {
		filter, orderby string
		want            []string
	}{
		{"displayName eq 'Lobby'", "", []string{"d-0"}},
		{"indexof(displayName, 'LOBBY') ge 0", "", []string{"d-0", "d-1"}},
		{"enabled eq false or simulated eq true", "", []string{"d-1", "d-2"}},
		{"template eq 'dtmi:contoso:Thermostat;1' and not (scopes eq 'north')", "", []string{}},
		{"template eq 'dtmi:contoso:Thermostat;1' and organizations eq null", "", []string{"d-3"}},
		{`displayName eq 'It''s \ ` + "\t" + `%_'`, "", []string{"d-2"}},
		{"contains(displayName, '%_')", "", []string{"d-2"}},
		{"type eq 'EdgeDevice'", "", []string{}},
		{"", "displayName desc", []string{"d-1", "d-0", "d-2", "d-3"}},
		{"id ne 'd-0'", "enabled, displayName", []string{"d-1", "d-3", "d-2"}},
		{" ", "id desc, displayName", []string{"d-3", "d-2", "d-1", "d-0"}},
	} {
		t.Run(tc.filter+" by "+tc.orderby, func(t *testing.T) {
			require.Equal(t, tc.want, ids(a.ok(http.MethodGet, search(tc.filter, tc.orderby, 100), "")))
			found := []string{}
			for next := search(tc.filter, tc.orderby, 1); next != ""; {
				page := a.ok(http.MethodGet, next, "")
				found = append(found, ids(page)...)
				next, _ = page["nextLink"].(string)
			}
			require.Equal(t, tc.want, found, "page by page")
		})
	}
	status, answer, _ := a.call(http.MethodGet, search("displayName eq Lobby", "", 1), "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, message(answer), "displayName eq Lobby\n               ^")
	status, answer, _ = a.call(http.MethodGet, search("", "name", 1), "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, message(answer), "expected a field")
}

// TestDeviceListPagesAreStable has devices come, change and go between pages.
func TestDeviceListPagesAreStable(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	for _, id := range []string{"b", "d", "f", "h"} {
		a.ok(http.MethodPut, "/api/devices/"+id, `{"displayName":"`+id+`"}`)
	}
	page := a.ok(http.MethodGet, search("enabled eq true", "displayName desc", 2), "")
	require.Equal(t, []string{"h", "f"}, ids(page))
	for _, id := range []string{"a", "c", "e", "g", "i"} {
		a.ok(http.MethodPut, "/api/devices/"+id, `{"displayName":"`+id+`"}`)
	}
	a.ok(http.MethodPatch, "/api/devices/c", `{"enabled":false}`)
	a.call(http.MethodDelete, "/api/devices/d", "")
	page = a.ok(http.MethodGet, page["nextLink"].(string), "")
	require.Equal(t, []string{"e", "b"}, ids(page))
	next, err := url.Parse(page["nextLink"].(string))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, ids(a.ok(http.MethodGet, next.String(), "")))
	query := next.Query()
	query.Set("orderby", "displayName")
	status, answer, _ := a.call(http.MethodGet, "/api/devices?"+query.Encode(), "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, message(answer), "another filter or order")
}

// TestWhatOneHasChangedOneFinds has the projection lag.
func TestWhatOneHasChangedOneFinds(t *testing.T) {
	a := newAPI(t)
	lag := a.projectDevices()
	const path = "/api/devices?filter=displayName+eq+'new'"
	for _, id := range []string{"d", "e", "f"} {
		a.ok(http.MethodPut, "/api/devices/"+id, `{"displayName":"old"}`)
	}
	lag.Lock()
	for _, id := range []string{"d", "e"} {
		a.ok(http.MethodPatch, "/api/devices/"+id, `{"displayName":"new"}`)
	}
	found := make(chan []string, 1)
	go func() { found <- ids(a.ok(http.MethodGet, path, "")) }()
	require.Never(t, func() bool { return len(found) > 0 }, 200*time.Millisecond, 10*time.Millisecond, "it waits for the table")
	lag.Unlock()
	require.Equal(t, []string{"d", "e"}, <-found)

	lag.Lock()
	a.call(http.MethodDelete, "/api/devices/d", "")
	a.ok(http.MethodPatch, "/api/devices/e", `{"displayName":"other"}`)
	a.ok(http.MethodPatch, "/api/devices/f", `{"displayName":"new"}`)
	require.Empty(t, ids(a.ok(http.MethodGet, path, "")), "a projection that stands still: nothing is shown that the filter does not mean")
	lag.Unlock()
	require.Equal(t, []string{"f"}, ids(a.ok(http.MethodGet, path, "")))
}

// TestFilterWithoutTheTable wants a node whose projection has never run to say so.
func TestFilterWithoutTheTable(t *testing.T) {
	a := newAPI(t)
	a.ok(http.MethodPut, "/api/devices/d", "{}")
	_, err := apiv1.NewDeviceServiceClient(a.rpc).ListDevices(a.authorized(t), &apiv1.ListDevicesRequest{Filter: "enabled eq true"})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Contains(t, status.Convert(err).Message(), "the projection has not begun yet")
}
