package mqtt

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// TestEclipsePahoOverMQTT5 is a device that reconnects by itself, as in the field.
func TestEclipsePahoOverMQTT5(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	ups := make(chan *paho.Connack, 10)
	goodbyes := make(chan *paho.Disconnect, 10)
	refusals := make(chan error, 100)
	device := func(id, password string) *autopaho.ConnectionManager {
		m, err := autopaho.NewConnection(t.Context(), autopaho.ClientConfig{
			ServerUrls:      []*url.URL{{Scheme: "mqtt", Host: s.addr}},
			KeepAlive:       60,
			ConnectUsername: host + "/" + id + "/?api-version=2021-04-12", ConnectPassword: []byte(password),
			ReconnectBackoff: func(int) time.Duration { return 10 * time.Millisecond },
			OnConnectionUp:   func(_ *autopaho.ConnectionManager, connack *paho.Connack) { ups <- connack },
			OnConnectError: func(err error) {
				select {
				case refusals <- err:
				default:
				}
			},
			ConnectPacketBuilder: func(connect *paho.Connect, _ *url.URL) (*paho.Connect, error) {
				connect.Properties.RequestProblemInfo = true // its default is no
				return connect, nil
			},
			SessionExpiryInterval: 60,
			ClientConfig:          paho.ClientConfig{ClientID: id, OnServerDisconnect: func(d *paho.Disconnect) { goodbyes <- d }},
		})
		require.NoError(t, err)
		return m
	}
	m := device("d", s.token("d"))
	granted := (<-ups).Properties
	require.EqualValues(t, 1, *granted.MaximumQoS)
	require.EqualValues(t, 256, *granted.ReceiveMaximum)
	require.EqualValues(t, 60, *granted.SessionExpiryInterval)

	const topic = "devices/d/messages/events/"
	publish := func(p *paho.Publish) (*paho.PublishResponse, error) { return m.Publish(t.Context(), p) }
	alias := uint16(1)
	for _, name := range []string{topic, ""} {
		_, err := publish(&paho.Publish{QoS: 1, Topic: name, Payload: []byte(`{"a":1}`), Properties: &paho.PublishProperties{
			TopicAlias: &alias, ContentType: "application/json", User: paho.UserProperties{{Key: "room", Value: "lobby 1"}},
		}})
		require.NoError(t, err)
	}
	for _, r := range s.telemetry(2) {
		require.Equal(t, "$.ct=application%2Fjson&room=lobby%201", headers(r)["ce_properties"])
	}
	refused, err := publish(&paho.Publish{QoS: 1, Topic: "devices/other/messages/events/", Payload: []byte("{}")})
	require.Error(t, err)
	require.EqualValues(t, 0x90, refused.ReasonCode)
	require.Equal(t, endForeignTopic.advice, refused.Properties.ReasonString)

	other, _ := s.connected5("d", packets.Properties{})
	require.EqualValues(t, 0x8E, (<-goodbyes).ReasonCode)
	<-ups // it comes back
	other.farewell(0x8E)
	_, err = publish(&paho.Publish{QoS: 1, Topic: topic, Payload: []byte("{}")})
	require.NoError(t, err)
	require.NoError(t, m.Disconnect(t.Context()))

	stranger := device("d", s.token("e"))
	var denied *autopaho.ConnackError
	require.True(t, errors.As(<-refusals, &denied))
	require.EqualValues(t, 0x87, denied.ReasonCode)
	require.NotEmpty(t, denied.Reason)
	require.NoError(t, stranger.Disconnect(t.Context()))
}
