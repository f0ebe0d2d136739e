package bridge

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

const benchPayload = `{"temperature":21.5,"humidity":47.25,"note":"%s"}`

// BenchmarkBridged is QoS 1 messages of 150 bytes from Mosquitto to the log,
// fsync and PUBACK included, beside a subscriber of the same library and broker
// that only acknowledges. Publisher, broker, bridge and log share the cores.
func BenchmarkBridged(b *testing.B) {
	for _, tc := range []struct{ name, topics string }{
		{"untouched", untouched},
		{"mapped", "  topics: [{template: 'site/{site}/{device}/telemetry', telemetry: '{\"t\": payload.temperature, \"site\": captures.site}'}]\n"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			m := startMosquitto(b, anyone)
			s := newSite(b, enginetest.EmbeddedLog(b))
			s.put("d", true)
			bridge := s.attach("bench", plain(m, "  inflight: 1024\n"+tc.topics))
			require.Eventually(b, func() bool { return testutil.ToFloat64(bridge.metrics.connected) == 1 }, 10*time.Second, time.Millisecond)
			flood(b, m, func() bool { return testutil.ToFloat64(bridge.metrics.appended) >= float64(b.N) })
			bridge.stop()
		})
	}
	b.Run("bare-subscriber", func(b *testing.B) {
		m := startMosquitto(b, anyone)
		c, err := m.client("bare")
		require.NoError(b, err)
		defer c.Disconnect(100)
		var received atomic.Int64
		token := c.Subscribe("site/+/+/telemetry", 1, func(paho.Client, paho.Message) { received.Add(1) })
		require.True(b, token.WaitTimeout(5*time.Second))
		flood(b, m, func() bool { return received.Load() >= int64(b.N) })
	})
}

// flood publishes b.N messages and waits until they have arrived.
func flood(b *testing.B, m *mosquitto, arrived func() bool) {
	b.Helper()
	c, err := m.client("flood")
	require.NoError(b, err)
	defer c.Disconnect(100)
	payload := fmt.Sprintf(benchPayload, strings.Repeat("x", 105))
	window := make(chan paho.Token, 256)
	b.ResetTimer()
	for range b.N {
		if len(window) == cap(window) {
			(<-window).Wait()
		}
		window <- c.Publish("site/1/d/telemetry", 1, false, payload)
	}
	require.Eventually(b, arrived, 2*time.Minute, time.Millisecond)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
