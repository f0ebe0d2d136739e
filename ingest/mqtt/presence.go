package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// identity is what can have one connection: a device, or a module of one.
type identity struct{ tenant, device, module string }

func (c *connection) identity() identity { return identity{c.tenant, c.device, c.module} }

// announce tells the log, and with it every other gateway node, that the device
// is here. Deliveries begin when the fold has accepted it.
func (c *connection) announce(ctx context.Context) {
	state := c.gateway.registry.Get(c.tenant, c.device)
	now := device.IdentityOf(state, c.module).GetConnection()
	ev := c.event()
	s := &c.session
	s.mu.Lock()
	s.announced, s.before = true, now.GetId()
	connected := &eventsv1.DeviceConnected{
		Connection: s.id, Node: c.gateway.cfg.Node, Protocol: c.protocol(), ModelId: c.modelID,
		CleanSession: c.cleanStart, SessionSeconds: c.sessionSeconds(),
	}
	if state.GetTemplate() == "" && c.module == "" {
		if t := c.gateway.cfg.Templates.ByModel(c.tenant, c.modelID); t != nil {
			connected.Template, connected.Initial = t.ID, t.Initial()
		}
	}
	ev.Change = &eventsv1.DeviceEvent_Connected{Connected: connected}
	s.mu.Unlock()
	c.gateway.registry.Submit(ctx, ev, c.decided)
}

// protocol names how the device speaks.
func (c *connection) protocol() string {
	name := "mqtt"
	if c.version == mqtt5 {
		name = "mqtt5"
	}
	switch c.conn.(type) {
	case *net.TCPConn, *tls.Conn:
		return name
	}
	return name + "-websocket"
}

// decided takes the fold's decision on DeviceConnected. A fold that is not there
// does not keep a device from sending.
func (c *connection) decided(_ *eventsv1.DeviceState, err error) {
	var refused *registry.RejectedError
	s := &c.session
	switch {
	case err == nil:
		s.mu.Lock()
		s.confirmed = true
		s.mu.Unlock()
	case errors.Is(err, registry.ErrUndecided):
		s.mu.Lock()
		s.undecided = true
		s.mu.Unlock()
		c.gateway.warn("nobody decides device events: nothing can be delivered to devices", "device", c.device, "error", err)
	case errors.As(err, &refused) && refused.Reason == eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND:
		c.drop(endBlocked)
		return
	default:
		c.gateway.warn("a device's connection could not be put on the log", "device", c.device, "error", err)
		c.drop(endLogFailed)
		return
	}
	c.gateway.courier.call(c)
}

// depart tells the log how the connection ended: messages that the device has not
// acknowledged go back to its queue.
func (c *connection) depart(ctx context.Context, err error) {
	s := &c.session
	s.mu.Lock()
	announced, id := s.announced, s.id
	seconds := c.sessionSeconds()
	bye := &eventsv1.DeviceDisconnected{Connection: id, Reason: endingOf(err).reason, SessionSeconds: &seconds}
	var unacked []string
	if d := s.down; d != nil {
		for _, message := range d.unacked {
			unacked = append(unacked, message)
		}
		// What went into a connection that broke may not have come out of it.
		if why := endingOf(err); d.desiredKnown && (why == endDisconnected || why == endShutdown) {
			bye.DesiredDelivered = d.desiredVersion
		}
	}
	s.mu.Unlock()
	if !announced {
		return
	}
	slices.Sort(unacked) // ids sort by time
	for _, message := range unacked {
		c.settleMessage(ctx, message, eventsv1.Settlement_SETTLEMENT_ABANDONED)
	}
	ev := c.event()
	ev.Change = &eventsv1.DeviceEvent_Disconnected{Disconnected: bye}
	c.submit(ctx, ev)
}

// reasonNodeLost is why a connection ended whose node could not say so.
const reasonNodeLost = "node_lost"

// disownLost ends, on the log, the connections that the state shows on this node
// but that it does not have: it was killed while it had them.
func (g *Gateway) disownLost(ctx context.Context) {
	select {
	case <-g.registry.CaughtUp():
	case <-ctx.Done():
		return
	}
	const page = 1000
	for after := ""; ctx.Err() == nil; {
		devices := g.registry.List(access.DefaultTenant, after, page)
		for _, state := range devices {
			for _, i := range append([]*eventsv1.Identity{state.GetSelf()}, state.GetModules()...) {
				g.disown(ctx, state, i)
			}
		}
		if len(devices) < page {
			return
		}
		after = devices[len(devices)-1].GetDevice()
	}
}

func (g *Gateway) disown(ctx context.Context, state *eventsv1.DeviceState, i *eventsv1.Identity) {
	conn := i.GetConnection()
	if !conn.GetConnected() || conn.GetNode() != g.cfg.Node || g.holds(identity{state.GetTenant(), state.GetDevice(), i.GetModule()}) {
		return
	}
	g.registry.Submit(ctx, &eventsv1.DeviceEvent{
		Id: eventlog.NewID(), Tenant: state.GetTenant(), Device: state.GetDevice(), Module: i.GetModule(),
		Time: timestamppb.Now(), Actor: &eventsv1.Actor{Principal: "gateway:" + g.cfg.Node},
		Change: &eventsv1.DeviceEvent_Disconnected{Disconnected: &eventsv1.DeviceDisconnected{
			Connection: conn.GetId(), Reason: reasonNodeLost,
		}},
	}, func(_ *eventsv1.DeviceState, err error) {
		var refused *registry.RejectedError
		if err != nil && !errors.As(err, &refused) {
			g.warn("a lost connection could not be ended on the log", "device", state.GetDevice(), "error", err)
		}
	})
}

func (g *Gateway) holds(id identity) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byIdentity[id] != nil
}

// deviceChanged has the device's connections look at their new state.
func (g *Gateway) deviceChanged(before, after *eventsv1.DeviceState) {
	if familyChanged(before, after) {
		g.families.Add(1)
	}
	lost := !device.Exists(after) || !after.GetEnabled()
	revoked := withdrawn(before.GetAttestation(), after.GetAttestation())
	for _, c := range g.connectionsOf(before, after) {
		switch {
		case lost:
			c.drop(endBlocked)
		case revoked && c.module == "":
			c.drop(endRevoked)
		default:
			g.courier.call(c)
		}
	}
}

// connectionsOf finds the connections of the device and its modules, those that
// are gone with the change included.
func (g *Gateway) connectionsOf(before, after *eventsv1.DeviceState) []*connection {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*connection
	id := identity{tenant: after.GetTenant(), device: after.GetDevice()}
	if c := g.byIdentity[id]; c != nil {
		all = append(all, c)
	}
	for _, state := range [...]*eventsv1.DeviceState{before, after} {
		for _, m := range state.GetModules() {
			id.module = m.GetModule()
			if c := g.byIdentity[id]; c != nil && !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all
}
