package https

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/netutil"
)

// sendBufferBytes bounds what the kernel holds for a device that does not read.
const sendBufferBytes = 64 << 10

// Listen opens the port, with TLS always. A client certificate is asked for and
// not demanded: devices have it, or a token.
func (d *Door) Listen(ctx context.Context, addr string, config *tls.Config) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	config = config.Clone()
	config.ClientAuth = tls.RequestClientCert
	config.NextProtos = []string{"http/1.1"} // WebSocket needs it
	return tls.NewListener(netutil.LimitListener(&doorListener{Listener: listener, door: d}, d.cfg.MaxConnections), config), nil
}

// doorListener counts connections, and closes those of an address that makes too
// many before TLS costs anything.
type doorListener struct {
	net.Listener
	door *Door
}

// Accept waits for a connection within its address's rate.
func (l *doorListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.door.connects.allow(hostOf(conn.RemoteAddr().String())) {
			l.door.metrics.refused.Inc()
			_ = conn.Close()
			continue
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(sendBufferBytes) // a connection that is gone already fails at its first read
		}
		l.door.metrics.connections.Inc()
		return &countedConn{Conn: conn, closed: sync.OnceFunc(l.door.metrics.connections.Dec)}, nil
	}
}

type countedConn struct {
	net.Conn
	closed func()
}

// Close closes the connection and counts it once.
func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
