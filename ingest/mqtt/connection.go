package mqtt

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"
)

// connection is one device's connection, from its first byte to its last.
type connection struct {
	gateway *Gateway
	conn    net.Conn
	reader  *packetReader
	out     outbox
	// window bounds how many messages wait for the log.
	window  *semaphore.Weighted
	dropped atomic.Pointer[ending] // why others end it, set once

	// Set by the handshake.
	tenant, device string
	keepAlive      time.Duration // 0: none asked for
	expires        time.Time     // when the credential does
	grant          deviceauth.Grant
	registrant     *deviceauth.Registrant // set when it came to be provisioned
	deadline       time.Time              // the read deadline in force

	// What the device's records have in common.
	id, key, source []byte
	prefix          string
	sequence        uint64
	arrived         time.Time
	stamped         time.Time // what stamp says
	stamp           []byte

	// What the last topic said.
	topic      string
	bag        bag
	bagHeaders []kgo.RecordHeader
}

// serve runs the connection to its end and says why it ended.
func (c *connection) serve(ctx context.Context) error {
	defer c.reader.close()
	if err := c.handshake(ctx); err != nil {
		return err
	}
	if c.registrant != nil {
		return c.serveRegistrant(ctx)
	}
	c.gateway.admit(c)
	c.out.send(packets.Connack<<4, 2, 0, 0)
	for {
		fresh := !c.reader.buffered()
		first, body, err := c.reader.next()
		if err != nil {
			return c.readError(err)
		}
		if fresh {
			c.arrived = now()
		}
		if err := c.packet(ctx, first, body); err != nil {
			return err
		}
	}
}

// finish closes the socket: after a graceful ending once all that is under way
// is answered, else at once. Either way it returns only when nothing of the
// connection is left with the log, or ctx ends.
func (c *connection) finish(ctx context.Context, why *ending) {
	if !why.graceful {
		_ = c.conn.Close()
	}
	_ = c.window.Acquire(ctx, c.gateway.cfg.Inflight)
	c.out.drained()
	_ = c.conn.Close()
}

var scratchPackets = sync.Pool{New: func() any { return new(packets.Packet) }}

// packet handles one packet after the handshake.
func (c *connection) packet(ctx context.Context, first byte, body []byte) error {
	pk := scratchPackets.Get().(*packets.Packet)
	defer scratchPackets.Put(pk)
	if err := pk.FixedHeader.Decode(first); err != nil {
		if first>>4 == packets.Publish && first&0x06 == 0x06 {
			return endQoS2
		}
		return because(endMalformed, err)
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return c.handlePublish(ctx, pk, body)
	case packets.Pingreq:
		c.out.send(packets.Pingresp<<4, 0)
		return nil
	case packets.Subscribe:
		return c.refuseSubscribe(body)
	case packets.Unsubscribe:
		return c.answerUnsubscribe(body)
	case packets.Disconnect:
		return endDisconnected
	default:
		return because(endMalformed, errUnexpectedPacket)
	}
}

var errUnexpectedPacket = errors.New("a device does not send this packet, or not now")

func (c *connection) handlePublish(ctx context.Context, pk *packets.Packet, body []byte) error {
	if pk.FixedHeader.Qos > 1 {
		return endQoS2
	}
	pk.ProtocolVersion, pk.PacketID = mqtt311, 0
	if err := pk.PublishDecode(body); err != nil {
		return because(endMalformed, err)
	}
	if pk.FixedHeader.Qos == 1 && pk.PacketID == 0 {
		return because(endMalformed, packets.ErrProtocolViolationNoPacketID)
	}
	if len(pk.Payload) > maxPayloadBytes {
		return endTooLarge
	}
	return c.publish(ctx, pk.TopicName, pk.Payload, pk.PacketID, pk.FixedHeader.Qos)
}

// maxFilters bounds one SUBSCRIBE (FEATURES.md MQTT-05).
const maxFilters = 5

// refuseSubscribe grants nothing: the gateway has nothing to deliver yet, and a
// device that is told so can do without (MQTT 3.1.1 §3.9.3, 0x80).
func (c *connection) refuseSubscribe(body []byte) error {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: mqtt311}
	if err := pk.SubscribeDecode(body); err != nil {
		return because(endMalformed, err)
	}
	if pk.PacketID == 0 || len(pk.Filters) == 0 || len(pk.Filters) > maxFilters {
		return because(endMalformed, errUnexpectedPacket)
	}
	suback := []byte{packets.Suback << 4, byte(2 + len(pk.Filters)), byte(pk.PacketID >> 8), byte(pk.PacketID)}
	for range pk.Filters {
		suback = append(suback, packets.ErrUnspecifiedError.Code)
	}
	c.out.send(suback...)
	c.gateway.metrics.refusedSubscriptions.Add(float64(len(pk.Filters)))
	c.gateway.warn("subscription refused: messages to devices are not available", "device", c.device, "filter", clip(pk.Filters[0].Filter))
	return nil
}

func (c *connection) answerUnsubscribe(body []byte) error {
	if len(body) < 2 {
		return because(endMalformed, errUnexpectedPacket)
	}
	c.out.send(packets.Unsuback<<4, 2, body[0], body[1])
	return nil
}

// beforeWait runs before each wait for bytes and sees to it that the wait ends:
// after 1.5 times the device's keep-alive (MQTT 3.1.1 §3.1.2.10), and when its
// token expires.
func (c *connection) beforeWait() error {
	if why := c.dropped.Load(); why != nil {
		return why
	}
	deadline := c.expires
	if c.keepAlive > 0 {
		if silent := now().Add(c.keepAlive + c.keepAlive/2); deadline.IsZero() || silent.Before(deadline) {
			deadline = silent
		}
	}
	// Setting a deadline costs more than reading a message: a busy connection
	// moves it along a few times a keep-alive, not with every read.
	if moved := deadline.Sub(c.deadline); moved == 0 || moved > 0 && moved < c.keepAlive/8 {
		return nil
	}
	c.deadline = deadline
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	if why := c.dropped.Load(); why != nil { // drop came between; its deadline is gone
		return why
	}
	return nil
}

// readError says why reading ended.
func (c *connection) readError(err error) error {
	if why := c.dropped.Load(); why != nil {
		return why
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		if !c.expires.IsZero() && !now().Before(c.expires) {
			return endTokenExpired
		}
		return endSilent
	}
	return readEnding(err)
}

// drop ends the connection from outside its own goroutine.
func (c *connection) drop(why *ending) {
	if !c.dropped.CompareAndSwap(nil, why) {
		return
	}
	if why.graceful {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		return
	}
	c.out.abort()
}

// now is the gateway's clock, to the millisecond that records carry.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }

// clip shortens what a device sent before it is logged.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
