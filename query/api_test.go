package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/devicegroup"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/fleetlog/fleetlog/query/operations"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// api is the whole API on real engines, as a client meets it.
type api struct {
	t     testing.TB
	url   string
	token string
	rpc   *grpc.ClientConn
	db    *clickhouse.Conn
	// engine is the address of ClickHouse.
	engine  string
	devices *registry.Registry
	catalog *catalog.Catalog
	log     *eventlog.Log
	// folding is held by a test that wants changes to wait.
	folding *sync.Mutex
	waiting *atomic.Int32 // changes that wait for the fold
	// stop ends the server, stopped says how it ended.
	stop    context.CancelFunc
	stopped <-chan error
}

// organizations makes organizations, each directly below the root.
func (a *api) organizations(ids ...string) {
	a.t.Helper()
	for _, id := range ids {
		a.ok(http.MethodPut, "/api/organizations/"+id, `{"displayName":"`+id+`"}`)
	}
}

// strangersToken is an administrator's of another tenant.
const strangersToken = "sr=stranger&sig=c3RyYW5nZXI%3D&skn=admin"

func newAPI(t testing.TB) *api {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(t, err)
	addr, database := enginetest.ClickHouse(t)
	engines := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		goleak.VerifyNone(t, engines, goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).write"),
			goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read"))
	})
	db, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	// The columns that the API reads of the projection's table.
	require.NoError(t, db.Exec(t.Context(), `CREATE TABLE telemetry (tenant LowCardinality(String), device String, ts DateTime64(3, 'UTC'),
		component LowCardinality(String), module LowCardinality(String), body JSON, enqueued_at DateTime64(3, 'UTC') DEFAULT now64(3), partition Int32, offset Int64) ENGINE = MergeTree ORDER BY (tenant, device, ts, partition, offset)`))
	path := t.TempDir() + "/admin-token"
	admin, _, err := access.OpenAdminToken(path)
	require.NoError(t, err)
	token, err := os.ReadFile(path)
	require.NoError(t, err)
	keys, err := device.OpenMasterKey(t.TempDir() + "/master.key")
	require.NoError(t, err)
	devices, resources := registry.New(log, quiet), catalog.New(log, quiet, append(access.Kinds(), enrollment.Kind(), devicegroup.Kind(), template.Kind(), deviceoperation.Kind(), dashboard.Kind(), dashboard.QueryKind())...)
	directory := access.NewDirectory(resources)
	groups, templates := enrollment.New(resources, keys, quiet), template.New(resources, quiet)
	store, err := files.Open(t.Context(), "file://"+t.TempDir())
	require.NoError(t, err)
	runner, err := operations.New(operations.Deps{Registry: devices, Catalog: resources, Groups: groups, Templates: templates, Keys: keys, Files: store, Node: "node", Logger: quiet})
	require.NoError(t, err)
	server := NewServer(Deps{
		Registry: devices, Catalog: resources, Groups: groups, Templates: templates, Keys: keys, Who: access.Any{admin, access.NewAdminToken(strangersToken, "stranger"), access.NewTokens(directory)}, Directory: directory, Log: log, ClickHouse: db, Operations: runner, Metrics: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		Ready:  map[string]func(context.Context) error{"registry": func(context.Context) error { return devices.Ready() }},
	})
	rest, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	serving, stop := context.WithCancel(ctx)
	stopped, ends := make(chan error, 1), make(chan error, 4)
	folding, waiting := new(sync.Mutex), new(atomic.Int32)
	go func() { stopped <- server.Serve(serving, rest, rpc); close(stopped) }()
	go func() { ends <- devices.Run(ctx) }()
	go func() { ends <- resources.Run(ctx) }()
	go func() { ends <- runner.Run(ctx) }()
	go func() { ends <- fold(ctx, log, folding, waiting) }()
	conn, err := grpc.NewClient(rpc.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		cancel()
		stop()
		require.NoError(t, <-stopped)
		for range cap(ends) {
			require.NoError(t, <-ends)
		}
		require.NoError(t, store.Close())
		log.Close()
	})
	require.Eventually(t, func() bool { return devices.Ready() == nil && resources.Ready() == nil }, 10*time.Second, time.Millisecond)
	return &api{
		t: t, url: "http://" + rest.Addr().String(), token: string(token), rpc: conn, db: db, engine: addr,
		devices: devices, catalog: resources, log: log, folding: folding, waiting: waiting, stop: stop, stopped: stopped,
	}
}

