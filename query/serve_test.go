package query

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestStopLetsCallsFinish stops the server while a change waits for the fold.
func TestStopLetsCallsFinish(t *testing.T) {
	a := newAPI(t)
	a.folding.Lock()
	got := make(chan int, 1)
	go func() {
		code, _, _ := a.call(http.MethodPut, "/api/devices/d", "{}")
		got <- code
	}()
	a.waitForChange()
	a.stop()
	require.Eventually(t, func() bool {
		resp, err := http.Get(a.url + "/healthz")
		if err == nil {
			require.NoError(t, resp.Body.Close())
		}
		return err != nil
	}, 5*time.Second, time.Millisecond, "a stopped server takes no new requests")
	require.Empty(t, got)
	a.folding.Unlock()
	require.Equal(t, http.StatusOK, <-got)
	require.NoError(t, <-a.stopped)
}

// waitForChange waits until the fold has a change before it.
func (a *api) waitForChange() {
	a.t.Helper()
	require.Eventually(a.t, func() bool { return a.waiting.Load() > 0 }, 5*time.Second, time.Millisecond)
}

// TestUndecidedChangeSaysSo has the fold stand still.
func TestUndecidedChangeSaysSo(t *testing.T) {
	a := newAPI(t)
	a.folding.Lock()
	service := &deviceService{identities: identities{registry: a.devices, timeout: 50 * time.Millisecond}}
	ctx := principal(t.Context())
	_, err := service.PutDevice(ctx, &apiv1.PutDeviceRequest{DeviceId: "d"})
	a.folding.Unlock()
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Contains(t, status.Convert(err).Message(), "read the device to see")
}

// TestClickHouseDown wants an answer that says what is wrong, and everything
// that does not need ClickHouse to go on.
func TestClickHouseDown(t *testing.T) {
	a := newAPI(t)
	engine, err := url.Parse("http://" + a.engine)
	require.NoError(t, err)
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(engine))
	db, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: proxy.URL, Database: a.db.Database()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	code, answer, _ := a.call(http.MethodPut, "/api/devices/d", "{}")
	require.Equal(t, http.StatusOK, code, answer)
	service := &telemetryService{identities: identities{registry: a.devices}, db: db}
	ctx := principal(t.Context())
	ask := func(ctx context.Context) error {
		_, err := service.ListTelemetry(ctx, &apiv1.ListTelemetryRequest{DeviceId: "d"})
		return err
	}
	require.NoError(t, ask(ctx))
	gone, leave := context.WithCancel(ctx)
	leave()
	require.Equal(t, codes.Canceled, status.Code(ask(gone)))
	require.NoError(t, db.Exec(t.Context(), "RENAME TABLE telemetry TO elsewhere"))
	require.Equal(t, codes.Unavailable, status.Code(ask(ctx)))
	require.Contains(t, status.Convert(ask(ctx)).Message(), "has not begun yet")
	proxy.Close()
	require.Equal(t, codes.Unavailable, status.Code(ask(ctx)))
	require.Contains(t, status.Convert(ask(ctx)).Message(), "ClickHouse does not answer")
}

// TestPanicEndsOneCall wants a programmer's error to be answered without its
// details, and logged with them.
func TestPanicEndsOneCall(t *testing.T) {
	var logged strings.Builder
	o := newObserver(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logged, nil)))
	_, err := o.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/x"}, func(context.Context, any) (any, error) { panic("secret") })
	require.Equal(t, codes.Internal, status.Code(err))
	require.NotContains(t, status.Convert(err).Message(), "secret")
	require.Contains(t, logged.String(), "secret")
	require.Contains(t, logged.String(), "request_id=")
}

