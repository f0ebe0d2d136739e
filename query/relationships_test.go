package query

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/stretchr/testify/require"
)

func TestADeviceIsAttachedToItsGateway(t *testing.T) {
	a := newAPI(t)
	for _, id := range []string{"gateway", "other", "child", "child-2"} {
		a.call(http.MethodPut, "/api/devices/"+id, `{}`)
	}
	const edge = "/api/devices/gateway/relationships/r-1"
	status, answer, _ := a.call(http.MethodPut, edge, `{"source":"gateway","target":"child"}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, map[string]any{"id": "r-1", "source": "gateway", "target": "child"}, answer)
	require.Equal(t, "gateway", a.devices.Get(access.DefaultTenant, "child").GetParent())
	for _, path := range []string{edge, "/api/devices/child/relationships/r-1"} {
		status, read, _ := a.call(http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, answer, read, "either end tells of it")
	}
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"gateway of itself", http.MethodPut, edge, `{"source":"gateway","target":"gateway"}`, 400, "two devices"},
		{"one end", http.MethodPut, "/api/devices/gateway/relationships/r-2", `{"source":"gateway"}`, 400, "two devices"},
		{"of others", http.MethodPut, "/api/devices/child-2/relationships/r-2", `{"source":"gateway","target":"child"}`, 400, "path's device"},
		{"none", http.MethodPut, "/api/devices/gateway/relationships/r-2", `{"target":"none"}`, 404, "does not exist"},
		{"second gateway", http.MethodPut, "/api/devices/other/relationships/r-2", `{"target":"child"}`, 409, "has gateway"},
		{"in a circle", http.MethodPut, "/api/devices/child/relationships/r-2", `{"target":"gateway"}`, 409, "is the gateway of"},
		{"id that cannot be", http.MethodPut, "/api/devices/other/relationships/a%20b", `{"target":"child-2"}`, 400, "relationship id"},
		{"another id", http.MethodPut, edge, `{"id":"r-2","target":"child"}`, 400, "leave it out"},
		{"read of none", http.MethodGet, "/api/devices/gateway/relationships/r-9", "", 404, "no relationship"},
		{"patch of none", http.MethodPatch, "/api/devices/gateway/relationships/r-9", `{"target":"child"}`, 404, "no relationship"},
		{"delete of none", http.MethodDelete, "/api/devices/gateway/relationships/r-9", "", 404, "no relationship"},
	} {
		status, answer, _ := a.call(tc.method, tc.path, tc.body)
		require.Equal(t, tc.status, status, "%s: %v", tc.name, answer)
		require.Contains(t, message(answer), tc.says, tc.name)
	}
	status, answer, _ = a.call(http.MethodPatch, edge, `{"source":"other"}`, "Content-Type", "application/merge-patch+json")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "other", a.devices.Get(access.DefaultTenant, "child").GetParent())
	status, answer, _ = a.call(http.MethodPatch, "/api/devices/other/relationships/r-1", `{"target":"child-2"}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.Empty(t, a.devices.Get(access.DefaultTenant, "child").GetParent())
	require.Equal(t, "other", a.devices.Get(access.DefaultTenant, "child-2").GetParent())
	status, _, _ = a.call(http.MethodDelete, "/api/devices/child-2/relationships/r-1", "")
	require.Equal(t, http.StatusNoContent, status)
	require.Empty(t, a.devices.Get(access.DefaultTenant, "child-2").GetParent())
}

func TestRelationshipsArePaged(t *testing.T) {
	a := newAPI(t)
	a.call(http.MethodPut, "/api/devices/top", `{}`)
	a.call(http.MethodPut, "/api/devices/gateway", `{}`)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/gateway/relationships/up", `{"source":"top"}`)
	require.Equal(t, http.StatusOK, status, answer)
	for i := range 5 {
		a.call(http.MethodPut, fmt.Sprintf("/api/devices/child-%d", i), `{}`)
		status, answer, _ := a.call(http.MethodPut, fmt.Sprintf("/api/devices/gateway/relationships/r-%d", i), fmt.Sprintf(`{"target":"child-%d"}`, i))
		require.Equal(t, http.StatusOK, status, answer)
	}
	for size := 1; size <= 6; size++ {
		var ids []string
		for next := fmt.Sprintf("/api/devices/gateway/relationships?maxpagesize=%d", size); next != ""; {
			_, list, _ := a.call(http.MethodGet, next, "")
			require.LessOrEqual(t, len(list["value"].([]any)), size)
			require.NotEmpty(t, list["value"])
			for _, r := range list["value"].([]any) {
				ids = append(ids, r.(map[string]any)["id"].(string))
			}
			next, _ = list["nextLink"].(string)
		}
		require.Equal(t, []string{"up", "r-0", "r-1", "r-2", "r-3", "r-4"}, ids, "pages of %d", size)
	}
}