// fold decides device events as the processor of another room does.
func fold(ctx context.Context, log *eventlog.Log, folding *sync.Mutex, waiting *atomic.Int32) error {
	states := map[string]*eventsv1.DeviceState{}
	return log.Follow(ctx, eventlog.Devices, func(r *kgo.Record) {
		waiting.Add(1)
		folding.Lock()
		waiting.Add(-1)
		defer folding.Unlock()
		ev := new(eventsv1.DeviceEvent)
		if err := proto.Unmarshal(r.Value, ev); err != nil {
			panic(err)
		}
		state, outcome := device.Apply(states[string(r.Key)], ev)
		states[string(r.Key)] = state
		if state == nil {
			state = &eventsv1.DeviceState{Tenant: ev.GetTenant(), Device: ev.GetDevice(), Deleted: true}
		}
		value, err := proto.Marshal(&eventsv1.DeviceSnapshot{State: state, Offset: r.Offset, Outcomes: []*eventsv1.Outcome{outcome}, Time: ev.GetTime()})
		if err != nil {
			panic(err)
		}
		log.Append(ctx, &kgo.Record{Topic: log.Name(eventlog.DeviceState), Key: r.Key, Value: value}, nil)
	}, func() {})
}

// call does a REST request with the token unless the headers name another.
func (a *api) call(method, path, body string, header ...string) (int, map[string]any, http.Header) {
	a.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = a.url + path
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, path, bytes.NewReader([]byte(body)))
	require.NoError(a.t, err)
	req.Header.Set("Authorization", a.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(a.t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	var answer map[string]any
	if len(content) > 0 && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		require.NoError(a.t, json.Unmarshal(content, &answer), "%s", content)
	}
	return resp.StatusCode, answer, resp.Header
}

// logText is all that is on a topic.
func (a *api) logText(topic eventlog.Topic) string {
	a.t.Helper()
	var text strings.Builder
	for partition := range a.log.Partitions(topic) {
		require.NoError(a.t, a.log.ReadPartition(a.t.Context(), topic, partition, func(r *kgo.Record) {
			text.Write(r.Key)
			text.Write(r.Value)
		}))
	}
	require.NotEmpty(a.t, text.String())
	return text.String()
}

func message(answer map[string]any) string {
	e, _ := answer["error"].(map[string]any)
	m, _ := e["message"].(string)
	return m
}

// thermostat is a device template without contents.
const thermostat = `{"@type":["ModelDefinition","DeviceModel"],"capabilityModel":{"@id":"dtmi:contoso:ThermostatModel;1","@type":"Interface","contents":[]}}`

