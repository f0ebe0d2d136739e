package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// TestAzureNodeSDK sends telemetry with Azure's own device SDK over TLS, with a
// connection string made from the credentials call, and finds it again on every
// way out: the Kafka topic, REST and gRPC.
func TestAzureNodeSDK(t *testing.T) {
	const sdk = "testdata/azure-node"
	_, err := os.Stat(filepath.Join(sdk, "node_modules", "azure-iot-device"))
	require.NoError(t, err, "Azure's SDK is not installed: run `make sdks`, or `make test`, which does")
	p := startProcess(t, t.TempDir())
	connection := "HostName=localhost;DeviceId=lobby-1;SharedAccessKey=" + p.deviceKey("lobby-1")
	_, port, err := net.SplitHostPort(p.at.MQTTS)
	require.NoError(t, err)
	send := func(connection string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "node", filepath.Join(sdk, "send.js"), connection, filepath.Join(p.dir, "tls", "ca.pem"), port,
			`{"temperature":20.5}`, `{"temperature":21.5}`).CombinedOutput()
		return string(out), err
	}
	out, err := send(connection)
	require.NoError(t, err, out)
	require.Contains(t, out, `acknowledged {"temperature":21.5}`)

	client, err := kgo.NewClient(kgo.SeedBrokers(p.at.Kafka), kgo.ConsumeTopics("fleetlog.telemetry"))
	require.NoError(t, err)
	defer client.Close()
	fetches := client.PollFetches(t.Context())
	require.NoError(t, fetches.Err())
	record := fetches.Records()[0]
	require.Equal(t, "default/lobby-1", string(record.Key))
	require.JSONEq(t, `{"temperature":20.5}`, string(record.Value))

	var value struct {
		Timestamp time.Time
		Value     float64
	}
	require.Eventually(t, func() bool {
		status, answer, _ := p.call(http.MethodGet, "/api/devices/lobby-1/telemetry/temperature", nil)
		return status == http.StatusOK && json.Unmarshal(answer, &value) == nil && value.Value == 21.5
	}, 20*time.Second, 20*time.Millisecond)
	require.WithinDuration(t, time.Now(), value.Timestamp, time.Minute)

	conn, err := grpc.NewClient(p.at.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", p.token)
	latest, err := apiv1.NewTelemetryServiceClient(conn).GetLatestTelemetry(ctx, &apiv1.GetLatestTelemetryRequest{DeviceId: "lobby-1", Name: "temperature"})
	require.NoError(t, err)
	require.InDelta(t, 21.5, latest.GetValue().GetNumberValue(), 0)

	out, err = send("HostName=localhost;DeviceId=lobby-1;SharedAccessKey=d3Jvbmcga2V5")
	require.Error(t, err, "a wrong key is refused")
	require.Contains(t, out, "UnauthorizedError", out)
}
