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

// BenchmarkBridged takes a backlog of QoS 1 messages of 150 bytes from Mosquitto
// to the log, fsync and PUBACK included, beside a subscriber of the same library
// that only acknowledges the same backlog. Broker, bridge and log share the cores.
func BenchmarkBridged(b *testing.B) {
	for _, tc := range []struct{ name, topics string }{
		{"untouched", untouched},
		{"mapped", "  topics: [{template: 'site/{site}/{device}/telemetry', telemetry: '{\"t\": payload.temperature, \"site\": captures.site}'}]\n"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			m := startMosquitto(b, anyone)
			s := newSite(b, enginetest.EmbeddedLog(b))
			s.put("d", true)
			config := plain(m, "  inflight: 1024\n"+tc.topics)
			s.attach("bench", config).connected(b).stop()
			m.pile(b)
			bridge := s.attach("bench", config)
			until(b, func() bool { return testutil.ToFloat64(bridge.metrics.appended) >= float64(b.N) })
			bridge.stop()
		})
	}
	b.Run("bare-subscriber", func(b *testing.B) {
		m := startMosquitto(b, anyone)
		var received atomic.Int64
		subscribe := func() paho.Client {
			o := paho.NewClientOptions().AddBroker("tcp://" + m.addr).SetClientID("bare").SetCleanSession(false).SetAutoReconnect(false)
			o.SetDefaultPublishHandler(func(paho.Client, paho.Message) { received.Add(1) })
			c := paho.NewClient(o)
			require.True(b, c.Connect().WaitTimeout(5*time.Second))
			require.True(b, c.Subscribe("site/+/+/telemetry", 1, nil).WaitTimeout(time.Minute))
			return c
		}
		subscribe().Disconnect(100)
		m.pile(b)
		c := subscribe()
		until(b, func() bool { return received.Load() >= int64(b.N) })
		c.Disconnect(100)
	})
}

// pile publishes b.N messages for a subscriber that is away, and starts the
// clock.
func (m *mosquitto) pile(b *testing.B) {
	b.Helper()
	c, err := m.client("flood")
	require.NoError(b, err)
	defer c.Disconnect(100)
	payload := fmt.Sprintf(benchPayload, strings.Repeat("x", 105))
	window := make(chan paho.Token, 256)
	for range b.N {
		if len(window) == cap(window) {
			(<-window).Wait()
		}
		window <- c.Publish("site/1/d/telemetry", 1, false, payload)
	}
	for len(window) > 0 {
		(<-window).Wait()
	}
	b.ResetTimer()
}

func until(b *testing.B, arrived func() bool) {
	b.Helper()
	require.Eventually(b, arrived, 2*time.Minute, time.Millisecond)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
