package mqtt

import (
	"fmt"
	"testing"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// subscribe5 subscribes with QoS 1 and reads past deliveries up to the SUBACK.
func (c *client) subscribe5(filters ...string) {
	c.tb.Helper()
	body := []byte{0, 99, 0}
	for _, f := range filters {
		body = append(append(body, field(f)...), 1)
	}
	c.write(packet(0x82, body))
	suback := c.next5()
	require.Equal(c.tb, packets.Suback, suback.FixedHeader.Type)
	for _, code := range suback.ReasonCodes {
		require.Equal(c.tb, byte(1), code)
	}
}

// TestMQTT5MessagesToTheDevice is about what MQTT 5 adds to deliveries: the
// device's receive maximum, and a PUBACK that says no.
func TestMQTT5MessagesToTheDevice(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	for i := range 4 {
		s.enqueue("d", fmt.Sprint(i), time.Hour)
	}
	c, _ := s.connected5("d", packets.Properties{ReceiveMaximum: 2})
	s.knows("d", func(i *eventsv1.Identity) bool { return i.GetConnection().GetProtocol() == "mqtt5" })
	c.subscribe5("devices/d/messages/devicebound/#")
	first, second := c.next5(), c.next5()
	require.Equal(t, "0", string(first.Payload))
	require.Equal(t, "1", string(second.Payload))
	c.quiet()
	c.write([]byte{0x40, 4, byte(second.PacketID >> 8), byte(second.PacketID), 0x83, 0}) // it does not want this one
	require.Equal(t, "2", string(c.next5().Payload))
	c.quiet()
	s.knows("d", func(i *eventsv1.Identity) bool { return len(i.GetMessages()) == 3 })
}

// TestMQTT5SessionLastsAsLongAsAsked has a session with an expiry, which the
// device then takes back.
func TestMQTT5SessionLastsAsLongAsAsked(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	connect := func() (*client, packets.Packet) {
		c := s.dial()
		p := connect5("d", host+"/d/?api-version=2021-04-12", s.token("d"), 60, packets.Properties{SessionExpiryInterval: 60, SessionExpiryIntervalFlag: true})
		for i := range p {
			if p[i] == 5 && p[i+1] == 0xc2 {
				p[i+1] = 0xc0 // clean start 0
				break
			}
		}
		c.write(p)
		connack := c.next5()
		require.Zero(t, connack.ReasonCode)
		s.knows("d", func(i *eventsv1.Identity) bool { return i.GetConnection().GetConnected() })
		return c, connack
	}
	c, connack := connect()
	require.False(t, connack.SessionPresent)
	c.subscribe5(filterMethods)
	_ = c.conn.Close()
	offline := func(i *eventsv1.Identity) bool { return !i.GetConnection().GetConnected() }
	s.knows("d", offline)
	c, connack = connect()
	require.True(t, connack.SessionPresent)
	c.write([]byte{0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0}) // DISCONNECT: the session ends now
	s.knows("d", offline)
	_, connack = connect()
	require.False(t, connack.SessionPresent)
}
