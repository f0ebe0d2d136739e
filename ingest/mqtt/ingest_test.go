package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, header := range r.Headers {
		h[header.Key] = string(header.Value)
	}
	return h
}

func TestTelemetryBecomesACloudEvent(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		s := newSite(t, broker, Config{})
		s.put("thermostat-1", true)
		c := s.connected("thermostat-1")
		before := time.Now().Truncate(time.Millisecond)
		c.write(publishPacket("devices/thermostat-1/messages/events/$.ct=application%2Fjson&$.ce=utf-8&$.sub=thermostat1&room=b%202", 7, `{"temperature":21.5}`))
		require.Equal(t, []byte{0x40, 2, 0, 7}, c.read(4))
		c.write(publishPacket("devices/thermostat-1/messages/events/iothub-creation-time-utc=2026-01-02T03%3A04%3A05.678Z", 8, "not json"))
		require.Equal(t, []byte{0x40, 2, 0, 8}, c.read(4))
		c.write(publishPacket("devices/thermostat-1/messages/events/", 0, `{}`)) // QoS 0
		c.write([]byte{0xc0, 0})
		require.Equal(t, []byte{0xd0, 0}, c.read(2), "a ping is answered")

		records := s.telemetry(3)
		first, h := records[0], headers(records[0])
		require.Equal(t, "default/thermostat-1", string(first.Key))
		require.Equal(t, `{"temperature":21.5}`, string(first.Value))
		require.Equal(t, "1.0", h["ce_specversion"])
		require.Equal(t, "/devices/thermostat-1", h["ce_source"])
		require.Equal(t, eventlog.TypeTelemetry, h["ce_type"])
		require.Equal(t, "application/json", h["content-type"])
		require.Equal(t, "thermostat1", h["ce_subject"])
		require.Equal(t, "$.ct=application%2Fjson&$.ce=utf-8&$.sub=thermostat1&room=b%202", h["ce_properties"])
		at, err := time.Parse(time.RFC3339Nano, h["ce_time"])
		require.NoError(t, err)
		require.WithinRange(t, at, before, time.Now())
		require.Equal(t, at.UnixMilli(), first.Timestamp.UnixMilli())

		second, h2 := records[1], headers(records[1])
		require.Equal(t, "not json", string(second.Value), "the payload is not looked at")
		require.Equal(t, "2026-01-02T03:04:05.678Z", h2["ce_time"], "event time is the device's")
		require.WithinRange(t, second.Timestamp, before, time.Now())
		require.NotEqual(t, h["ce_id"], h2["ce_id"])
		require.Equal(t, `{}`, string(records[2].Value))
	})
}

func TestAcksComeInOrderAndMeanDurable(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		s := newSite(t, broker, Config{Inflight: 16})
		s.put("d", true)
		c := s.connected("d")
		const n = 5000
		var frames []byte
		for i := range n {
			frames = append(frames, publishPacket("devices/d/messages/events/", uint16(i+1), fmt.Sprintf(`{"n":%d}`, i))...)
		}
		sent := make(chan error, 1)
		go func() { _, err := c.conn.Write(frames); sent <- err }() // blocks: the window is 16
		for i := range n {
			id := i + 1
			require.Equal(t, []byte{0x40, 2, byte(id >> 8), byte(id)}, c.read(4))
		}
		require.NoError(t, <-sent)
		ids := map[string]bool{}
		for i, r := range s.telemetry(n) {
			require.Equal(t, fmt.Sprintf(`{"n":%d}`, i), string(r.Value), "order within a device is kept")
			ids[headers(r)["ce_id"]] = true
		}
		require.Len(t, ids, n, "every event has an id of its own")
	})
}

func TestShutdownAnswersWhatWasRead(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	c := s.connected("d")
	for i := range 100 {
		c.write(publishPacket("devices/d/messages/events/", uint16(i+1), `{}`))
	}
	require.Equal(t, []byte{0x40, 2, 0, 1}, c.read(4))
	s.stop()
	rest, acked := make([]byte, 4*100), 1
	n := 0
	for {
		m, err := c.conn.Read(rest[n:])
		n += m
		if err != nil {
			break
		}
	}
	acked += n / 4
	require.Len(t, s.telemetry(acked), acked, "what was acknowledged is on the log, and nothing read was left without an answer")
}

