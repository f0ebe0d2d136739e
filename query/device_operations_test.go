package query

import (
	"encoding/csv"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ended waits for the end of an operation.
func (a *api) ended(id string) map[string]any {
	a.t.Helper()
	var o map[string]any
	require.Eventually(a.t, func() bool {
		_, o, _ = a.call(http.MethodGet, "/api/deviceOperations/"+id, "")
		return o["status"] != "pending" && o["status"] != "running"
	}, 30*time.Second, 10*time.Millisecond)
	return o
}

// rows downloads a CSV file.
func (a *api) rows(path string) [][]string {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.url+path, http.NoBody)
	require.NoError(a.t, err)
	req.Header.Set("Authorization", a.token)
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(a.t, err)
	defer resp.Body.Close()
	require.Equal(a.t, http.StatusOK, resp.StatusCode)
	require.Equal(a.t, "text/csv; charset=utf-8", resp.Header.Get("Content-Type"))
	require.Contains(a.t, resp.Header.Get("Content-Disposition"), "attachment")
	require.NotEmpty(a.t, resp.Header.Get("x-ms-request-id"))
	rows, err := csv.NewReader(resp.Body).ReadAll()
	require.NoError(a.t, err)
	return rows
}

func TestImportAndExportOverREST(t *testing.T) {
	a := newAPI(t)
	a.organizations("north", "south", "berlin")
	a.ok(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:Thermostat;1", thermostat)
	isCSV := []string{"Content-Type", "text/csv"}
	file := "\ufeffIOTC_DEVICEID,IOTC_DEVICENAME\r\n" + strings.Repeat("bad id,x\r\n", 20_000) + "d-1,Lobby\r\nd-2,\r\n"
	status, o, _ := a.call(http.MethodPost, "/api/devices/import?api-version=2022-07-31&template=dtmi:contoso:Thermostat;1&organization=berlin&displayName=first", file, isCSV...)
	require.Equal(t, http.StatusAccepted, status, o)
	require.Equal(t, "import", o["type"])
	require.Equal(t, "first", o["displayName"])
	require.Equal(t, "token:admin", o["requestedBy"])
	id := o["id"].(string)
	o = a.ended(id)
	require.Equal(t, []any{"completed", 20_002.0, 2.0, 20_000.0}, []any{o["status"], o["total"], o["succeeded"], o["failed"]}, "a large file comes in parts")
	require.NotEmpty(t, o["endedAt"])
	errs := a.rows("/api/deviceOperations/" + id + "/errors")
	require.Len(t, errs, 20_001, "so does a large report go out")
	require.Equal(t, []string{"line", "IOTC_DEVICEID", "code", "message"}, errs[0])
	require.Equal(t, []string{"2", "bad id", "InvalidId"}, errs[1][:3])
	_, d, _ := a.call(http.MethodGet, "/api/devices/d-1", "")
	require.Equal(t, []any{"Lobby", "dtmi:contoso:Thermostat;1", []any{"berlin"}}, []any{d["displayName"], d["template"], d["organizations"]})

	status, o, _ = a.call(http.MethodPost, "/api/devices/export", `{"displayName":"all"}`)
	require.Equal(t, http.StatusAccepted, status, o)
	export := o["id"].(string)
	require.Equal(t, "completed", a.ended(export)["status"])
	devices := a.rows("/api/deviceOperations/" + export + "/result")
	require.Len(t, devices, 3)
	_, credentials, _ := a.call(http.MethodGet, "/api/devices/d-1/credentials", "")
	keys := credentials["symmetricKey"].(map[string]any)
	require.Equal(t, []string{"d-1", "Lobby", keys["primaryKey"].(string), keys["secondaryKey"].(string), "", ""}, devices[1])
	_, o, _ = a.call(http.MethodPost, "/api/devices/export", `{"ids":["d-2","d-2","none"]}`)
	some := o["id"].(string)
	o = a.ended(some)
	require.Equal(t, []any{2.0, 1.0, 1.0}, []any{o["total"], o["succeeded"], o["failed"]})
	require.Equal(t, "NotFound", a.rows("/api/deviceOperations/" + some + "/errors")[1][2])

	status, answer, _ := a.call(http.MethodPut, "/api/deviceGroups/berlin", `{"displayName":"Berlin","filter":"SELECT * FROM devices WHERE $displayName = \"Lobby\"","organizations":["berlin"]}`)
	require.Equal(t, http.StatusOK, status, answer)
	for _, body := range []string{`{"deviceGroup":"berlin"}`, `{"filter":"displayName eq 'Lobby'"}`} {
		_, o, _ = a.call(http.MethodPost, "/api/devices/export", body)
		id := o["id"].(string)
		require.Equal(t, "completed", a.ended(id)["status"], o)
		chosen := a.rows("/api/deviceOperations/" + id + "/result")
		require.Len(t, chosen, 2, body)
		require.Equal(t, "d-1", chosen[1][0])
		status, _, _ = a.call(http.MethodDelete, "/api/deviceOperations/"+id, "")
		require.Equal(t, http.StatusNoContent, status)
	}

	_, list, _ := a.call(http.MethodGet, "/api/deviceOperations?maxpagesize=2", "")
	require.Equal(t, some, list["value"].([]any)[0].(map[string]any)["id"], "the newest first")
	_, list, _ = a.call(http.MethodGet, list["nextLink"].(string), "")
	require.Len(t, list["value"], 1)
	require.Equal(t, id, list["value"].([]any)[0].(map[string]any)["id"])
	require.NotContains(t, list, "nextLink")

	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		says                     string
	}{
		{"JSON instead of CSV", http.MethodPost, "/api/devices/import", "{}", nil, 415, "text/csv"},
		{"CSV instead of JSON", http.MethodPost, "/api/devices/export", "a", isCSV, 415, "application/json"},
		{"no file", http.MethodPost, "/api/devices/import", "", isCSV, 400, "there is no file"},
		{"a template that is none", http.MethodPost, "/api/devices/import?template=x", "a", isCSV, 400, "digital twin model id"},
		{"an organization that is none", http.MethodPost, "/api/devices/import?organization=A%20B", "a", isCSV, 400, "organization"},
		{"a long name", http.MethodPost, "/api/devices/import?displayName=" + strings.Repeat("x", 149), "a", isCSV, 400, "148"},
		{"a parameter of the wrong type", http.MethodPost, "/api/devices/import?update=maybe", "a", isCSV, 400, "update"},
		{"a file that is too large", http.MethodPost, "/api/devices/import", strings.Repeat("x", 16<<20+1), isCSV, 413, "16777216"},
		{"ids that cannot be", http.MethodPost, "/api/devices/export", `{"ids":["a b"]}`, nil, 400, "device id"},
		{"a filter that is none", http.MethodPost, "/api/devices/export", `{"filter":"displayName is x"}`, nil, 400, "displayName is x"},
		{"a group of none", http.MethodPost, "/api/devices/export", `{"deviceGroup":"none"}`, nil, 404, "does not exist"},
		{"a filter and ids", http.MethodPost, "/api/devices/export", `{"filter":"id eq 'd-1'","ids":["d-1"]}`, nil, 400, "exclude each other"},
		{"operation of none", http.MethodGet, "/api/deviceOperations/none", "", nil, 404, "does not exist"},
		{"errors of none", http.MethodGet, "/api/deviceOperations/none/errors", "", nil, 404, "does not exist"},
		{"result of an import", http.MethodGet, "/api/deviceOperations/" + id + "/result", "", nil, 404, "is an import"},
		{"cancel of what has ended", http.MethodPost, "/api/deviceOperations/" + id + "/cancel", "", nil, 409, "has ended"},
		{"cancel of none", http.MethodPost, "/api/deviceOperations/none/cancel", "", nil, 404, "does not exist"},
		{"import without a token", http.MethodPost, "/api/devices/import", "a", append([]string{"Authorization", ""}, isCSV...), 401, "admin-token"},
		{"result without a token", http.MethodGet, "/api/deviceOperations/" + export + "/result", "", []string{"Authorization", ""}, 401, "admin-token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, answer, h := a.call(tc.method, tc.path, tc.body, tc.header...)
			require.Equal(t, tc.status, status, answer)
			require.Contains(t, message(answer), tc.says)
			require.NotEmpty(t, h.Get("x-ms-request-id"))
		})
	}
	status, _, _ = a.call(http.MethodDelete, "/api/deviceOperations/"+export, "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = a.call(http.MethodGet, "/api/deviceOperations/"+export+"/result", "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestAnImportThatRunsCanBeCancelled(t *testing.T) {
	a := newAPI(t)
	a.folding.Lock() // no change is decided
	_, o, _ := a.call(http.MethodPost, "/api/devices/import", "IOTC_DEVICEID\nd-1\n", "Content-Type", "text/csv")
	id := o["id"].(string)
	require.Eventually(t, func() bool { return a.waiting.Load() > 0 }, 10*time.Second, time.Millisecond)
	status, answer, _ := a.call(http.MethodDelete, "/api/deviceOperations/"+id, "")
	require.Equal(t, http.StatusConflict, status, answer)
	require.Contains(t, message(answer), "cancel it first")
	status, answer, _ = a.call(http.MethodPost, "/api/deviceOperations/"+id+"/cancel", "")
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "cancelled", answer["status"])
	a.folding.Unlock()
	require.Eventually(t, func() bool {
		_, o, _ = a.call(http.MethodGet, "/api/deviceOperations/"+id, "")
		return o["succeeded"] == 1.0
	}, 10*time.Second, time.Millisecond, "what was under way is counted")
	require.Equal(t, "cancelled", o["status"])
}

