// Package tcp opens the TCP ports that devices connect to, bounded in what the
// kernel keeps for each connection.
package tcp

import (
	"context"
	"fmt"
	"net"
)

// sendBufferBytes bounds what the kernel holds for a device that does not read;
// left to itself it grows the buffer to megabytes a connection.
const sendBufferBytes = 64 << 10

// Listen opens the port.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	return listener{l}, nil
}

type listener struct{ net.Listener }

// Accept gives each connection its bounded send buffer.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetWriteBuffer(sendBufferBytes) // a connection that is gone already fails at its first read
	}
	return conn, err
}