func TestDeviceLifeOverREST(t *testing.T) {
	a := newAPI(t)
	const registration = `{"displayName":"Lobby","template":"dtmi:contoso:Thermostat;1"}`
	status, d, _ := a.call(http.MethodPut, "/api/devices/thermostat-1?api-version=2022-07-31", registration)
	require.Equal(t, http.StatusBadRequest, status, d)
	require.Contains(t, message(d), "there is no published device template")
	a.ok(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:Thermostat;1", thermostat)
	status, d, h := a.call(http.MethodPut, "/api/devices/thermostat-1?api-version=2022-07-31", registration)
	require.Equal(t, http.StatusOK, status, d)
	require.Equal(t, map[string]any{
		"id": "thermostat-1", "etag": "v1", "displayName": "Lobby", "template": "dtmi:contoso:Thermostat;1",
		"enabled": true, "provisioned": false, "simulated": false, "organizations": []any{}, "type": []any{},
	}, d)
	require.Equal(t, `"v1"`, h.Get("ETag"))
	require.NotEmpty(t, h.Get("x-ms-request-id"))

	_, read, _ := a.call(http.MethodGet, "/api/devices/thermostat-1", "")
	require.Equal(t, d, read, "a change that was answered is read at once")

	status, d, _ = a.call(http.MethodPatch, "/api/devices/thermostat-1", `{"enabled":false}`, "If-Match", `"v1"`)
	require.Equal(t, http.StatusOK, status, d)
	require.Equal(t, false, d["enabled"])
	require.Equal(t, "Lobby", d["displayName"])
	require.Equal(t, "v2", d["etag"])

	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		says                     string
	}{
		{"stale If-Match", http.MethodPatch, "/api/devices/thermostat-1", `{"enabled":true}`, []string{"If-Match", `"v1"`}, 412, "read it again"},
		{"stale etag in the body", http.MethodPatch, "/api/devices/thermostat-1", `{"etag":"v1","enabled":true}`, nil, 412, "read it again"},
		{"etag that is none", http.MethodPatch, "/api/devices/thermostat-1", `{}`, []string{"If-Match", "abc"}, 400, "etag"},
		{"create what exists", http.MethodPut, "/api/devices/thermostat-1", `{}`, []string{"If-None-Match", "*"}, 409, "already exists"},
		{"patch of none", http.MethodPatch, "/api/devices/none", `{"enabled":true}`, nil, 404, "does not exist"},
		{"read of none", http.MethodGet, "/api/devices/none", "", nil, 404, "does not exist"},
		{"delete of none", http.MethodDelete, "/api/devices/none", "", nil, 404, "does not exist"},
		{"credentials of none", http.MethodGet, "/api/devices/none/credentials", "", nil, 404, "does not exist"},
		{"id that cannot be", http.MethodPut, "/api/devices/a%20b", `{}`, nil, 400, "device id"},
		{"id with a slash", http.MethodGet, "/api/devices/a%2Fb", "", nil, 404, ""},
		{"another id in the body", http.MethodPut, "/api/devices/x", `{"id":"y"}`, nil, 400, "leave it out"},
		{"not JSON", http.MethodPut, "/api/devices/x", `{"displayName":`, nil, 400, "middle of the JSON"},
		{"unknown field", http.MethodPut, "/api/devices/x", `{"displayNam":"x"}`, nil, 400, "displayNam"},
		{"wrong type", http.MethodPut, "/api/devices/x", `{"enabled":"yes"}`, nil, 400, "enabled"},
		{"template that is none", http.MethodPut, "/api/devices/x", `{"template":"abc"}`, nil, 400, "digital twin model id"},
		{"name too long", http.MethodPut, "/api/devices/x", `{"displayName":"` + strings.Repeat("x", 149) + `"}`, nil, 400, "148"},
		{"body too large", http.MethodPut, "/api/devices/x", `{"displayName":"` + strings.Repeat("x", 2<<20) + `"}`, nil, 413, "too large"},
		{"body of another kind", http.MethodPut, "/api/devices/x", `a=b`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "JSON"},
		{"no token", http.MethodGet, "/api/devices", "", []string{"Authorization", ""}, 401, "admin-token"},
		{"wrong token", http.MethodGet, "/api/devices", "", []string{"Authorization", "Bearer wrong"}, 401, "admin-token"},
		{"filter", http.MethodGet, "/api/devices?filter=simulated%20is%20true", "", nil, 400, "expected eq"},
		{"page too large", http.MethodGet, "/api/devices?maxpagesize=1001", "", nil, 400, "1000"},
		{"page token of someone else", http.MethodGet, "/api/devices?pageToken=xyz", "", nil, 400, "nextLink"},
		{"parameter of the wrong type", http.MethodGet, "/api/devices?maxpagesize=many", "", nil, 400, "maxpagesize"},
		{"version that is not ours", http.MethodGet, "/api/devices?api-version=2099-01-01", "", nil, 400, "2022-07-31"},
		{"unknown path", http.MethodGet, "/api/nothing", "", nil, 404, "/docs"},
		{"unknown method", http.MethodPost, "/api/devices/x", "{}", nil, 405, "/docs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, answer, h := a.call(tc.method, tc.path, tc.body, tc.header...)
			require.Equal(t, tc.status, status, answer)
			e, ok := answer["error"].(map[string]any)
			require.True(t, ok, answer)
			for _, field := range []string{"code", "message", "requestId", "time"} {
				require.NotEmpty(t, e[field], field)
			}
			require.Contains(t, message(answer), tc.says)
			require.Equal(t, e["requestId"], h.Get("x-ms-request-id"))
			if status == http.StatusUnauthorized {
				require.NotEmpty(t, h.Get("WWW-Authenticate"))
			}
		})
	}

	status, credentials, _ := a.call(http.MethodGet, "/api/devices/thermostat-1/credentials", "")
	require.Equal(t, http.StatusOK, status)
	require.Regexp(t, "^0ne[0-9A-F]{8}$", credentials["idScope"])
	require.Len(t, credentials["symmetricKey"].(map[string]any)["primaryKey"], 44)

	status, _, h = a.call(http.MethodDelete, "/api/devices/thermostat-1", "")
	require.Equal(t, http.StatusNoContent, status)
	require.Empty(t, h.Get("Content-Type"))
	status, _, _ = a.call(http.MethodGet, "/api/devices/thermostat-1", "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestDevicesArePaged(t *testing.T) {
	a := newAPI(t)
	_, list, _ := a.call(http.MethodGet, "/api/devices", "")
	require.Equal(t, map[string]any{"value": []any{}}, list)
	for i := range 7 {
		status, answer, _ := a.call(http.MethodPut, fmt.Sprintf("/api/devices/d-%d", i), "{}")
		require.Equal(t, http.StatusOK, status, answer)
	}
	var ids []string
	next := "/api/devices?maxpagesize=3&api-version=2022-07-31"
	for pages := 0; next != ""; pages++ {
		require.Less(t, pages, 4)
		status, list, _ := a.call(http.MethodGet, next, "")
		require.Equal(t, http.StatusOK, status, list)
		for _, d := range list["value"].([]any) {
			ids = append(ids, d.(map[string]any)["id"].(string))
		}
		next, _ = list["nextLink"].(string)
		require.NotContains(t, list, "nextPageToken", "IoT Central has none")
	}
	require.Equal(t, []string{"d-0", "d-1", "d-2", "d-3", "d-4", "d-5", "d-6"}, ids)
}

