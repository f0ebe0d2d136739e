package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a log with a registry on it, for bridges to be attached.
type site struct {
	tb      testing.TB
	log     *eventlog.Log
	devices *registry.Registry
}

func newSite(tb testing.TB, broker enginetest.Log) *site {
	tb.Helper()
	quiet := slog.New(slog.DiscardHandler)
	log, err := eventlog.Open(tb.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(tb, err)
	s := &site{tb: tb, log: log, devices: registry.New(log, quiet)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- s.devices.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
		log.Close()
	})
	require.Eventually(tb, func() bool { return s.devices.Ready() == nil }, 10*time.Second, time.Millisecond)
	return s
}

// put writes the device's state to the log and waits until the registry has it.
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

// running is a bridge at work.
type running struct {
	*bridge
	stop func() // and wait
	said *logText
}

// logText gathers what a bridge logs.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// attach starts the one bridge of the configuration for a node.
func (s *site) attach(node, yaml string) *running {
	s.tb.Helper()
	configs, err := parseConfig("bridges.yaml", []byte(yaml))
	require.NoError(s.tb, err)
	said := new(logText)
	bridges := New(s.log, s.devices, prometheus.NewRegistry(), node, configs, slog.New(slog.NewTextHandler(said, nil)))
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.tb.Context()))
	done := make(chan error, 1)
	go func() { done <- bridges.Run(ctx) }()
	r := &running{bridge: bridges.bridges[0], said: said}
	r.stop = sync.OnceFunc(func() { cancel(); require.NoError(s.tb, <-done) })
	s.tb.Cleanup(r.stop)
	return r
}

func (r *running) connected(tb testing.TB) *running {
	tb.Helper()
	require.Eventually(tb, func() bool { return testutil.ToFloat64(r.metrics.connected) == 1 }, 15*time.Second, time.Millisecond, "bridge does not connect: %s", r.said)
	return r
}

// read waits for records of a topic until enough is true of all of them.
func (s *site) read(topic eventlog.Topic, enough func([]*kgo.Record) bool) []*kgo.Record {
	s.tb.Helper()
	client, err := s.log.NewClient(kgo.ConsumeTopics(s.log.Name(topic)))
	require.NoError(s.tb, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(s.tb.Context(), 30*time.Second)
	defer cancel()
	var all []*kgo.Record
	for !enough(all) {
		fetches := client.PollFetches(ctx)
		require.NoError(s.tb, ctx.Err(), "only %d records on %s", len(all), topic)
		all = append(all, fetches.Records()...)
	}
	return all
}

func count(n int) func([]*kgo.Record) bool {
	return func(all []*kgo.Record) bool { return len(all) >= n }
}

// distinct wants n different payloads.
func distinct(n int) func([]*kgo.Record) bool {
	return func(all []*kgo.Record) bool {
		seen := map[string]bool{}
		for _, r := range all {
			seen[string(r.Value)] = true
		}
		return len(seen) >= n
	}
}

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, header := range r.Headers {
		h[header.Key] = string(header.Value)
	}
	return h
}

func plain(m *mosquitto, more string) string {
	return fmt.Sprintf("bridges:\n- name: hall\n  broker: mqtt://%s\n%s", m.addr, more)
}

const shared = "  group: fleet\n" + untouched

const untouched = "  topics: [{template: 'site/{site}/{device}/telemetry'}]\n"

