package mqtt

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// session is a connection's way back to its device. Deliveries follow the
// device's state: whenever it changes, the connection is brought up to it from
// what it was given before. A connection that only sends costs no more than this.
type session struct {
	queued atomic.Bool // waits for a courier

	mu        sync.Mutex
	id        string // the connection's, in the device's state
	announced bool   // DeviceConnected is on its way to the log
	confirmed bool   // the fold has accepted it
	undecided bool   // nobody has said so in time
	before    string // connection the state showed when this one was announced
	over      bool   // nothing is delivered any more
	busy      int    // twin operations and changes of subscriptions under way
	down      *downlink
}

// downlink is what a connection that subscribed to something was given so far.
type downlink struct {
	granted [subscriptions]byte // QoS + 1, 0 for none

	desired        []byte // section the device knows, with its version
	desiredVersion uint64
	desiredKnown   bool

	commands map[string]struct{} // delivered, by id
	messages map[string]struct{} // delivered, by id, settled or not
	unacked  map[uint16]string   // messages delivered with QoS 1, by packet id
	packetID uint16
}

// ready makes the downlink when it is first needed; s.mu is held.
func (s *session) ready() *downlink {
	if s.down == nil {
		s.down = &downlink{}
	}
	return s.down
}

// standing is what a connection is by the log.
type standing int

const (
	standingUnknown standing = iota // not accepted yet: nothing is delivered
	standingLive                    // the identity's connection
	standingPast                    // another one has taken its place
)

// standing compares this connection with the one the state shows. The order of
// the log decides which of two is the newer; s.mu is held.
func (s *session) standing(now *eventsv1.Connection) standing {
	switch {
	case now.GetId() == s.id && now.GetConnected():
		s.confirmed = true
		return standingLive
	case now.GetId() == s.id:
		return standingUnknown
	case s.confirmed, s.undecided && now.GetId() != s.before:
		return standingPast
	}
	return standingUnknown
}

// stop ends the deliveries.
func (s *session) stop() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
}

// deliver brings the device up to its newest state. It reports whether there is
// more to deliver once the device has read what is on its way.
func (c *connection) deliver(ctx context.Context) (more bool) {
	state := c.gateway.registry.Get(c.tenant, c.device)
	identity := device.IdentityOf(state, c.module)
	if !state.GetEnabled() || identity == nil {
		c.drop(endBlocked)
		return false
	}
	settled, more := c.bringUp(identity)
	for _, s := range settled { // not under the session's lock: the log may be slow
		c.settleMessage(ctx, s.message, s.as)
	}
	return more
}

func (c *connection) bringUp(identity *eventsv1.Identity) (settled []settlement, more bool) {
	s := &c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, false
	}
	switch s.standing(identity.GetConnection()) {
	case standingPast:
		c.drop(endTakenOver)
		return nil, false
	case standingUnknown:
		return nil, false
	case standingLive:
	}
	if s.down == nil {
		return nil, false
	}
	desired := c.deliverDesired(s.down, identity)
	commands := c.deliverCommands(s.down, identity)
	settled, messages := c.deliverMessages(s.down, identity)
	return settled, !desired || !commands || !messages
}

// unreadReserve is what deliveries leave of the outbox to acknowledgements.
const unreadReserve = 32 << 10

// room reports whether the outbox takes a delivery of n bytes. Deliveries wait
// where acknowledgements would end the connection of a device that does not read.
func (o *outbox) room(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed || o.over || len(o.gathered)+n <= maxUnread-unreadReserve
}

// event is an intent about the connection's identity, without its change.
func (c *connection) event() *eventsv1.DeviceEvent {
	principal := "device:" + c.device
	if c.module != "" {
		principal += "/" + c.module
	}
	return &eventsv1.DeviceEvent{
		Id: eventlog.NewID(), Tenant: c.tenant, Device: c.device, Module: c.module,
		Time: timestamppb.Now(), Actor: &eventsv1.Actor{Principal: principal},
	}
}

// submit appends an intent whose fate only the log needs to know.
func (c *connection) submit(ctx context.Context, ev *eventsv1.DeviceEvent) {
	c.gateway.registry.Submit(ctx, ev, func(_ *eventsv1.DeviceState, err error) {
		var refused *registry.RejectedError
		if err != nil && !errors.As(err, &refused) {
			c.gateway.warn("a device's event may be missing on the log", "device", c.device, "module", c.module, "error", err)
		}
	})
}
