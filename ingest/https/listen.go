package https

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/fleetlog/fleetlog/ingest/tcp"
	"golang.org/x/net/netutil"
)

// Listen opens the port, with TLS always. A client certificate is asked for and
// not demanded: devices have it, or a token.
func (d *Door) Listen(ctx context.Context, addr string, config *tls.Config) (net.Listener, error) {
	listener, err := tcp.Listen(ctx, addr)
	if err != nil {
		return nil, err
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
		if !l.door.connects.Allow(hostOf(conn.RemoteAddr().String())) {
			l.door.metrics.refused.Inc()
			_ = conn.Close()
			continue
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
