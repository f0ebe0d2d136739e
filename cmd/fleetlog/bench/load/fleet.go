// Package load is a lean MQTT 3.1.1 load generator: many connections that publish
// at QoS 1, each with a window of unacknowledged messages, as fast as the broker
// acknowledges or at a given rate.
//
// In go a broker's address and who connects; out come counts and latencies. It
// knows as much MQTT as that takes: what it sends is encoded once, what it
// receives must be PUBACKs in the order of their PUBLISHes (MQTT 3.1.1 §4.6), so
// it costs the broker on the same machine as little as can be. It reports a
// message as acknowledged only when its PUBACK was read.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// Counter is what a message's own number replaces in a payload: nine digits that
// no two messages of a connection share.
const Counter = "@@@@@@@@@"

// Device is who connects and where it publishes.
type Device struct {
	ID, User, Password string // no user: anonymous
	Topic              string
}

// Options of a fleet.
type Options struct {
	Address  string // host:port
	CAFile   string // of the broker's certificate; without TLS when empty
	Source   int    // connect from addresses in 127.Source.0.0/16; any when 0
	Devices  []Device
	Payload  string // may hold one Counter; empty for a fleet that only connects
	Inflight int    // unacknowledged messages a connection, 1 to 65535
}

const (
	dialing          = 64               // connections being made at the same time
	handshakeTimeout = 30 * time.Second // of one connection
	writeTimeout     = 30 * time.Second // after the end of a run: the broker has stopped reading

	// perSource is how many connections share a loopback source address: so few
	// that Linux finds a free ephemeral port at once.
	perSource = 2_000
)

// Fleet is a number of connections.
type Fleet struct{ conns []*conn }

// Connect makes all connections. When one can't be made it fails and says why.
func Connect(ctx context.Context, o Options) (*Fleet, error) {
	if o.Payload != "" && (o.Inflight < 1 || o.Inflight > 65535) {
		return nil, fmt.Errorf("%d messages in flight: use 1 to 65535", o.Inflight)
	}
	secure, err := clientTLS(o.CAFile)
	if err != nil {
		return nil, err
	}
	f := &Fleet{conns: make([]*conn, len(o.Devices))}
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(dialing)
	for i, device := range o.Devices {
		if running.Err() != nil {
			break
		}
		group.Go(func() error {
			c, err := connect(running, o.Address, source(i, o), secure, device)
			if err != nil {
				return fmt.Errorf("connect %s: %w", device.ID, err)
			}
			f.conns[i] = c
			return c.encode(device.Topic, o.Payload, o.Inflight)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// source spreads very many connections over loopback addresses.
func source(i int, o Options) *net.TCPAddr {
	if o.Source == 0 && len(o.Devices) <= perSource {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, byte(o.Source), 0, byte(2+i/perSource))}
}

// clientTLS trusts one authority; nil without one.
func clientTLS(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the broker's authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, nil
}

// Abort breaks all connections off, as a power cut does.
func (f *Fleet) Abort() {
	for _, c := range f.conns {
		if c != nil {
			_ = c.net.Close()
		}
	}
}

// Close ends all connections with a DISCONNECT.
func (f *Fleet) Close() error {
	var errs []error
	for _, c := range f.conns {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// Sent is how many messages have been sent so far.
func (f *Fleet) Sent() (n int64) {
	for _, c := range f.conns {
		n += c.sent.Load()
	}
	return n
}

// Acked is how many messages have been acknowledged so far.
func (f *Fleet) Acked() (n int64) {
	for _, c := range f.conns {
		n += c.acked.Load()
	}
	return n
}
