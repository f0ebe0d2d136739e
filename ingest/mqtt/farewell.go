package mqtt

import (
	"context"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// farewellTimeout bounds how long a device may take to read why it is
	// disconnected, and then to close.
	farewellTimeout = time.Second
	// lingerReads bounds how much it may still send meanwhile, in small buffers.
	lingerReads = 2048
)

// farewell queues an MQTT 5 DISCONNECT that says why the connection ends (MQTT 5
// §3.14), as the last packet the device gets. It never blocks. It is false where
// no farewell is possible: MQTT 3.1.1 has none, nor has a connection that was not
// accepted yet, or whose device does not read.
func (c *connection) farewell(err error) bool {
	if !c.greeted.Load() || c.version != mqtt5 {
		return false
	}
	code := reasonCode(err)
	return code != 0 && c.out.last(c.encodeReason(packets.Disconnect, 0, code, reasonText(err)))
}

// last queues the last packet: what is sent after it is dropped. A socket that
// has not taken it in time is closed, whatever the connection is doing.
func (o *outbox) last(packet []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.over:
		return true // said already
	case o.failed || !o.queue(packet):
		return false
	}
	o.over = true
	o.patience = time.AfterFunc(farewellTimeout, o.abort)
	return true
}

// calm ends the patience with the last packet, if there was one.
func (o *outbox) calm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.patience != nil {
		o.patience.Stop()
	}
}

// finish closes the socket: after a graceful ending once all that is under way
// is answered, else at once, with a farewell where there can be one. Either way it
// returns only when nothing of the connection is left with the log, or ctx ends.
func (c *connection) finish(ctx context.Context, err error) {
	c.publishWill(ctx, err)
	graceful := endingOf(err).graceful
	if graceful {
		c.settle(ctx)
	}
	if c.farewell(err) {
		c.out.drained()
		c.out.calm()
		c.linger()
	}
	c.out.calm() // a farewell was said, and then the device's own came
	_ = c.conn.Close()
	if !graceful {
		c.settle(ctx)
	}
}

// settle waits until the log has answered everything and the device was told.
func (c *connection) settle(ctx context.Context) {
	_ = c.window.Acquire(ctx, c.gateway.cfg.Inflight)
	c.out.drained()
}

// linger lets the device close first, for a while: a socket closed on bytes that
// nobody has read resets the connection, and the farewell may be lost with it.
func (c *connection) linger() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(farewellTimeout)); err != nil {
		return
	}
	unread := make([]byte, smallBufferBytes)
	for range lingerReads {
		if _, err := c.conn.Read(unread); err != nil {
			return
		}
	}
}

// disconnected reads the device's own DISCONNECT. With MQTT 5 it may change how
// long its session is kept (MQTT 5 §3.14.2.2.2).
func (c *connection) disconnected(body []byte) error {
	if c.version != mqtt5 || len(body) < 2 {
		return endDisconnected
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect, Remaining: len(body)}, ProtocolVersion: mqtt5}
	if err := pk.DisconnectDecode(body); err != nil {
		return because(endMalformed, err)
	}
	if p := &pk.Properties; p.SessionExpiryIntervalFlag {
		if c.sessionExpiry == 0 && p.SessionExpiryInterval > 0 {
			return because(endMalformed, packets.ErrProtocolViolationZeroNonZeroExpiry)
		}
		c.grantExpiry(p.SessionExpiryInterval)
	}
	return endDisconnected
}

// refuseMessage answers a message that cannot be taken. With MQTT 5 and QoS 1 the
// device learns from the PUBACK what is wrong with it and goes on; everything else
// ends the connection, for there is no other way to tell. The PUBACK waits for
// those of the messages before it (MQTT 5 §4.6).
func (c *connection) refuseMessage(ctx context.Context, pk *packets.Packet, err error) error {
	why := endingOf(err)
	if c.version != mqtt5 || why.puback == 0 || pk.FixedHeader.Qos == 0 {
		return err
	}
	if err := c.window.Acquire(ctx, c.gateway.cfg.Inflight); err != nil {
		return because(endShutdown, err)
	}
	c.window.Release(c.gateway.cfg.Inflight)
	c.gateway.metrics.refused.WithLabelValues(why.reason).Inc()
	c.gateway.warn("message refused", "reason", why.reason, "device", c.device, "topic", clip(pk.TopicName), "error", err)
	if !c.out.send(c.encodeReason(packets.Puback, pk.PacketID, why.puback, reasonText(err))...) {
		return endSlowReader
	}
	return nil
}
