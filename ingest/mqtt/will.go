package mqtt

import (
	"bytes"
	"context"

	"github.com/mochi-mqtt/server/v2/packets"
)

// will is the message a device leaves for the case that it goes without a word
// (MQTT 3.1.1 §3.1.2.5).
type will struct {
	topic   string
	payload []byte
}

// willProperty marks the message (FEATURES.md MQTT-07).
var willProperty = packets.UserProperty{Key: "iothub-MessageType", Val: "Will"}

// takeWill keeps the will of a CONNECT. It must go to the device's own telemetry.
// An MQTT 5 delay is not kept: the log tells the time.
func (c *connection) takeWill(pk *packets.Packet) error {
	w := &pk.Connect
	if !w.WillFlag {
		return nil
	}
	if w.WillQos > 1 {
		return because(endWill, endQoS2)
	}
	if _, err := parseTopic(w.WillTopic, c.prefix); err != nil {
		return because(endWill, err)
	}
	pairs := append([]packets.UserProperty{willProperty}, w.WillProperties.User...)
	if w.WillRetain {
		pairs = append(pairs, retained...)
	}
	if len(pairs) > maxUserProperties {
		return because(endWill, endProperties)
	}
	c.will = &will{topic: extendBag(w.WillTopic, c.prefix, pairs), payload: bytes.Clone(w.WillPayload)}
	return nil
}

// publishWill sends the will on its way, unless the device said goodbye.
func (c *connection) publishWill(ctx context.Context, err error) {
	if c.will == nil || endingOf(err) == endDisconnected {
		return
	}
	c.arrived = now()
	if err := c.publish(ctx, c.will.topic, c.will.payload, 0, 0); err != nil {
		c.gateway.warn("a device's last will was not taken", "device", c.device, "error", err)
	}
}
