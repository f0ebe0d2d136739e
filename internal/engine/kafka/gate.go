package kafka

import (
	"net"
	"sync"
)

// gatedListener holds connections back until it is opened, so that nobody
// appends while the log is compacted. Connections wait in the system's backlog.
type gatedListener struct {
	net.Listener
	opened   chan struct{}
	closed   chan struct{}
	closing  sync.Once
	closeErr error
}

func newGatedListener(ln net.Listener) *gatedListener {
	return &gatedListener{Listener: ln, opened: make(chan struct{}), closed: make(chan struct{})}
}

func (g *gatedListener) open() { close(g.opened) }

func (g *gatedListener) Accept() (net.Conn, error) {
	select {
	case <-g.opened:
		return g.Listener.Accept()
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *gatedListener) Close() error {
	g.closing.Do(func() {
		close(g.closed)
		g.closeErr = g.Listener.Close()
	})
	return g.closeErr
}
