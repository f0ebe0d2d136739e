package mqtt

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
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
func (c *connection) subscribe(ctx context.Context, body []byte) error {
	pk, err := c.decodeSubscribe(body)
	if err != nil {
		return err
	}
	if len(pk.Filters) > maxFilters {
		return because(endMalformed, errUnexpectedPacket)
	}
	return c.resubscribe(ctx, func() []byte {
		codes := make([]byte, 0, len(pk.Filters))
		for i := range pk.Filters {
			codes = append(codes, c.grant(pk.Filters[i].Filter, pk.Filters[i].Qos))
		}
		return c.encodeSuback(nil, pk.PacketID, codes)
	})
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
func (c *connection) unsubscribe(ctx context.Context, body []byte) error {
	pk, err := c.decodeUnsubscribe(body)
	if err != nil {
		return err
	}
	return c.resubscribe(ctx, func() []byte {
		codes := make([]byte, 0, len(pk.Filters))
		for i := range pk.Filters {
			codes = append(codes, c.revoke(pk.Filters[i].Filter))
		}
		return c.encodeUnsuback(nil, pk.PacketID, codes)
	})
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

// resubscribe changes the subscriptions and sends the answer: at once, or, where
// they outlive the connection and have changed, when the log has them.
func (c *connection) resubscribe(ctx context.Context, change func() (answer []byte)) error {
	s := &c.session
	s.mu.Lock()
	before := s.granted()
	answer := change()
	if c.sessionSeconds() == 0 || s.granted() == before {
		sent := c.out.send(answer...) // before anything is delivered for it
		s.mu.Unlock()
		if !sent {
			return endSlowReader
		}
		c.gateway.courier.call(c)
		return nil
	}
	if s.busy >= maxBusy {
		s.mu.Unlock()
		return endRestless
	}
	s.busy++
	ev := c.event()
	ev.Change = &eventsv1.DeviceEvent_SubscriptionsKept{SubscriptionsKept: &eventsv1.SubscriptionsKept{Connection: s.id, Subscriptions: c.kept()}}
	s.mu.Unlock()
	c.gateway.registry.Submit(ctx, ev, func(_ *eventsv1.DeviceState, err error) {
		var refused *registry.RejectedError
		if err != nil && !errors.As(err, &refused) { // this connection has it nevertheless
			c.gateway.warn("a subscription is not on the log and will not outlive its connection", "device", c.device, "error", err)
		}
		s.mu.Lock()
		s.busy--
		if !s.over && !c.out.send(answer...) {
			c.drop(endSlowReader)
		}
		s.mu.Unlock()
		c.gateway.courier.call(c)
	})
	return nil
}

// granted is what the connection is subscribed to; s.mu is held.
func (s *session) granted() [subscriptions]byte {
	if s.down == nil {
		return [subscriptions]byte{}
	}
	return s.down.granted
}

// filter is how a subscription is written down.
func (c *connection) filter(what subscription) string {
	return [subscriptions]string{
		toDevice:      c.root() + "messages/devicebound/#",
		twinResponses: "$iothub/twin/res/#",
		twinDesired:   "$iothub/twin/PATCH/properties/desired/#",
		methodCalls:   "$iothub/methods/POST/#",
		moduleInputs:  c.root() + "inputs/#",
	}[what]
}

// kept is what the session keeps; the session's lock is held.
func (c *connection) kept() []*eventsv1.Subscription {
	var all []*eventsv1.Subscription
	for what, granted := range c.session.granted() {
		if granted > 0 {
			all = append(all, &eventsv1.Subscription{Filter: c.filter(subscription(what)), Qos: uint32(granted - 1)})
		}
	}
	return all
}

// resume takes up what the session before was subscribed to (FEATURES.md MQTT-09).
func (c *connection) resume() {
	if c.cleanStart {
		return
	}
	before := device.IdentityOf(c.gateway.registry.Get(c.tenant, c.device), c.module).GetConnection()
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	for _, kept := range device.KeptSubscriptions(before, now()) {
		if what, ok := c.subscriptionOf(kept.GetFilter()); ok {
			c.session.ready().granted[what] = byte(min(kept.GetQos(), 1)) + 1
			c.sessionPresent = true
		}
	}
}

// sessionSeconds is how long the session outlives the connection.
func (c *connection) sessionSeconds() uint32 {
	return uint32(min(c.sessionExpiry, longestSession) / time.Second)
}