func TestRefusals(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("good", true)
	s.put("blocked", false)
	userName := func(id string) string { return host + "/" + id + "/?api-version=2021-04-12" }
	key := s.keys.DeviceKeys(access.DefaultTenant, "good").Primary
	expired := sas.Sign(host+"/devices/good", key, time.Now().Add(-time.Minute), "")
	elsewhere := sas.Sign("other.host/devices/good", key, time.Now().Add(time.Hour), "")
	wrongKey := sas.Sign(host+"/devices/good", []byte("another key"), time.Now().Add(time.Hour), "")
	mqtt31 := connectPacket("good", userName("good"), s.token("good"), 60)
	mqtt31[8] = 3
	for _, tc := range []struct {
		name    string
		connect []byte
		connack byte
		reason  string
	}{
		{"wrong key", connectPacket("good", userName("good"), wrongKey, 60), 5, "wrong_key"},
		{"token for another host", connectPacket("good", userName("good"), elsewhere, 60), 5, "wrong_key"},
		{"another device's token", connectPacket("good", userName("good"), s.token("blocked"), 60), 5, "wrong_key"},
		{"expired token", connectPacket("good", userName("good"), expired, 60), 5, "token_expired"},
		{"no token at all", connectPacket("good", userName("good"), "secret", 60), 4, "bad_token"},
		{"unknown device", connectPacket("stranger", userName("stranger"), s.token("stranger"), 60), 5, "unknown_device"},
		{"blocked device", connectPacket("blocked", userName("blocked"), s.token("blocked"), 60), 5, "device_blocked"},
		{"user name of another form", connectPacket("good", "good", s.token("good"), 60), 4, "bad_user_name"},
		{"id that cannot be", connectPacket("a b", userName("a b"), s.token("a b"), 60), 4, "bad_user_name"},
		{"client id of another device", connectPacket("other", userName("good"), s.token("good"), 60), 2, "bad_client_id"},
		{"MQTT 3.1", mqtt31, 1, "unsupported_protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := s.ended(tc.reason)
			c := s.dial()
			c.write(tc.connect)
			require.Equal(t, []byte{0x20, 2, 0, tc.connack}, c.read(4))
			c.closed()
			require.Eventually(t, func() bool { return s.ended(tc.reason) == before+1 }, 5*time.Second, time.Millisecond)
		})
	}
}

func TestMisbehaviourEndsOnlyItsOwnConnection(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("bystander", true)
	bystander := s.connected("bystander")
	topic := "devices/d/messages/events/"
	s.put("d", true)
	for _, tc := range []struct {
		name   string
		bytes  []byte
		reason string
	}{
		{"foreign topic", publishPacket("devices/bystander/messages/events/", 1, "{}"), "foreign_topic"},
		{"made-up topic", publishPacket("hello", 1, "{}"), "foreign_topic"},
		{"bad property bag", publishPacket(topic+"a=%zz", 1, "{}"), "bad_property_bag"},
		{"QoS 2", packet(0x34, append(append(field(topic), 0, 1), "{}"...)), "qos_2"},
		{"QoS 3", packet(0x36, append(append(field(topic), 0, 1), "{}"...)), "qos_2"},
		{"packet id 0", packet(0x32, append(append(field(topic), 0, 0), "{}"...)), "malformed_packet"},
		{"topic longer than the packet", []byte{0x32, 4, 0xff, 0xff, 'a', 'b'}, "malformed_packet"},
		{"topic that is not UTF-8", publishPacket("devices/d/messages/events/\xff", 1, "{}"), "malformed_packet"},
		{"endless length", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x7f}, "malformed_packet"},
		{"oversize packet", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, "packet_too_large"},
		{"payload over 256 KiB", publishPacket(topic, 1, strings.Repeat("x", 256<<10+1)), "packet_too_large"},
		{"second CONNECT", connectPacket("d", "x", "y", 1), "malformed_packet"},
		{"reserved packet type", []byte{0xf0, 0}, "malformed_packet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := s.ended(tc.reason)
			c := s.connected("d")
			_, _ = c.conn.Write(tc.bytes) // may fail half-way: the gateway closes early
			c.closed()
			require.Eventually(t, func() bool { return s.ended(tc.reason) == before+1 }, 5*time.Second, time.Millisecond)
		})
	}
	bystander.write(publishPacket("devices/bystander/messages/events/", 9, "{}"))
	require.Equal(t, []byte{0x40, 2, 0, 9}, bystander.read(4))
	require.Len(t, s.telemetry(1), 1)
}

