package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// conn is one connection. One goroutine at a time sends, one at a time receives;
// the atomics are what they share.
type conn struct {
	net net.Conn

	frames    []byte // a PUBLISH for each packet id, 1 to inflight
	frameSize int64
	counterAt int64 // in a frame; 0: no counter
	inflight  int64

	sent, acked atomic.Int64
	lost        atomic.Bool

	// One message at a time is timed: the sampled-th, sent at sampledAt.
	sampled   int64
	sampledAt atomic.Int64 // Unix nanoseconds; 0: none

	received [1024]byte
	partial  int // bytes of a cut PUBACK at the beginning of received
}

const (
	keepAliveSeconds = 1170 // below IoT Hub's largest; no run takes that long
	firstCounter     = 100_000_000
	pubackSize       = 4
)

func connect(ctx context.Context, address string, from *net.TCPAddr, secure *tls.Config, d Device) (_ *conn, err error) {
	dialer := net.Dialer{Timeout: handshakeTimeout}
	if from != nil {
		dialer.LocalAddr = from
	}
	socket, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = socket.Close()
		}
	}()
	if secure != nil {
		socket = tls.Client(socket, secure)
	}
	hello := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: keepAliveSeconds, ClientIdentifier: d.ID,
			UsernameFlag: d.User != "", Username: []byte(d.User),
			PasswordFlag: d.User != "", Password: []byte(d.Password),
		},
	}
	var buffer bytes.Buffer
	if err := hello.ConnectEncode(&buffer); err != nil {
		return nil, err
	}
	if err := socket.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	if _, err := socket.Write(buffer.Bytes()); err != nil {
		return nil, err
	}
	var reply [4]byte
	if _, err := io.ReadFull(socket, reply[:]); err != nil {
		return nil, fmt.Errorf("read CONNACK: %w", err)
	}
	if reply[0] != packets.Connack<<4 || reply[1] != 2 {
		return nil, fmt.Errorf("the broker answered % x instead of a CONNACK", reply)
	}
	if reply[3] != 0 {
		return nil, fmt.Errorf("the broker refused the connection with code %d", reply[3])
	}
	return &conn{net: socket}, socket.SetDeadline(time.Time{})
}

// encode prepares the PUBLISH packets: all of a size, only the counter changes.
func (c *conn) encode(topic, payload string, inflight int) error {
	if payload == "" {
		return nil
	}
	var all bytes.Buffer
	for id := 1; id <= inflight; id++ {
		publish := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: 4,
			TopicName: topic, PacketID: uint16(id), Payload: []byte(payload),
		}
		if err := publish.PublishEncode(&all); err != nil {
			return fmt.Errorf("encode PUBLISH: %w", err)
		}
	}
	c.frames, c.inflight = all.Bytes(), int64(inflight)
	c.frameSize = int64(len(c.frames)) / c.inflight
	if at := strings.Index(payload, Counter); at >= 0 {
		c.counterAt = c.frameSize - int64(len(payload)) + int64(at)
	}
	return nil
}

// room is how many messages the window still has place for.
func (c *conn) room() int64 { return c.inflight - (c.sent.Load() - c.acked.Load()) }

// send sends the next n messages, at most room, in one system call.
func (c *conn) send(n int64) error {
	first := c.sent.Load()
	start := first % c.inflight
	if c.counterAt > 0 {
		for i := range n {
			frame := (start + i) % c.inflight
			writeCounter(c.frames[frame*c.frameSize+c.counterAt:], firstCounter+first+i)
		}
	}
	now := time.Now()
	if c.sampledAt.Load() == 0 {
		c.sampled = first + n
		c.sampledAt.Store(now.UnixNano())
	}
	// Before the write: an acknowledgement may come before it returns.
	c.sent.Store(first + n)
	if start+n <= c.inflight {
		_, err := c.net.Write(c.frames[start*c.frameSize : (start+n)*c.frameSize])
		return err
	}
	around := net.Buffers{c.frames[start*c.frameSize:], c.frames[:(start+n-c.inflight)*c.frameSize]}
	_, err := around.WriteTo(c.net)
	return err
}

// writeCounter writes nine digits.
func writeCounter(b []byte, n int64) {
	for i := len(Counter) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// receive reads acknowledgements, at least one byte of them, and calls timed with
// the time the sampled message took, when it is among them.
func (c *conn) receive(timed func(time.Duration)) error {
	n, err := c.net.Read(c.received[c.partial:])
	if err != nil {
		return err
	}
	n += c.partial
	acked := c.acked.Load()
	at := 0
	for ; at+pubackSize <= n; at += pubackSize {
		b := c.received[at : at+pubackSize]
		id := int64(b[2])<<8 | int64(b[3])
		if b[0] != packets.Puback<<4 || b[1] != 2 {
			return fmt.Errorf("the broker sent % x instead of a PUBACK", b)
		}
		if expected := acked%c.inflight + 1; id != expected {
			return fmt.Errorf("the broker acknowledged %d before %d", id, expected)
		}
		acked++
	}
	if acked > c.sent.Load() {
		return errors.New("the broker acknowledged a message that wasn't sent")
	}
	c.partial = copy(c.received[:], c.received[at:n])
	c.acked.Store(acked)
	if began := c.sampledAt.Load(); began != 0 && acked >= c.sampled {
		timed(time.Since(time.Unix(0, began)))
		c.sampledAt.Store(0)
	}
	return nil
}

func (c *conn) close() error {
	_ = c.net.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := c.net.Write([]byte{packets.Disconnect << 4, 0})
	if closing := c.net.Close(); err == nil {
		err = closing
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
