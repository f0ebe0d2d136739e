package https

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// paho is a connected MQTT client over WebSocket.
func (s *site) paho(id string) paho.Client {
	s.t.Helper()
	client := paho.NewClient(paho.NewClientOptions().AddBroker("wss://" + s.addr + webSocketPath + "?iothub-no-client-cert=true").
		SetClientID(id).SetUsername("localhost/" + id + "/?api-version=2021-04-12").SetPassword(s.token(id)).
		SetTLSConfig(s.tls).SetAutoReconnect(false).SetProtocolVersion(4))
	connect := client.Connect()
	require.True(s.t, connect.WaitTimeout(10*time.Second))
	require.NoError(s.t, connect.Error())
	s.t.Cleanup(func() { client.Disconnect(0) })
	return client
}

func (s *site) dialTLS() (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", s.addr, s.tls)
	if err == nil {
		s.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func (s *site) dialWebSocket(protocols ...string) (*websocket.Conn, *http.Response, error) {
	dialer := websocket.Dialer{TLSClientConfig: s.tls, Subprotocols: protocols, HandshakeTimeout: 10 * time.Second}
	ws, resp, err := dialer.DialContext(s.t.Context(), "wss://"+s.addr+webSocketPath, nil)
	if err == nil {
		s.t.Cleanup(func() { _ = ws.Close() })
	}
	return ws, resp, err
}

func field(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

func connectPacket(id, token string) []byte {
	body := append(field("MQTT"), 4, 0xc2, 0, 60)
	body = append(append(append(body, field(id)...), field("localhost/"+id+"/?api-version=2021-04-12")...), field(token)...)
	return append([]byte{0x10, byte(len(body)&0x7f | 0x80), byte(len(body) >> 7)}, body...)
}

func publishPacket(id string, packetID byte, payload string) []byte {
	body := append(append(field("devices/"+id+"/messages/events/"), 0, packetID), payload...)
	return append([]byte{0x32, byte(len(body))}, body...)
}

// TestPacketsLieAcrossMessages sends every byte as a message of its own, with
// empty messages and pings between, and then several packets as one.
func TestPacketsLieAcrossMessages(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	ws, _, err := s.dialWebSocket("mqtt")
	require.NoError(t, err)
	require.Equal(t, "mqtt", ws.Subprotocol())
	for _, b := range append(connectPacket("d", s.token("d")), publishPacket("d", 1, "{}")...) {
		require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, []byte{b}))
		require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, nil))
	}
	require.NoError(t, ws.WriteMessage(websocket.PingMessage, nil))
	require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, append(publishPacket("d", 2, "{}"), publishPacket("d", 3, "{}")...)))
	var got []byte
	require.NoError(t, ws.SetReadDeadline(time.Now().Add(10*time.Second)))
	for len(got) < 16 {
		kind, message, err := ws.ReadMessage()
		require.NoError(t, err, got)
		require.Equal(t, websocket.BinaryMessage, kind)
		got = append(got, message...)
	}
	require.Equal(t, []byte{0x20, 2, 0, 0, 0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3}, got)
	require.Len(t, s.records(eventlog.Telemetry, 3), 3)
}

func TestWebSocketRefusals(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	for _, protocols := range [][]string{{"AMQPWSB10"}, nil} {
		_, resp, err := s.dialWebSocket(protocols...)
		require.Error(t, err)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Equal(t, "ProtocolNotSupported", resp.Header.Get("iothub-errorcode"))
	}
	require.Equal(t, http.StatusBadRequest, s.call("", http.MethodGet, webSocketPath, "").status)
	ws, _, err := s.dialWebSocket("AMQPWSB10", "mqtt")
	require.NoError(t, err)
	require.NoError(t, ws.WriteMessage(websocket.TextMessage, connectPacket("d", s.token("d"))))
	_, _, err = ws.ReadMessage()
	require.Error(t, err, "MQTT is binary")
}

// TestABlockedDeviceIsOut wants the connection closed at once, also for a device
// that does not answer a farewell.
func TestABlockedDeviceIsOut(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	ws, _, err := s.dialWebSocket("mqtt")
	require.NoError(t, err)
	require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, connectPacket("d", s.token("d"))))
	_, connack, err := ws.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, []byte{0x20, 2, 0, 0}, connack)
	began := time.Now()
	s.register("d", false)
	_, _, err = ws.ReadMessage()
	require.Error(t, err)
	require.Less(t, time.Since(began), 3*time.Second)
}

// TestShutdownAnswersAWebSocket wants what was read to be answered, and a
// farewell.
func TestShutdownAnswersAWebSocket(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	ws, _, err := s.dialWebSocket("mqtt")
	require.NoError(t, err)
	require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, connectPacket("d", s.token("d"))))
	_, _, err = ws.ReadMessage()
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, publishPacket("d", byte(i+1), "{}")))
	}
	_, first, err := ws.ReadMessage()
	require.NoError(t, err)
	s.stop()
	acked := len(first) / 4
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			require.True(t, websocket.IsCloseError(err, websocket.CloseNormalClosure), err)
			break
		}
		acked += len(message) / 4
	}
	require.Len(t, s.records(eventlog.Telemetry, acked), acked, "each acknowledged message is on the log, and each read one acknowledged")
}
