package mqtt

import (
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// subscription is one of the few things a device may subscribe to (FEATURES.md
// 3.2). There are as many as IoT Hub allows subscriptions, so that the bound of
// MQTT-05 needs no count.
type subscription int

const (
	toDevice      subscription = iota // cloud-to-device messages
	twinResponses                     // answers to twin operations
	twinDesired                       // changes of the desired properties
	methodCalls                       // commands
	moduleInputs                      // granted to modules; nothing is routed to them
	subscriptions                     // how many there are
)

const (
	// maxFilters bounds one SUBSCRIBE (FEATURES.md MQTT-05).
	maxFilters = 5
	// longestSession is how long the session of an MQTT 3.1.1 device is kept.
	longestSession = 30 * 24 * time.Hour
)

// subscriptionOf finds what a filter means to this device; false for a filter
// that is not its own or not documented.
func (c *connection) subscriptionOf(filter string) (subscription, bool) {
	switch filter {
	case "$iothub/twin/res/#":
		return twinResponses, true
	case "$iothub/twin/PATCH/properties/desired/#":
		return twinDesired, true
	case "$iothub/methods/POST/#":
		return methodCalls, true
	}
	own, ok := strings.CutPrefix(filter, c.root())
	switch {
	case ok && own == "messages/devicebound/#", ok && c.module != "" && own == "#":
		return toDevice, true
	case ok && c.module != "" && own == "inputs/#":
		return moduleInputs, true
	}
	return 0, false
}

// root is what the device's own topics begin with.
func (c *connection) root() string { return strings.TrimSuffix(c.prefix, "messages/events/") }

// subscribe answers a SUBSCRIBE. QoS 2 is granted as 1; other filters than the
// documented ones are refused one by one (MQTT 3.1.1 §3.9.3).
func (c *connection) subscribe(body []byte) error {
	pk, err := c.decodeSubscribe(body)
	if err != nil {
		return err
	}
	if len(pk.Filters) > maxFilters {
		return because(endMalformed, errUnexpectedPacket)
	}
	s := &c.session
	s.mu.Lock()
	codes := make([]byte, 0, len(pk.Filters))
	for i := range pk.Filters {
		codes = append(codes, c.grant(pk.Filters[i].Filter, pk.Filters[i].Qos))
	}
	sent := c.out.send(c.encodeSuback(nil, pk.PacketID, codes)...) // before anything is delivered for it
	s.mu.Unlock()
	if !sent {
		return endSlowReader
	}
	c.gateway.courier.call(c)
	return nil
}

// grant notes one subscription and is its SUBACK code; the session's lock is held.
func (c *connection) grant(filter string, qos byte) byte {
	what, ok := c.subscriptionOf(filter)
	if !ok {
		c.gateway.metrics.refusedSubscriptions.Inc()
		c.gateway.warn("subscription refused: the filter is not one of a device's", "device", c.device, "filter", clip(filter))
		return packets.ErrTopicFilterInvalid.Code
	}
	qos = min(qos, 1)
	c.session.ready().granted[what] = qos + 1
	return qos
}

// unsubscribe answers an UNSUBSCRIBE.
func (c *connection) unsubscribe(body []byte) error {
	pk, err := c.decodeUnsubscribe(body)
	if err != nil {
		return err
	}
	s := &c.session
	s.mu.Lock()
	codes := make([]byte, 0, len(pk.Filters))
	for i := range pk.Filters {
		codes = append(codes, c.revoke(pk.Filters[i].Filter))
	}
	s.mu.Unlock()
	if !c.out.send(c.encodeUnsuback(nil, pk.PacketID, codes)...) {
		return endSlowReader
	}
	return nil
}

// revoke ends one subscription and is its UNSUBACK code; the session's lock is held.
func (c *connection) revoke(filter string) byte {
	what, ok := c.subscriptionOf(filter)
	if d := c.session.down; ok && d != nil && d.granted[what] > 0 {
		d.granted[what] = 0
		return packets.CodeSuccess.Code
	}
	return packets.CodeNoSubscriptionExisted.Code
}