func TestMessageBecomesTelemetry(t *testing.T) {
	s, m := newSite(t, enginetest.EmbeddedLog(t)), startMosquitto(t, anyone)
	s.put("pump-1", true)
	b := s.attach("n1", plain(m, `
  topics:
    - template: site/{site}/{device}/telemetry
    - template: mapped/{device}/#
      telemetry: '{"temperature": payload.t / 10, "serial": payload.serial, "levels": map(payload.levels, # * 2)}'
      component: payload.part
      time: payload.at
      id: payload.id
      properties: {site: '"a b&c"', topic: properties.topic}
    - template: plain/{device}
      format: text
      telemetry: '{"value": float(payload)}'
    - template: retained/{device}
      telemetry: 'properties.retained ? nil : payload'
`)).connected(t)
	before := time.Now().Truncate(time.Millisecond)
	m.publish("site/7/pump-1/telemetry", ` {"any": "bytes" `)
	m.publish("mapped/pump-1/x/y", `{"t":215,"serial":9007199254740993,"levels":[1,2],"part":"motor","at":"2026-01-02T03:04:05.678Z","id":"e-1"}`)
	m.publish("plain/pump-1", "21.5")
	m.publish("retained/pump-1", `{"n":1}`)
	records := s.read(eventlog.Telemetry, count(4))

	first, h := records[0], headers(records[0])
	require.Equal(t, "default/pump-1", string(first.Key))
	require.Equal(t, ` {"any": "bytes" `, string(first.Value), "without expressions the payload passes untouched")
	require.Equal(t, "1.0", h["ce_specversion"])
	require.Equal(t, "/bridges/hall/devices/pump-1", h["ce_source"])
	require.Equal(t, eventlog.TypeTelemetry, h["ce_type"])
	require.NotEmpty(t, h["ce_id"])
	at, err := time.Parse(time.RFC3339Nano, h["ce_time"])
	require.NoError(t, err)
	require.WithinRange(t, at, before, time.Now())
	require.Len(t, first.Headers, 5)

	h = headers(records[1])
	require.JSONEq(t, `{"temperature":21.5,"serial":9007199254740993,"levels":[2,4]}`, string(records[1].Value), "whole numbers stay whole")
	require.Equal(t, "application/json", h["content-type"])
	require.Equal(t, "motor", h["ce_subject"])
	require.Equal(t, "2026-01-02T03:04:05.678Z", h["ce_time"])
	require.Equal(t, "e-1", h["ce_id"])
	require.Equal(t, "site=a%20b%26c&topic=mapped%2Fpump-1%2Fx%2Fy", h["ce_properties"])
	require.WithinRange(t, records[1].Timestamp, before, time.Now())
	require.JSONEq(t, `{"value":21.5}`, string(records[2].Value))
	require.JSONEq(t, `{"n":1}`, string(records[3].Value))
	require.Eventually(t, func() bool { return testutil.ToFloat64(b.metrics.appended) == 4 }, 5*time.Second, time.Millisecond)
	require.EqualValues(t, 4, testutil.ToFloat64(b.metrics.received))
}

func TestWhatIsNoTelemetryIsADeadLetterThatSaysWhatToDo(t *testing.T) {
	s, m := newSite(t, enginetest.EmbeddedLog(t)), startMosquitto(t, anyone)
	s.put("good", true)
	s.put("blocked", false)
	b := s.attach("n1", plain(m, `
  topics:
    - template: raw/{device}
    - template: mapped/{device}
      telemetry: '{"n": map(payload.list, # + 1)}'
    - template: loop/{device}
      telemetry: '{"n": all(1..1000, all(1..1000, # > 0))}'
    - template: grow/{device}
      telemetry: '{"n": map(1..5000, payload)}'
    - template: scalar/{device}
      telemetry: payload
    - template: named/+
      device: payload.id
`)).connected(t)
	huge := strings.Repeat("x", maxPayloadBytes+100_000)
	deep := strings.Repeat("[", 200_000)
	for _, tc := range []struct{ topic, payload, class, reason string }{
		{"raw/stranger", `{}`, deadUnknown, "register it"},
		{"raw/blocked", `{}`, deadBlocked, "enable it"},
		{"raw/not an id!", `{}`, deadDeviceID, "device id"},
		{"raw/", `{}`, deadDeviceID, "device id"},
		{"raw/" + strings.Repeat("long", 5000), `{}`, deadDeviceID, "device id"},
		{"raw/\u202eevil", `{}`, deadDeviceID, "device id"},
		{"raw/good", huge, deadTooLarge, "larger than 262144 bytes"},
		{"mapped/good", "not json", deadUnmapped, "not JSON"},
		{"mapped/good", `{"list":[1]} {}`, deadUnmapped, "something follows"},
		{"mapped/good", "\xff\xfe", deadUnmapped, "UTF-8"},
		{"mapped/good", "", deadUnmapped, "not JSON"},
		{"mapped/good", deep, deadUnmapped, "deeper than 128"},
		{"mapped/good", `{"list":5}`, deadUnmapped, "expression `telemetry`"},
		{"mapped/good", `{"list":[1e999]}`, deadUnmapped, "number"},
		{"loop/good", `{}`, deadUnmapped, "more than 100000 times"},
		{"grow/good", `{"x":"` + strings.Repeat("y", 1000) + `"}`, deadUnmapped, "larger than"},
		{"scalar/good", `[1]`, deadUnmapped, "wanted is an object"},
		{"named/x", `{"id":{"a":1}}`, deadUnmapped, "wanted is text"},
	} {
		t.Run(tc.class, func(t *testing.T) {
			counter := b.metrics.deadLettered.WithLabelValues(tc.class)
			n := testutil.ToFloat64(counter)
			m.publish(tc.topic, tc.payload)
			require.Eventually(t, func() bool { return testutil.ToFloat64(counter) == n+1 }, 5*time.Second, time.Millisecond)
			var letter *kgo.Record
			s.read(eventlog.DeadLetter, func(all []*kgo.Record) bool {
				i := slices.IndexFunc(all, func(r *kgo.Record) bool {
					h := headers(r)
					return h["fleetlog-dead-mqtt-topic"] == tc.topic && len(r.Value) == min(len(tc.payload), maxPayloadBytes) && strings.Contains(h["fleetlog-dead-reason"], tc.reason)
				})
				if i >= 0 {
					letter = all[i]
				}
				return i >= 0
			})
			h := headers(letter)
			require.Equal(t, tc.payload[:min(len(tc.payload), maxPayloadBytes)], string(letter.Value))
			require.Equal(t, "bridge", h["fleetlog-dead-stage"])
			require.Equal(t, "-1", h["fleetlog-dead-offset"])
			require.Contains(t, h["fleetlog-dead-reason"], "bridge hall: ")
		})
	}
	m.publish("raw/good", `{"last":1}`)
	require.Equal(t, `{"last":1}`, string(s.read(eventlog.Telemetry, count(1))[0].Value), "the bridge goes on")
}

