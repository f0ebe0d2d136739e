package mqtt

import (
	"context"
	"errors"
	"net"
	"strings"
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
	module         string        // empty: the device itself
	modelID        string        // as announced
	keepAlive      time.Duration // 0: none asked for
	expires        time.Time     // when the credential does
	admission      deviceauth.Grant
	registrant     *deviceauth.Registrant // set when it came to be provisioned
	deadline       time.Time              // the read deadline in force
	// What version, and what the device asked for or was granted in it.
	version        byte          // mqtt311 or mqtt5
	quiet          bool          // it wants no reason strings
	cleanStart     bool          // it wants no session of before
	sessionPresent bool          // it got one
	receiveMaximum uint16        // QoS 1 messages it takes without an answer
	maxPacket      uint32        // bytes it takes in one packet; 0: no bound
	sessionExpiry  time.Duration // how long its session outlives the connection
	greeted        atomic.Bool   // its CONNACK is queued
	aliases        []string      // topics by alias, nil until the first
	pace           *pace         // nil: no bounds
	begun          time.Time     // when the packet that is not whole yet was first waited for

	session session
	will    *will

	// What the device's records have in common.
	id       []byte
	self     origin
	family   family // other devices it publishes for
	prefix   string
	sequence uint64
	arrived  time.Time
	stamped  time.Time // what stamp says
	stamp    []byte

	// What the last topic said.
	topic      string
	from       *origin
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
	c.pace = c.gateway.newPace(c.tenant)
	c.resume()
	c.out.send(c.connack()...)
	c.greeted.Store(true)
	c.announce(ctx)
	for {
		fresh := !c.reader.buffered()
		first, body, err := c.reader.next()
		if err != nil {
			return c.readError(err)
		}
		c.begun = time.Time{}
		if fresh {
			c.arrived = now()
		}
		if err := c.packet(ctx, first, body); err != nil {
			return err
		}
	}
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
	case packets.Puback:
		return c.received(ctx, body)
	case packets.Pingreq:
		c.out.send(packets.Pingresp<<4, 0)
		return nil
	case packets.Subscribe:
		return c.subscribe(ctx, body)
	case packets.Unsubscribe:
		return c.unsubscribe(ctx, body)
	case packets.Disconnect:
		return c.disconnected(body)
	default:
		return because(endMalformed, errUnexpectedPacket)
	}
}

var errUnexpectedPacket = errors.New("a device does not send this packet, or not now")

func (c *connection) handlePublish(ctx context.Context, pk *packets.Packet, body []byte) error {
	if pk.FixedHeader.Qos > 1 {
		return endQoS2
	}
	pk.ProtocolVersion, pk.PacketID = mqtt311, 0 // takeMessage sees to MQTT 5's properties
	if err := pk.PublishDecode(body); err != nil {
		return because(endMalformed, err)
	}
	if pk.FixedHeader.Qos == 1 && pk.PacketID == 0 {
		return because(endMalformed, packets.ErrProtocolViolationNoPacketID)
	}
	if err := c.takeMessage(ctx, pk); err != nil {
		return c.refuseMessage(ctx, pk, err)
	}
	return nil
}

func (c *connection) takeMessage(ctx context.Context, pk *packets.Packet) error {
	if c.version == mqtt5 {
		if err := c.takeProperties(pk); err != nil {
			return err
		}
	}
	if strings.HasPrefix(pk.TopicName, operationPrefix) {
		return c.operate(ctx, pk)
	}
	if pk.FixedHeader.Retain {
		pk.TopicName = extendBag(pk.TopicName, c.prefixOf(pk.TopicName), retained)
	}
	if len(pk.Payload) > maxPayloadBytes {
		return endTooLarge
	}
	if c.pace != nil {
		if err := c.within(ctx, pk.FixedHeader.Qos); err != nil {
			return err
		}
	}
	return c.publish(ctx, pk.TopicName, pk.Payload, pk.PacketID, pk.FixedHeader.Qos)
}

// retained is what becomes of the retain flag (FEATURES.md MQTT-06).
var retained = []packets.UserProperty{{Key: "mqtt-retain", Val: "true"}}

// beforeWait runs before each wait for bytes and sees to it that the wait ends:
// after 1.5 times the device's keep-alive (MQTT 3.1.1 §3.1.2.10), and when its
// token expires.
func (c *connection) beforeWait() error {
	if why := c.dropped.Load(); why != nil {
		return why
	}
	deadline := c.expires
	if c.reader.buffered() {
		begun, err := c.partial()
		if err != nil {
			return err
		}
		if c.keepAlive == 0 && (deadline.IsZero() || begun.Add(packetTime).Before(deadline)) {
			deadline = begun.Add(packetTime)
		}
	}
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

// packetTime bounds how long a device may take for one packet: a buffer is held for
// it meanwhile.
const packetTime = time.Minute

// partial says since when a packet is under way.
func (c *connection) partial() (time.Time, error) {
	if c.begun.IsZero() {
		c.begun = now()
	}
	if now().Sub(c.begun) > packetTime {
		return c.begun, endSlowSender
	}
	return c.begun, nil
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
		if c.keepAlive == 0 && !c.begun.IsZero() {
			return endSlowSender
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
	if c.farewell(why) {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
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