func TestLargestMessagePasses(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	c := s.connected("d")
	payload := strings.Repeat("x", 256<<10)
	c.write(publishPacket("devices/d/messages/events/", 1, payload))
	c.write(publishPacket("devices/d/messages/events/", 2, "small"))
	require.Equal(t, []byte{0x40, 2, 0, 1, 0x40, 2, 0, 2}, c.read(8))
	records := s.telemetry(2)
	require.Equal(t, payload, string(records[0].Value))
	require.Equal(t, "small", string(records[1].Value))
}

func TestOneConnectionPerDevice(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	older := s.connected("d")
	newer := s.connected("d")
	older.closed()
	newer.write(publishPacket("devices/d/messages/events/", 1, "{}"))
	require.Equal(t, []byte{0x40, 2, 0, 1}, newer.read(4))
}

func TestBlockingADeviceEndsItsConnection(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	c := s.connected("d")
	s.put("d", false)
	c.closed()
	require.Eventually(t, func() bool { return s.ended("device_blocked") == 1 }, 5*time.Second, time.Millisecond)
}

func TestSilenceBeyondKeepAliveEndsTheConnection(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	c := s.dial()
	c.write(connectPacket("d", host+"/d/?api-version=2021-04-12", s.token("d"), 1))
	require.Equal(t, []byte{0x20, 2, 0, 0}, c.read(4))
	began := time.Now()
	c.closed()
	require.WithinRange(t, time.Now(), began.Add(time.Second), began.Add(5*time.Second))
	require.Eventually(t, func() bool { return s.ended("keep_alive_timeout") == 1 }, 5*time.Second, time.Millisecond)
}

func TestConnectionEndsWhenItsTokenDoes(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	token := sas.Sign(host+"/devices/d", s.keys.DeviceKeys(access.DefaultTenant, "d").Secondary, time.Now().Add(2*time.Second), "")
	c := s.dial()
	c.write(connectPacket("d", host+"/d/?api-version=2021-04-12", token, 0))
	require.Equal(t, []byte{0x20, 2, 0, 0}, c.read(4), "the secondary key lets in too")
	c.closed()
	require.Eventually(t, func() bool { return s.ended("token_expired") == 1 }, 5*time.Second, time.Millisecond)
}

func TestCrowdedGatewayTurnsAway(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{MaxConnections: 1})
	s.put("d", true)
	c := s.connected("d")
	s.dial().closed()
	c.write(publishPacket("devices/d/messages/events/", 1, "{}"))
	require.Equal(t, []byte{0x40, 2, 0, 1}, c.read(4), "who is in stays in")
}

func TestPlainListenerStaysOnLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "nonsense"} {
		_, err := ListenPlain(t.Context(), addr)
		require.Error(t, err, addr)
	}
}

// TestShutdownDoesNotWaitForADeadLog stops the gateway while the log takes
// nothing any more and devices have messages under way.
func TestShutdownDoesNotWaitForADeadLog(t *testing.T) {
	broker, stopBroker := enginetest.StoppableLog(t)
	s := newSite(t, broker, Config{Inflight: 4})
	s.put("d", true)
	c := s.connected("d")
	c.write(publishPacket("devices/d/messages/events/", 1, "{}"))
	require.Equal(t, []byte{0x40, 2, 0, 1}, c.read(4))
	stopBroker()
	for id := range uint16(10) {
		c.write(publishPacket("devices/d/messages/events/", id+2, "{}"))
	}
	began := time.Now()
	s.stop()
	require.Less(t, time.Since(began), eventlog.FlushTimeout+3*time.Second)
	c.closed()
}

// TestDeviceThatNeverReadsIsDropped floods the gateway without reading a PUBACK.
func TestDeviceThatNeverReadsIsDropped(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	c := s.connected("d")
	var frames []byte
	for id := range uint16(5000) {
		frames = append(frames, publishPacket("devices/d/messages/events/", id+1, "{}")...)
	}
	require.NoError(t, c.conn.SetWriteDeadline(time.Now().Add(time.Minute)))
	for {
		if _, err := c.conn.Write(frames); err != nil {
			break
		}
	}
	require.Eventually(t, func() bool { return s.ended("slow_reader") == 1 }, 10*time.Second, time.Millisecond)
}