// TestBrokerRestartLosesNothing stops and starts the broker while messages
// flow. It is asked to end, because what Mosquitto has accepted and not saved
// is lost with it when it is killed.
func TestBrokerRestartLosesNothing(t *testing.T) {
	s, m := newSite(t, enginetest.EmbeddedLog(t)), startMosquitto(t, anyone)
	s.put("d", true)
	b := s.attach("n1", plain(m, untouched)).connected(t)
	const n = 3000
	restarts := 0.0
	payloads := make(chan string)
	var accepted atomic.Int64
	sent := make(chan error, 1)
	go func() {
		sent <- m.publishThroughAll(t.Context(), "site/1/d/telemetry", payloads, func() { accepted.Add(1) })
	}()
	for i := range n {
		payloads <- fmt.Sprintf(`{"n":%d}`, i)
		if i == n/3 || i == 2*n/3 {
			b.connected(t)
			m.end(syscall.SIGTERM)
			m.start()
			restarts++
			require.Eventually(t, func() bool { return testutil.ToFloat64(b.metrics.reconnects) >= restarts }, 10*time.Second, time.Millisecond)
		}
	}
	close(payloads)
	require.NoError(t, <-sent)
	require.EqualValues(t, n, accepted.Load())
	s.read(eventlog.Telemetry, distinct(n))
}

