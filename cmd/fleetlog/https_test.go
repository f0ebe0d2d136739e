package main

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// TestAzureNodeSDKOnTheHTTPSDoor has Azure's own device SDKs send telemetry by
// HTTPS and by MQTT over WebSocket, take messages, and upload files.
func TestAzureNodeSDKOnTheHTTPSDoor(t *testing.T) {
	const sdk = "testdata/azure-node"
	_, err := os.Stat(filepath.Join(sdk, "node_modules", "azure-iot-device-http"))
	require.NoError(t, err, "Azure's SDK is not installed: run `make sdks`, or `make test`, which does")
	p := startProcess(t, t.TempDir())
	connection := "HostName=localhost;DeviceId=lobby-1;SharedAccessKey=" + p.deviceKey("lobby-1")
	at, err := url.Parse(p.at.HTTPS)
	require.NoError(t, err)
	require.Equal(t, "https", at.Scheme)
	for _, body := range []string{"complete me", "reject me", "abandon me"} {
		p.enqueue("lobby-1", body)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ca := filepath.Join(p.dir, "tls", "ca.pem")
	cmd := exec.CommandContext(ctx, "node", filepath.Join(sdk, "door.js"), connection, ca, at.Port(), "http", "websocket", "receive", "upload")
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	output, err := cmd.CombinedOutput()
	out := string(output)
	require.NoError(t, err, out)
	require.Contains(t, out, `received complete me m-1 [{"key":"iothub-app-room","value":"lobby 1"}]`)

	payloads := map[string]string{}
	for _, r := range p.records("fleetlog.telemetry", 4) {
		payloads[string(r.Value)] = string(eventlog.Header(r, eventlog.HeaderProperties))
	}
	require.Equal(t, "$.ce=utf-8&$.ct=application%2Fjson&$.mid=m1&room=lobby%201", payloads[`{"by":"http"}`])
	require.Contains(t, payloads[`{"by":"websocket"}`], "room=lobby%201")
	require.Equal(t, "room=lobby%201", payloads[`{"by":"batch 2"}`], "the SDK sends no system properties in a batch")

	uploads := filepath.Join(p.dir, "files", "default", "lobby-1")
	big, err := os.Stat(filepath.Join(uploads, "big.bin"))
	require.NoError(t, err)
	require.EqualValues(t, 9<<20, big.Size())
	small, err := os.ReadFile(filepath.Join(uploads, "logs", "a small one.txt"))
	require.NoError(t, err)
	require.Equal(t, "a few bytes", string(small))
	staged, err := filepath.Glob(filepath.Join(p.dir, "files", ".blocks", "*", "*"))
	require.NoError(t, err)
	require.Empty(t, staged)
}

// enqueue has a message wait for the device, by an event of its own on the log.
func (p *process) enqueue(id, body string) {
	p.t.Helper()
	now := time.Now()
	ev := &eventsv1.DeviceEvent{
		Id: eventlog.NewID(), Tenant: "default", Device: id, Time: timestamppb.New(now),
		Change: &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{
			Body: []byte(body), MessageId: "m-1", Expires: timestamppb.New(now.Add(time.Hour)),
			Properties: []*eventsv1.MessageProperty{{Key: "room", Value: proto.String("lobby 1")}},
		}},
	}
	value, err := proto.Marshal(ev)
	require.NoError(p.t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(p.at.Kafka), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(p.t, err)
	defer client.Close()
	record := eventlog.CloudEvent("fleetlog.devices", ev.GetId(), "/test", eventlog.TypeDeviceEvent, now, eventlog.ContentTypeProtobuf, eventlog.Key("default", id), value)
	require.NoError(p.t, client.ProduceSync(p.t.Context(), record).FirstErr())
}

// records reads n records off a topic.
func (p *process) records(topic string, n int) []*kgo.Record {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.at.Kafka), kgo.ConsumeTopics(topic))
	require.NoError(p.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(p.t, fetches.Err(), "after %d of %d records", len(records), n)
		records = append(records, fetches.Records()...)
	}
	return records
}