func TestFilesOverGRPC(t *testing.T) {
	a := newAPI(t)
	client := apiv1.NewDeviceOperationServiceClient(a.rpc)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", a.token)
	upload, err := client.ImportDevices(ctx)
	require.NoError(t, err)
	for i, part := range []string{"IOTC_DEV", "ICEID\nd-1\n"} {
		req := &apiv1.ImportDevicesRequest{Content: &httpbody.HttpBody{Data: []byte(part)}}
		if i == 0 {
			req.DisplayName = "parts"
		}
		require.NoError(t, upload.Send(req))
	}
	o, err := upload.CloseAndRecv()
	require.NoError(t, err)
	require.Equal(t, "parts", o.GetDisplayName())
	require.Equal(t, 1.0, a.ended(o.GetId())["succeeded"])
	report, err := client.GetDeviceOperationErrors(ctx, &apiv1.GetDeviceOperationErrorsRequest{OperationId: o.GetId()})
	require.NoError(t, err)
	part, err := report.Recv()
	require.NoError(t, err)
	require.Equal(t, "line,IOTC_DEVICEID,code,message\n", string(part.GetData()))
	_, err = report.Recv()
	require.ErrorIs(t, err, io.EOF)

	upload, err = client.ImportDevices(ctx)
	require.NoError(t, err)
	part = &httpbody.HttpBody{Data: make([]byte, 1<<19)}
	for err == nil {
		err = upload.Send(&apiv1.ImportDevicesRequest{Content: part})
	}
	require.True(t, errors.Is(err, io.EOF), "%v", err)
	_, err = upload.CloseAndRecv()
	require.Equal(t, codes.InvalidArgument, status.Code(err), "a file beyond the bound is not read")

	upload, err = client.ImportDevices(t.Context())
	require.NoError(t, err)
	_, err = upload.CloseAndRecv()
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}
