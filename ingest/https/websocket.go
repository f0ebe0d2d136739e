package https

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// webSocketPath is where Azure's SDKs, for IoT Hub and for provisioning alike,
// speak MQTT over WebSocket. Its query, such as ?iothub-no-client-cert=true, says
// nothing to this door.
const webSocketPath = "/$iothub/websocket"

// mqttProtocol is the sub-protocol (MQTT 3.1.1 §6, MQTT 5 §6).
const mqttProtocol = "mqtt"

const (
	socketReadBytes  = 1 << 10
	socketWriteBytes = 4 << 10
	farewellTimeout  = time.Second
)

var upgrader = websocket.Upgrader{
	Subprotocols:    []string{mqttProtocol},
	ReadBufferSize:  socketReadBytes,
	WriteBufferSize: socketWriteBytes,
	WriteBufferPool: &sync.Pool{},
	// There are no cookies to protect: who connects shows a token in CONNECT.
	CheckOrigin: func(*http.Request) bool { return true },
}

// acceptWebSocket hands the connection to the MQTT gateway, which owns it from
// then on.
func (d *Door) acceptWebSocket(w http.ResponseWriter, r *http.Request) error {
	if !websocket.IsWebSocketUpgrade(r) {
		return because(failArgument, errors.New("this path is for MQTT over WebSocket: send an upgrade request"))
	}
	if !slices.Contains(websocket.Subprotocols(r), mqttProtocol) {
		return failProtocol // AMQP over WebSocket (AMQPWSB10) among them
	}
	if d.sockets.isClosed() {
		return failBusy
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil //nolint:nilerr // the upgrader has answered
	}
	s := &socket{ws: ws}
	if r.TLS != nil {
		s.state = *r.TLS
	}
	if !d.sockets.offer(s) {
		_ = s.Close()
	}
	return nil
}

// socket is a WebSocket as a stream: MQTT packets lie across messages in any way
// (MQTT 3.1.1 §6). One goroutine may read while another one writes.
type socket struct {
	ws     *websocket.Conn
	state  tls.ConnectionState
	reader io.Reader // the message being read
}

// errTextMessage is returned for a message that is not binary (MQTT 3.1.1
// §6, MQTT-6.0.0-1).
var errTextMessage = errors.New("a WebSocket message is not binary")

// Read reads on in the message at hand, or in the next one.
func (s *socket) Read(p []byte) (int, error) {
	for {
		if s.reader == nil {
			kind, reader, err := s.ws.NextReader()
			if err != nil {
				return 0, streamError(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, errTextMessage
			}
			s.reader = reader
		}
		n, err := s.reader.Read(p)
		if errors.Is(err, io.EOF) {
			s.reader, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, streamError(err)
		}
	}
}

// streamError makes a farewell the end of the stream.
func streamError(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return io.EOF
	}
	return err
}

// Write sends one binary message.
func (s *socket) Write(p []byte) (int, error) {
	if err := s.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says farewell, for a second at most, and closes the connection.
func (s *socket) Close() error {
	_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(farewellTimeout))
	return s.ws.Close()
}

// NetConn is the connection below, for who must end it without a farewell.
func (s *socket) NetConn() net.Conn { return s.ws.NetConn() }

// ConnectionState is that of TLS, with the device's certificate when it gave one.
func (s *socket) ConnectionState() tls.ConnectionState { return s.state }

// Protocol names the way the device came, for its connection event.
func (s *socket) Protocol() string { return "mqtt-websocket" }

func (s *socket) LocalAddr() net.Addr                { return s.ws.LocalAddr() }
func (s *socket) RemoteAddr() net.Addr               { return s.ws.RemoteAddr() }
func (s *socket) SetReadDeadline(t time.Time) error  { return s.ws.SetReadDeadline(t) }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.ws.SetWriteDeadline(t) }

// SetDeadline sets both.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.ws.SetReadDeadline(t), s.ws.SetWriteDeadline(t))
}

// socketListener is where accepted WebSockets wait for the gateway.
type socketListener struct {
	sockets chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newSocketListener() *socketListener {
	return &socketListener{sockets: make(chan net.Conn), closed: make(chan struct{})}
}

// offer waits until the gateway takes the connection; false when it takes none
// any more.
func (l *socketListener) offer(conn net.Conn) bool {
	select {
	case l.sockets <- conn:
		return true
	case <-l.closed:
		return false
	}
}

func (l *socketListener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Accept waits for a device's WebSocket; net.ErrClosed after Close.
func (l *socketListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.sockets:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close has devices refused from now on.
func (l *socketListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

type socketAddr struct{}

func (socketAddr) Network() string { return "websocket" }
func (socketAddr) String() string  { return webSocketPath }

// Addr is not one to dial: that is the door's.
func (l *socketListener) Addr() net.Addr { return socketAddr{} }
