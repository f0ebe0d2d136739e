package mqtt

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// BenchmarkAcknowledged is the durable path end to end: 200 authenticated
// connections with 64 QoS 1 messages of 150 bytes in flight each, until the log
// has fsynced them and the PUBACK is back. The load generator shares the cores.
func BenchmarkAcknowledged(b *testing.B) {
	for _, version := range []struct {
		name    string
		connect func(s *site, id string) *client
		publish func(topic string, id uint16, payload string) []byte
	}{
		{"3.1.1", (*site).connected, publishPacket},
		{"5", connectPlain5, func(topic string, id uint16, payload string) []byte {
			return publish5(topic, id, payload, packets.Properties{})
		}},
		{"5 with aliases", connectPlain5, func(topic string, id uint16, payload string) []byte {
			return publish5(topic, id, payload, packets.Properties{TopicAlias: 1, TopicAliasFlag: true})
		}},
	} {
		b.Run("MQTT "+version.name, func(b *testing.B) { acknowledged(b, version.connect, version.publish) })
	}
}

func connectPlain5(s *site, id string) *client {
	c, _ := s.connected5(id, packets.Properties{})
	return c
}

func acknowledged(b *testing.B, connect func(*site, string) *client, publish func(string, uint16, string) []byte) {
	const connections, inflight = 200, 64
	s := newSite(b, enginetest.EmbeddedLog(b), Config{})
	payload := fmt.Sprintf(`{"temperature":21.5,"humidity":47.25,"note":%q}`, strings.Repeat("x", 105))
	require.True(b, json.Valid([]byte(payload)))
	conns := make([]net.Conn, connections)
	windows := make([][]byte, connections)
	for i := range conns {
		id := fmt.Sprintf("bench-%04d", i)
		s.put(id, true)
		conns[i] = connect(s, id).conn
		require.NoError(b, conns[i].SetDeadline(time.Time{}))
		for n := range inflight {
			windows[i] = append(windows[i], publish("devices/"+id+"/messages/events/", uint16(n+1), payload)...)
		}
	}
	rounds := b.N/(connections*inflight) + 1
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			frame := len(windows[i]) / inflight
			acks := make([]byte, 4*inflight)
			if _, err := conn.Write(windows[i]); err != nil {
				b.Error(err)
			}
			for done, total := 0, rounds*inflight; done < total; {
				n, err := io.ReadAtLeast(conn, acks, 4)
				if err != nil {
					b.Error(err)
					return
				}
				for ; n%4 != 0; n++ {
					if _, err := io.ReadFull(conn, acks[n:n+1]); err != nil {
						b.Error(err)
						return
					}
				}
				done += n / 4
				if more := min(n/4, total-done-inflight+n/4); more > 0 {
					if _, err := conn.Write(windows[i][:more*frame]); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(rounds*connections*inflight)/b.Elapsed().Seconds(), "acked/s")
}