func TestGRPC(t *testing.T) {
	a := newAPI(t)
	devices := apiv1.NewDeviceServiceClient(a.rpc)
	_, err := devices.ListDevices(t.Context(), &apiv1.ListDevicesRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+a.token)
	d, err := devices.PutDevice(ctx, &apiv1.PutDeviceRequest{DeviceId: "d", Device: &apiv1.Device{DisplayName: "one"}})
	require.NoError(t, err)
	require.True(t, d.GetEnabled())
	_, err = devices.UpdateDevice(metadata.AppendToOutgoingContext(ctx, "if-match", "v9"), &apiv1.UpdateDeviceRequest{DeviceId: "d", Device: &apiv1.DevicePatch{DisplayName: proto.String("two")}})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	list, err := devices.ListDevices(ctx, &apiv1.ListDevicesRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetValue(), 1)
	require.Nil(t, list.NextLink)
	require.Nil(t, list.NextPageToken)
	_, err = devices.PutDevice(ctx, &apiv1.PutDeviceRequest{DeviceId: "e"})
	require.NoError(t, err)
	list, err = devices.ListDevices(ctx, &apiv1.ListDevicesRequest{Maxpagesize: 1})
	require.NoError(t, err)
	require.Nil(t, list.NextLink)
	list, err = devices.ListDevices(ctx, &apiv1.ListDevicesRequest{Maxpagesize: 1, PageToken: list.GetNextPageToken()})
	require.NoError(t, err)
	require.Equal(t, "e", list.GetValue()[0].GetId())
}

func TestPages(t *testing.T) {
	a := newAPI(t)
	for path, want := range map[string]string{
		"/openapi.json": `"/api/devices/{deviceId}"`, "/docs/": "swagger-ui", "/docs/start.js": "/openapi.json", "/docs/swagger-ui-bundle.js": "SwaggerUIBundle",
		"/metrics": "fleetlog_api_seconds", "/healthz": "ok", "/readyz": `"ready"`,
	} {
		_, _, _ = a.call(http.MethodGet, "/api/devices", "")
		resp, err := http.Get(a.url + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, string(body), want, path)
		require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
	}
}

// authorized is a context for gRPC calls with the token.
func (a *api) authorized(t testing.TB) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", a.token)
}
