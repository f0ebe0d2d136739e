package mqtt

import (
	"context"
	"encoding/binary"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxUnacked is how many cloud-to-device messages may wait for the device's PUBACK;
// an MQTT 5 device can ask for fewer.
const maxUnacked = 16

// settlement is what became of a message.
type settlement struct {
	message string
	as      eventsv1.Settlement
}

// deliverMessages sends the messages that wait, in their order, as far as the
// window goes. With QoS 0 a message is done when it is sent; one that cannot be
// written as an MQTT packet is given up. False: something has to wait for the
// device to read.
func (c *connection) deliverMessages(d *downlink, i *eventsv1.Identity) (settled []settlement, all bool) {
	for id := range d.messages {
		if !slices.ContainsFunc(i.GetMessages(), func(m *eventsv1.CloudMessage) bool { return m.GetId() == id }) {
			delete(d.messages, id)
		}
	}
	if d.granted[toDevice] == 0 {
		return nil, true
	}
	qos := d.granted[toDevice] - 1
	at := now()
	for _, m := range i.GetMessages() {
		if _, given := d.messages[m.GetId()]; given || device.MessageOver(m, at) || device.MessageLockedAt(m, at) {
			continue
		}
		if qos > 0 && len(d.unacked) >= c.maxUnacked() {
			return settled, true // the next PUBACK goes on
		}
		packetID := d.nextPacketID(qos)
		packet := c.encodeMessage(m, qos, packetID)
		if len(packet) > 0 && !c.out.room(len(packet)) {
			return settled, false
		}
		c.out.send(packet...)
		if d.messages == nil {
			d.messages, d.unacked = map[string]struct{}{}, map[uint16]string{}
		}
		d.messages[m.GetId()] = struct{}{}
		switch {
		case len(packet) == 0:
			c.gateway.warn("a message to a device is too large for an MQTT packet and is given up", "device", c.device, "message", m.GetId())
			settled = append(settled, settlement{m.GetId(), eventsv1.Settlement_SETTLEMENT_REJECTED})
			continue
		case qos == 0:
			settled = append(settled, settlement{m.GetId(), eventsv1.Settlement_SETTLEMENT_COMPLETED})
		default:
			d.unacked[packetID] = m.GetId()
		}
		c.gateway.metrics.delivered.WithLabelValues("message").Inc()
	}
	return settled, true
}

func (c *connection) maxUnacked() int {
	if c.receiveMaximum > 0 {
		return min(maxUnacked, int(c.receiveMaximum))
	}
	return maxUnacked
}

// nextPacketID is one that no message on its way has.
func (d *downlink) nextPacketID(qos byte) uint16 {
	if qos == 0 {
		return 0
	}
	for {
		d.packetID++
		if _, taken := d.unacked[d.packetID]; !taken && d.packetID != 0 {
			return d.packetID
		}
	}
}

// encodeMessage makes a message a PUBLISH; nothing when its properties do not fit
// a topic, or the packet the device.
func (c *connection) encodeMessage(m *eventsv1.CloudMessage, qos byte, packetID uint16) []byte {
	topic := c.root() + "messages/devicebound/" + messageBag(m, c.identityPath())
	if len(topic) > math.MaxUint16 {
		return nil
	}
	return c.encodePublish(nil, topic, qos, packetID, nil, m.GetMessage().GetBody())
}

// identityPath is the device's, or the module's, resource.
func (c *connection) identityPath() string { return "/" + strings.TrimSuffix(c.root(), "/") }

// messageBag is the property bag of a cloud-to-device message: system properties
// first, then the application's, where null is a bare name (FEATURES.md MQTT-11).
func messageBag(m *eventsv1.CloudMessage, to string) string {
	var b strings.Builder
	add := func(key string, value *string) {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(escapeProperty(key))
		if value != nil {
			b.WriteByte('=')
			b.WriteString(escapeProperty(*value))
		}
	}
	system := func(key, value string) {
		if value != "" {
			add(key, &value)
		}
	}
	msg := m.GetMessage()
	id := msg.GetMessageId()
	if id == "" {
		id = m.GetId()
	}
	system("$.mid", id)
	system("$.to", to+"/messages/devicebound")
	system("$.cid", msg.GetCorrelationId())
	system("$.uid", msg.GetUserId())
	system("$.ct", msg.GetContentType())
	system("$.ce", msg.GetContentEncoding())
	system("$.exp", msg.GetExpires().AsTime().UTC().Format(time.RFC3339Nano))
	if msg.GetAck() != "none" {
		system("iothub-ack", msg.GetAck())
	}
	for _, p := range msg.GetProperties() {
		add(p.GetKey(), p.Value)
	}
	return b.String()
}

// escapeProperty percent-encodes all but unreserved characters: a plus would be
// read as itself.
func escapeProperty(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// received takes the device's PUBACK. An MQTT 5 device can say that it does not
// want the message (MQTT 5 §3.4.2.1). One for an unknown message changes nothing.
func (c *connection) received(ctx context.Context, body []byte) error {
	if len(body) < 2 {
		return because(endMalformed, packets.ErrMalformedPacketID)
	}
	packetID := binary.BigEndian.Uint16(body)
	as := eventsv1.Settlement_SETTLEMENT_COMPLETED
	if len(body) > 2 && c.version == mqtt5 && body[2] >= packets.ErrUnspecifiedError.Code {
		as = eventsv1.Settlement_SETTLEMENT_REJECTED
	}
	s := &c.session
	s.mu.Lock()
	message := ""
	if s.down != nil {
		message = s.down.unacked[packetID]
		delete(s.down.unacked, packetID)
	}
	s.mu.Unlock()
	if message == "" {
		return nil
	}
	c.settleMessage(ctx, message, as)
	c.gateway.courier.call(c)
	return nil
}

// settleMessage puts on the log what became of a message.
func (c *connection) settleMessage(ctx context.Context, message string, as eventsv1.Settlement) {
	ev := c.event()
	ev.Change = &eventsv1.DeviceEvent_MessageSettled{MessageSettled: &eventsv1.MessageSettled{Message: message, Settlement: as}}
	c.submit(ctx, ev)
}