// TestAckMeansDurable takes the log away, kills broker and bridge, and wants all
// that the broker had accepted from the next bridge on another log.
func TestAckMeansDurable(t *testing.T) {
	m := startMosquitto(t, anyone)
	broker, stopLog := enginetest.StoppableLog(t)
	first := newSite(t, broker)
	first.put("d", true)
	b := first.attach("n1", plain(m, shared)).connected(t)
	stopLog()
	const n = 200
	var payloads []string
	for i := range n {
		payloads = append(payloads, fmt.Sprintf(`{"n":%d}`, i))
	}
	m.publish("site/1/d/telemetry", payloads...)
	require.Eventually(t, func() bool { return testutil.ToFloat64(b.metrics.received) == n }, 10*time.Second, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(b.metrics.appended))
	// The broker holds all of it, and saves it when told to.
	require.NoError(t, m.cmd.Process.Signal(syscall.SIGUSR1))
	require.Eventually(t, func() bool {
		saved, err := os.ReadFile(filepath.Join(m.dir, "mosquitto.db"))
		return err == nil && bytes.Contains(saved, []byte(payloads[n-1]))
	}, 10*time.Second, 5*time.Millisecond)
	m.end(syscall.SIGKILL)
	b.stop()
	require.Zero(t, testutil.ToFloat64(b.metrics.inflight), "nothing is left behind")

	m.start()
	second := newSite(t, enginetest.EmbeddedLog(t))
	second.put("d", true)
	again := second.attach("n1", plain(m, shared))
	second.read(eventlog.Telemetry, distinct(n))
	require.Eventually(t, func() bool { return testutil.ToFloat64(again.metrics.inflight) == 0 }, 10*time.Second, time.Millisecond)
	again.stop()

	// All is acknowledged now: a third one gets nothing of it.
	third := second.attach("n1", plain(m, shared)).connected(t)
	m.publish("site/1/d/telemetry", `{"last":1}`)
	require.Eventually(t, func() bool { return testutil.ToFloat64(third.metrics.appended) == 1 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, testutil.ToFloat64(third.metrics.received))
}

func TestRepeatedMessageKeepsItsEventID(t *testing.T) {
	ids := newEventIDs()
	m := &message{topic: "a", payload: []byte("1"), qos: 1, packetID: 7}
	first := ids.id(m)
	m.duplicate = true
	require.Equal(t, first, ids.id(m), "the broker repeats itself")
	m.duplicate = false
	require.NotEqual(t, first, ids.id(m), "the same content as a new message")
	other := &message{topic: "a", payload: []byte("2"), qos: 1, packetID: 7, duplicate: true}
	require.NotEqual(t, first, ids.id(other), "another message under the same packet id")
	require.NotEqual(t, newEventIDs().id(m), first)
	qos0 := &message{topic: "a", payload: []byte("1")}
	require.NotEqual(t, ids.id(qos0), ids.id(qos0))
}

func TestBridgesOfAGroupShareTheLoad(t *testing.T) {
	s, m := newSite(t, enginetest.EmbeddedLog(t)), startMosquitto(t, anyone)
	s.put("d", true)
	one, two := s.attach("n1", plain(m, shared)).connected(t), s.attach("n2", plain(m, shared)).connected(t)
	const n = 400
	for i := range n {
		m.publish("site/1/d/telemetry", fmt.Sprintf(`{"n":%d}`, i))
	}
	require.Len(t, s.read(eventlog.Telemetry, distinct(n)), n, "each message goes to one of them")
	a, b := testutil.ToFloat64(one.metrics.received), testutil.ToFloat64(two.metrics.received)
	require.EqualValues(t, n, a+b)
	require.Greater(t, min(a, b), float64(n)/4)
}

// TestWindowBoundsWhatIsTaken takes the log away and wants no more in memory than
// the window.
func TestWindowBoundsWhatIsTaken(t *testing.T) {
	m := startMosquitto(t, anyone)
	broker, stopLog := enginetest.StoppableLog(t)
	s := newSite(t, broker)
	s.put("d", true)
	b := s.attach("n1", plain(m, "  inflight: 8\n"+untouched)).connected(t)
	stopLog()
	for i := range 50 {
		m.publish("site/1/d/telemetry", fmt.Sprintf(`{"n":%d}`, i))
	}
	// The window, the one whose answer is waited for and the one at the door.
	require.Eventually(t, func() bool { return testutil.ToFloat64(b.metrics.received) == 10 }, 5*time.Second, time.Millisecond)
	require.LessOrEqual(t, testutil.ToFloat64(b.metrics.inflight), 9.0)
	began := time.Now()
	b.stop()
	require.Less(t, time.Since(began), eventlog.FlushTimeout+3*time.Second, "a log that is away does not hold up the end for ever")
	require.EqualValues(t, 10, testutil.ToFloat64(b.metrics.received))
}

func TestWrongPasswordIsExplained(t *testing.T) {
	m := startMosquitto(t, "allow_anonymous false", "password_file "+passwords(t))
	s := newSite(t, enginetest.EmbeddedLog(t))
	s.put("d", true)
	right, wrong := filepath.Join(t.TempDir(), "right"), filepath.Join(t.TempDir(), "wrong")
	require.NoError(t, os.WriteFile(right, []byte("correct horse\n"), 0o600))
	require.NoError(t, os.WriteFile(wrong, []byte("hunter2-secret\n"), 0o600))
	b := s.attach("n1", plain(m, "  username: fleetlog\n  password-file: "+wrong+"\n"+untouched))
	require.Eventually(t, func() bool { return strings.Contains(b.said.String(), "check username and password-file") }, 10*time.Second, time.Millisecond)
	require.NotContains(t, b.said.String(), "hunter2", "a secret is never logged")
	require.NoError(t, os.Rename(right, wrong))
	b.connected(t) // the file is read again
	require.NotContains(t, b.said.String(), "correct horse")
}

func TestEndWhileTheBrokerIsAway(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t))
	m := startMosquitto(t, anyone)
	m.end(syscall.SIGKILL)
	b := s.attach("n1", plain(m, untouched))
	require.Eventually(t, func() bool { return strings.Contains(b.said.String(), "trying again") }, 10*time.Second, time.Millisecond)
	began := time.Now()
	b.stop()
	require.Less(t, time.Since(began), 2*time.Second)
}

func TestMappingNeverGivesWhatTheProjectionRefuses(t *testing.T) {
	e, err := compile("telemetry", "payload", nil)
	require.NoError(t, err)
	m := mapping{format: formatJSON, telemetry: e}
	out, err := m.apply(&message{payload: []byte(`{"a":"<b>"}`)}, nil, nil)
	require.NoError(t, err)
	require.Equal(t, `{"a":"<b>"}`, string(out.payload))
	require.True(t, json.Valid(out.payload))
	_, err = compile("telemetry", "captures.sit", []string{"site"})
	require.ErrorContains(t, err, "unknown", "a wrong name is found before the first message")
}
