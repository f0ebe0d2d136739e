package mqtt

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/ingest/provisioning"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
)

// site is a gateway on a real log with a registry behind it.
type site struct {
	tb      testing.TB
	log     *eventlog.Log
	keys    *device.MasterKey
	devices *registry.Registry
	catalog *catalog.Catalog
	gateway *Gateway
	metrics *prometheus.Registry
	addr    string
	stop    func() // stops the gateway and waits
}

const host = "gateway.test"

var quiet = slog.New(slog.DiscardHandler)

func newSite(tb testing.TB, broker enginetest.Log, cfg Config) *site {
	tb.Helper()
	return newSiteWithKeys(tb, broker, cfg, tb.TempDir()+"/master.key")
}

// newSiteWithKeys is one of several gateways that know the same devices.
func newSiteWithKeys(tb testing.TB, broker enginetest.Log, cfg Config, keyFile string) *site {
	tb.Helper()
	log, err := eventlog.Open(tb.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(tb, err)
	keys, err := device.OpenMasterKey(keyFile)
	require.NoError(tb, err)
	cfg.Logger = quiet
	s := &site{tb: tb, log: log, keys: keys, metrics: prometheus.NewRegistry(), devices: registry.New(log, quiet)}
	s.catalog = catalog.New(log, quiet, enrollment.Kind(), template.Kind())
	gate := deviceauth.New(s.devices, enrollment.New(s.catalog, keys, quiet), keys)
	cfg.Templates = template.New(s.catalog, quiet)
	cfg.Registrar = provisioning.New(gate, s.devices, cfg.Templates, keys, quiet)
	s.gateway = New(log, s.devices, gate, s.metrics, cfg)
	listener, err := ListenPlain(tb.Context(), "127.0.0.1:0")
	require.NoError(tb, err)
	s.addr = listener.Addr().String()

	// The test's context ends before its cleanups run; these end in their order.
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	registryDone, catalogDone, gatewayDone := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { registryDone <- s.devices.Run(ctx) }()
	go func() { catalogDone <- s.catalog.Run(ctx) }()
	gatewayCtx, stopGateway := context.WithCancel(ctx)
	go func() { gatewayDone <- s.gateway.Serve(gatewayCtx, listener) }()
	stopped := false
	s.stop = func() {
		if !stopped {
			stopped = true
			stopGateway()
			require.NoError(tb, <-gatewayDone)
		}
	}
	tb.Cleanup(func() {
		s.stop()
		cancel()
		require.NoError(tb, <-registryDone)
		require.NoError(tb, <-catalogDone)
		log.Close()
	})
	require.Eventually(tb, func() bool { return gate.Ready() == nil }, 10*time.Second, time.Millisecond)
	return s
}

// put writes the device's state to the log and waits until the gateway knows it.
func (s *site) put(id string, enabled bool) {
	s.tb.Helper()
	state := &eventsv1.DeviceState{Tenant: access.DefaultTenant, Device: id, Version: 1, Enabled: enabled}
	value, err := proto.Marshal(&eventsv1.DeviceSnapshot{State: state})
	require.NoError(s.tb, err)
	record := eventlog.CloudEvent(s.log.Name(eventlog.DeviceState), eventlog.NewID(), "/test", eventlog.TypeDeviceSnapshot, time.Now(),
		eventlog.ContentTypeProtobuf, eventlog.Key(access.DefaultTenant, id), value)
	require.NoError(s.tb, s.log.AppendSync(s.tb.Context(), record))
	require.Eventually(s.tb, func() bool {
		known := s.devices.Get(access.DefaultTenant, id)
		return known != nil && known.GetEnabled() == enabled
	}, 10*time.Second, time.Millisecond)
}

// token is a valid password for the device.
func (s *site) token(id string) string {
	return sas.Sign(host+"/devices/"+id, s.keys.DeviceKeys(access.DefaultTenant, id).Primary, time.Now().Add(time.Hour), "")
}

// telemetry reads n records off the topic.
func (s *site) telemetry(n int) []*kgo.Record {
	s.tb.Helper()
	client, err := s.log.NewClient(kgo.ConsumeTopics(s.log.Name(eventlog.Telemetry)))
	require.NoError(s.tb, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(s.tb.Context(), 20*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(s.tb, fetches.Err(), "after %d of %d records", len(records), n)
		records = append(records, fetches.Records()...)
	}
	return records
}

// ended is how many connections ended for the reason.
func (s *site) ended(reason string) float64 {
	families, err := s.metrics.Gather()
	require.NoError(s.tb, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "fleetlog_mqtt_connections_ended_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// client is a bare socket that speaks MQTT byte by byte, to say what libraries
// would not.
type client struct {
	tb   testing.TB
	conn net.Conn
}

func (s *site) dial() *client {
	s.tb.Helper()
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(s.tb, err)
	s.tb.Cleanup(func() { _ = conn.Close() })
	return &client{tb: s.tb, conn: conn}
}

// connected is a device that has been let in.
func (s *site) connected(id string) *client {
	s.tb.Helper()
	c := s.dial()
	c.write(connectPacket(id, host+"/"+id+"/?api-version=2021-04-12", s.token(id), 60))
	require.Equal(s.tb, []byte{0x20, 2, 0, 0}, c.read(4))
	return c
}

func (c *client) write(packet []byte) {
	c.tb.Helper()
	_, err := c.conn.Write(packet)
	require.NoError(c.tb, err)
}

func (c *client) read(n int) []byte {
	c.tb.Helper()
	require.NoError(c.tb, c.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	b := make([]byte, n)
	read := 0
	for read < n {
		m, err := c.conn.Read(b[read:])
		require.NoError(c.tb, err, "after %d of %d bytes", read, n)
		read += m
	}
	return b
}

// closed waits until the gateway has closed the connection without another byte.
func (c *client) closed() {
	c.tb.Helper()
	require.NoError(c.tb, c.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := c.conn.Read(make([]byte, 1))
	require.Zero(c.tb, n)
	require.Error(c.tb, err)
	require.NotErrorIs(c.tb, err, context.DeadlineExceeded)
	require.False(c.tb, strings.Contains(err.Error(), "timeout"), "the gateway keeps the connection open")
}

func field(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

func packet(first byte, body []byte) []byte {
	p := []byte{first}
	for n := len(body); ; {
		digit := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			p = append(p, digit|0x80)
			continue
		}
		return append(append(p, digit), body...)
	}
}

func connectPacket(clientID, userName, password string, keepAlive int) []byte {
	body := append(field("MQTT"), 4, 0xc2, byte(keepAlive>>8), byte(keepAlive))
	body = append(append(append(body, field(clientID)...), field(userName)...), field(password)...)
	return packet(0x10, body)
}

func publishPacket(topic string, id uint16, payload string) []byte {
	if id == 0 {
		return packet(0x30, append(field(topic), payload...))
	}
	return packet(0x32, append(append(field(topic), byte(id>>8), byte(id)), payload...))
}
