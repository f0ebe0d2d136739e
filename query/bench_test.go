package query

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// BenchmarkTelemetry asks a table of 1,000,000 messages of 100 devices. The
// floor of each question is "statement": the same SQL with nothing around it.
func BenchmarkTelemetry(b *testing.B) {
	a := newAPI(b)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d-50", "{}")
	require.Equal(b, http.StatusOK, status, answer)
	require.NoError(b, a.db.Exec(b.Context(), `INSERT INTO telemetry (tenant, device, ts, body, partition, offset)
		SELECT 'default', concat('d-', toString(number % 100)), fromUnixTimestamp64Milli(1795435200000 + intDiv(number, 100) * 1000, 'UTC'),
			concat('{"pulseCounter":', toString(number), ',"leakage":false,"batteryLevel":', toString(rand() % 100 / 10), '}')::JSON, 0, number
		FROM numbers(1000000)`))
	b.Run("latest", func(b *testing.B) {
		req := &apiv1.GetLatestTelemetryRequest{DeviceId: "d-50", Name: "batteryLevel"}
		p, err := planLatest("default", req)
		require.NoError(b, err)
		a.bench(b, p, "/api/devices/d-50/telemetry/batteryLevel", 1, func(client apiv1.TelemetryServiceClient) error {
			_, err := client.GetLatestTelemetry(a.authorized(b), req)
			return err
		})
	})
	from, to := noon, noon.Add(10_000*time.Second)
	span := fmt.Sprintf("?from=%s&to=%s&maxpagesize=1000", from.Format(time.RFC3339), to.Format(time.RFC3339))
	for _, tc := range []struct {
		name string
		req  *apiv1.ListTelemetryRequest
		path string
		rows int
	}{
		{"thousand messages", &apiv1.ListTelemetryRequest{}, "", 1000},
		{"thousand values", &apiv1.ListTelemetryRequest{Names: []string{"batteryLevel"}}, "&names=batteryLevel", 1000},
		{"windows", &apiv1.ListTelemetryRequest{Names: []string{"batteryLevel"}, Interval: "PT1M"}, "&names=batteryLevel&interval=PT1M", 167},
	} {
		b.Run(tc.name, func(b *testing.B) {
			tc.req.DeviceId, tc.req.From, tc.req.To, tc.req.Maxpagesize = "d-50", timestamppb.New(from), timestamppb.New(to), 1000
			p, _, err := planList("default", tc.req, to)
			require.NoError(b, err)
			a.bench(b, p, "/api/devices/d-50/telemetry"+span+tc.path, tc.rows, func(client apiv1.TelemetryServiceClient) error {
				_, err := client.ListTelemetry(a.authorized(b), tc.req)
				return err
			})
		})
	}
}

func (a *api) bench(b *testing.B, p plan, path string, rows int, call func(apiv1.TelemetryServiceClient) error) {
	b.Run("statement", func(b *testing.B) {
		ctx := clickhouse.Context(b.Context(), clickhouse.WithParameters(p.parameters), clickhouse.WithSettings(querySettings()))
		for b.Loop() {
			found, err := a.db.Query(ctx, p.sql)
			require.NoError(b, err)
			n := 0
			for found.Next() {
				n++
			}
			require.NoError(b, found.Err())
			require.NoError(b, found.Close())
			require.GreaterOrEqual(b, n, rows)
		}
	})
	b.Run("gRPC", func(b *testing.B) {
		client := apiv1.NewTelemetryServiceClient(a.rpc)
		for b.Loop() {
			require.NoError(b, call(client))
		}
	})
	b.Run("REST", func(b *testing.B) {
		for b.Loop() {
			status, answer, _ := a.call(http.MethodGet, path, "")
			require.Equal(b, http.StatusOK, status, answer)
		}
	})
}

// BenchmarkGetDevice is a call that costs a map look-up: what is left is the API.
func BenchmarkGetDevice(b *testing.B) {
	a := newAPI(b)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d", "{}")
	require.Equal(b, http.StatusOK, status, answer)
	b.Run("gRPC", func(b *testing.B) {
		client := apiv1.NewDeviceServiceClient(a.rpc)
		for b.Loop() {
			_, err := client.GetDevice(a.authorized(b), &apiv1.GetDeviceRequest{DeviceId: "d"})
			require.NoError(b, err)
		}
	})
	b.Run("REST", func(b *testing.B) {
		for b.Loop() {
			status, answer, _ := a.call(http.MethodGet, "/api/devices/d", "")
			require.Equal(b, http.StatusOK, status, answer)
		}
	})
}
