package mqtt

import (
	"bytes"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// TestThePublishPathAllocatesNothing is the hot path's budget: from a packet's
// bytes to the record that is handed to the log, a message of a device that sends
// to one topic allocates nothing, in MQTT 3.1.1 and 5.
func TestThePublishPathAllocatesNothing(t *testing.T) {
	for _, version := range []byte{mqtt311, mqtt5} {
		c := &connection{gateway: &Gateway{topic: "telemetry"}, version: version, tenant: "default", device: "d"}
		c.introduce()
		topic := "devices/d/messages/events/$.ct=application%2Fjson&$.ce=utf-8"
		frame := publishPacket(topic, 7, `{"temperature":21.5}`)
		if version == mqtt5 {
			frame = publish5(topic, 7, `{"temperature":21.5}`, packets.Properties{})
		}
		body := frame[2:]
		require.Equal(t, int(frame[1]), len(body))
		p, pk := newPending().(*pending), new(packets.Packet)
		c.arrived = time.Now().Truncate(time.Millisecond)
		take := func() {
			pk.FixedHeader.Qos, pk.ProtocolVersion, pk.PacketID = 1, mqtt311, 0
			if err := pk.PublishDecode(body); err != nil {
				t.Error(err)
			}
			if version == mqtt5 {
				if err := c.takeProperties(pk); err != nil {
					t.Error(err)
				}
			}
			if pk.TopicName != c.topic {
				if err := c.setTopic(pk.TopicName); err != nil {
					t.Error(err)
				}
			}
			c.sequence++
			c.arrived = c.arrived.Add(time.Millisecond)
			p.fill(c, pk.Payload, c.eventTime())
		}
		take()
		require.Zero(t, testing.AllocsPerRun(1000, take))
		require.True(t, bytes.Equal([]byte(`{"temperature":21.5}`), p.record.Value))
		require.Equal(t, "default/d", string(p.record.Key))
	}
}
