package https

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/ingest/mqtt"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	"github.com/fleetlog/fleetlog/internal/localca"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is the door, and the MQTT gateway behind it, on a real log with a fold.
type site struct {
	t       *testing.T
	log     *eventlog.Log
	keys    *device.MasterKey
	devices *registry.Registry
	door    *Door
	catalog *catalog.Catalog
	files   *files.Store
	metrics *prometheus.Registry
	addr    string
	tls     *tls.Config
	client  *http.Client
	// stop ends the gateway and the door, and waits.
	stop func()
}

func newSite(t *testing.T, cfg Config, provisioning http.Handler) *site {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(t, err)
	keys, err := device.OpenMasterKey(t.TempDir() + "/master.key")
	require.NoError(t, err)
	store, err := files.Open(t.Context(), "file://"+t.TempDir()+"/files")
	require.NoError(t, err)
	s := &site{t: t, log: log, keys: keys, files: store, metrics: prometheus.NewRegistry(), devices: registry.New(log, quiet)}
	s.catalog = catalog.New(log, quiet, enrollment.Kind())
	gate := deviceauth.New(s.devices, enrollment.New(s.catalog, keys, quiet), keys)
	gateway := mqtt.New(log, s.devices, gate, s.metrics, mqtt.Config{Logger: quiet})
	s.door = New(Deps{Log: log, Registry: s.devices, Keys: keys, Gate: gate, Files: store, Provisioning: provisioning, Metrics: s.metrics, Logger: quiet}, cfg)

	dir := t.TempDir()
	secure, err := localca.ServerConfig(dir, []string{"localhost", "127.0.0.1"}, time.Now())
	require.NoError(t, err)
	listener, err := s.door.Listen(t.Context(), "127.0.0.1:0", secure)
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	s.addr = "localhost:" + port
	ca, err := os.ReadFile(localca.CAFile(dir))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	s.tls = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	transport := &http.Transport{TLSClientConfig: s.tls}
	s.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	t.Cleanup(func() {
		log.Close()
		require.NoError(t, store.Close())
	})
	enginetest.FoldDevices(t, log)
	s.run(listener, gateway)
	t.Cleanup(transport.CloseIdleConnections)
	return s
}

func (s *site) run(listener net.Listener, gateway *mqtt.Gateway) {
	// The test's context ends before its cleanups run; these end in their order.
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	serving, stopServing := context.WithCancel(ctx)
	ends, served := make(chan error, 2), make(chan error, 2)
	go func() { ends <- s.catalog.Run(ctx) }()
	go func() { ends <- s.devices.Run(ctx) }()
	go func() { served <- gateway.Serve(serving, s.door.WebSockets()) }()
	go func() { served <- s.door.Serve(serving, listener) }()
	s.stop = sync.OnceFunc(func() {
		stopServing()
		require.NoError(s.t, <-served)
		require.NoError(s.t, <-served)
	})
	s.t.Cleanup(func() {
		s.stop()
		cancel()
		for range cap(ends) {
			require.NoError(s.t, <-ends)
		}
	})
	require.Eventually(s.t, func() bool { return s.devices.Ready() == nil && s.catalog.Ready() == nil }, 10*time.Second, time.Millisecond)
}

// change has an event decided.
func (s *site) change(id, module string, ev *eventsv1.DeviceEvent) string {
	s.t.Helper()
	ev.Id, ev.Tenant, ev.Device, ev.Module, ev.Time = eventlog.NewID(), access.DefaultTenant, id, module, timestamppb.Now()
	_, err := s.devices.Change(s.t.Context(), ev)
	require.NoError(s.t, err)
	return ev.GetId()
}

// register makes a device, or changes whether it is enabled.
func (s *site) register(id string, enabled bool) {
	s.t.Helper()
	s.change(id, "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{Enabled: enabled}}})
}

// enqueue has a message wait for the device.
func (s *site) enqueue(id, module string, m *eventsv1.MessageEnqueued) string {
	s.t.Helper()
	if m.GetExpires() == nil {
		m.Expires = timestamppb.New(time.Now().Add(time.Hour))
	}
	return s.change(id, module, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: m}})
}

func (s *site) token(id string) string {
	return sas.Sign("localhost/devices/"+id, s.keys.DeviceKeys(access.DefaultTenant, id).Primary, time.Now().Add(time.Hour), "")
}

func (s *site) moduleToken(id, module string) string {
	return sas.Sign("localhost/devices/"+id+"/modules/"+module, s.keys.ModuleKeys(access.DefaultTenant, id, module).Primary, time.Now().Add(time.Hour), "")
}

type answer struct {
	status int
	header http.Header
	body   string
}

// failure is the code in an answer that Azure's SDKs would read.
func (a answer) failure(t *testing.T) string {
	t.Helper()
	var body struct{ Message string }
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	require.Regexp(t, `^ErrorCode:\w+;.+`, body.Message)
	require.Equal(t, a.header["Iothub-Errorcode"], []string{body.Message[len("ErrorCode:"):bytes.IndexByte([]byte(body.Message), ';')]})
	return a.header.Get("iothub-errorcode")
}

// call does a request with the device's token unless the headers name another.
func (s *site) call(id, method, path, body string, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "https://"+s.addr+path, bytes.NewReader([]byte(body)))
	require.NoError(s.t, err)
	if id != "" {
		req.Header.Set("Authorization", s.token(id))
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header[header[i]] = []string{header[i+1]}
	}
	resp, err := s.client.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return answer{resp.StatusCode, resp.Header, string(content)}
}

// records reads n records off the topic.
func (s *site) records(topic eventlog.Topic, n int) []*kgo.Record {
	s.t.Helper()
	client, err := s.log.NewClient(kgo.ConsumeTopics(s.log.Name(topic)))
	require.NoError(s.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(s.t, fetches.Err(), "after %d of %d records", len(records), n)
		records = append(records, fetches.Records()...)
	}
	return records
}

// counted is the value of a counter with a label of that value.
func (s *site) counted(name, label string) float64 {
	families, err := s.metrics.Gather()
	require.NoError(s.t, err)
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, header := range r.Headers {
		h[header.Key] = string(header.Value)
	}
	return h
}