// TestEveryAnswerIsCounted wants requests that never become a call to be seen.
func TestEveryAnswerIsCounted(t *testing.T) {
	a := newAPI(t)
	_, _, h := a.call(http.MethodPut, "/api/devices/d", `{"no":1}`, "x-ms-client-request-id", "mine-1")
	require.Equal(t, "mine-1", h.Get("x-ms-client-request-id"))
	require.Equal(t, "BadRequest", h.Get("x-ms-error-code"))
	_, _, h = a.call(http.MethodGet, "/api/nothing", "", "x-ms-client-request-id", strings.Repeat("x", 200))
	require.Empty(t, h.Get("x-ms-client-request-id"))
	a.call("BREW", "/api/devices", "")
	a.call(http.MethodGet, "/api/devices/none", "")
	resp, err := http.Get(a.url + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for _, line := range []string{
		`fleetlog_http_responses_total{method="PUT",status="400"} 1`,
		`fleetlog_http_responses_total{method="GET",status="404"} 2`,
		`fleetlog_http_responses_total{method="other",status="405"} 1`,
		`fleetlog_api_seconds_count{code="NotFound",method="/fleetlog.api.v1.DeviceService/GetDevice"} 1`,
	} {
		require.Contains(t, string(metrics), line)
	}
}

// TestErrorsCarryDetails wants programs to learn which field is wrong.
func TestErrorsCarryDetails(t *testing.T) {
	a := newAPI(t)
	devices := apiv1.NewDeviceServiceClient(a.rpc)
	ctx := a.authorized(t)
	_, err := devices.ListDevices(ctx, &apiv1.ListDevicesRequest{Maxpagesize: -1})
	details := status.Convert(err).Details()
	require.Len(t, details, 1)
	require.Equal(t, "maxpagesize", details[0].(*errdetails.BadRequest).GetFieldViolations()[0].GetField())
	_, err = devices.PutDevice(ctx, &apiv1.PutDeviceRequest{DeviceId: "d"})
	require.NoError(t, err)
	_, err = devices.PutDevice(ctx, &apiv1.PutDeviceRequest{DeviceId: "d", Device: &apiv1.Device{Etag: "v7"}})
	details = status.Convert(err).Details()
	require.Len(t, details, 1)
	require.Equal(t, "ETAG", details[0].(*errdetails.PreconditionFailure).GetViolations()[0].GetType())
}

// TestOpenMethods wants the health check and nothing else to work for anybody.
func TestOpenMethods(t *testing.T) {
	a := newAPI(t)
	health, err := healthv1.NewHealthClient(a.rpc).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, health.GetStatus())
	for _, services := range []grpc.ServiceDesc{apiv1.DeviceService_ServiceDesc, apiv1.TelemetryService_ServiceDesc} {
		for _, m := range services.Methods {
			var answer apiv1.Device
			err := a.rpc.Invoke(t.Context(), "/"+services.ServiceName+"/"+m.MethodName, &apiv1.GetDeviceRequest{}, &answer)
			require.Equal(t, codes.Unauthenticated, status.Code(err), m.MethodName)
		}
	}
	_, err = apiv1.NewDeviceServiceClient(a.rpc).PutDevice(metadata.AppendToOutgoingContext(t.Context(), "authorization", a.token),
		&apiv1.PutDeviceRequest{DeviceId: "d", Device: &apiv1.Device{DisplayName: strings.Repeat("x", 2<<20)}})
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "a message beyond the bound is not read")
}

func TestPrecondition(t *testing.T) {
	for _, tc := range []struct {
		name, ifMatch, ifNoneMatch, body string
		want                             string
		fails                            bool
	}{
		{name: "none", want: "<nil>"},
		{name: "quoted", ifMatch: `"v3"`, want: "version:3"},
		{name: "bare", ifMatch: `v3`, want: "version:3"},
		{name: "any", ifMatch: "*", want: "exists:true"},
		{name: "new", ifNoneMatch: "*", want: "exists:false"},
		{name: "body", body: "v3", want: "version:3"},
		{name: "header before body", ifMatch: "v4", body: "v3", want: "version:4"},
		{name: "new before body", ifNoneMatch: "*", body: "v3", want: "exists:false"},
		{name: "both", ifMatch: "v3", ifNoneMatch: "*", fails: true},
		{name: "not that version", ifNoneMatch: "v3", fails: true},
		{name: "weak", ifMatch: `W/"v3"`, fails: true},
		{name: "list", ifMatch: `"v3", "v4"`, fails: true},
		{name: "version 0", ifMatch: "v0", fails: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := precondition(tc.ifMatch, tc.ifNoneMatch, tc.body)
			if tc.fails {
				require.Equal(t, codes.InvalidArgument, status.Code(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, strings.ReplaceAll(p.String(), " ", ""))
		})
	}
}

func TestToStatus(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want codes.Code
	}{
		{nil, codes.OK},
		{errors.New("x"), codes.Internal},
		{access.ErrUnauthenticated, codes.Unauthenticated},
		{context.Canceled, codes.Canceled},
		{badField("f", "x"), codes.InvalidArgument},
	} {
		require.Equal(t, tc.want, status.Code(toStatus(tc.err)), "%v", tc.err)
	}
	for code := codes.OK + 1; code <= codes.Unauthenticated; code++ {
		require.GreaterOrEqual(t, toREST(code).status, 400, code)
		require.NotEmpty(t, toREST(code).code, code)
	}
}
