package mqtt

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Rates bound what devices may do; 0 is no bound. A device that sends beyond them
// is slowed down: its socket is not read until it may send again, which is how
// back-pressure reaches it. In MQTT 5 a QoS 1 message beyond them is refused
// instead (0x97, quota exceeded), because there the device can be told.
type Rates struct {
	// Device is messages/s of one connection.
	Device float64
	// Tenant is messages/s of all of a tenant's devices on this node.
	Tenant float64
	// Connects is how many connections/s the node takes; more wait in the system's
	// backlog.
	Connects float64
}

// burstSeconds is how long a rate may be saved up.
const burstSeconds = 5

// limiter is a token bucket for a rate, nil for none.
func limiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(int(perSecond*burstSeconds), 1))
}

const (
	// maxShare is how many of the tenant's messages a busy connection takes at a
	// time, so that connections seldom meet at the tenant's bucket.
	maxShare = 64
	// shareLife is how long what it took stays its own.
	shareLife = time.Second
)

// pace is a connection's part in the bounds. Only its own goroutine uses it.
type pace struct {
	device *rate.Limiter // nil: no bound
	tenant *rate.Limiter // nil: no bound
	share  int           // of the tenant's messages, taken last time
	left   int           // of the share
	taken  time.Time
}

// newPace is nil when nothing is bounded.
func (g *Gateway) newPace(tenant string) *pace {
	p := &pace{device: limiter(g.cfg.Rates.Device), tenant: g.tenantLimiter(tenant)}
	if p.device == nil && p.tenant == nil {
		return nil
	}
	return p
}

func (g *Gateway) tenantLimiter(tenant string) *rate.Limiter {
	if g.cfg.Rates.Tenant <= 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tenants[tenant] == nil {
		g.tenants[tenant] = limiter(g.cfg.Rates.Tenant)
	}
	return g.tenants[tenant]
}

// wait takes one message out of the bounds and says how long it must wait.
func (p *pace) wait(at time.Time) time.Duration {
	var wait time.Duration
	if p.device != nil {
		wait = p.device.ReserveN(at, 1).DelayFrom(at)
	}
	if n := p.nextShare(at); n > 0 {
		wait = max(wait, p.tenant.ReserveN(at, n).DelayFrom(at))
		p.take(at, n)
	}
	p.left--
	return wait
}

// allow takes one message out of the bounds if that is possible at once.
func (p *pace) allow(at time.Time) bool {
	if n := p.nextShare(at); n > 0 {
		if !p.tenant.AllowN(at, n) {
			return false
		}
		p.take(at, n)
	}
	if p.device != nil && !p.device.AllowN(at, 1) {
		return false
	}
	p.left--
	return true
}

// nextShare is how many of the tenant's messages to take now, 0 for none.
func (p *pace) nextShare(at time.Time) int {
	switch since := at.Sub(p.taken); {
	case p.tenant == nil:
		return 0
	case p.share == 0 || since > shareLife:
		return 1
	case p.left > 0:
		return 0
	}
	return min(p.share*2, maxShare, p.tenant.Burst())
}

func (p *pace) take(at time.Time, n int) { p.share, p.left, p.taken = n, n, at }

// within keeps the connection within the bounds.
func (c *connection) within(ctx context.Context, qos byte) error {
	if c.version == mqtt5 && qos > 0 {
		if !c.pace.allow(now()) {
			return endThrottled
		}
		return nil
	}
	wait := c.pace.wait(now())
	if wait <= 0 {
		return nil
	}
	c.gateway.metrics.slowed.Inc()
	// What drops the connection meanwhile is seen at the next read.
	for until := time.Now().Add(wait); c.dropped.Load() == nil; {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(min(left, time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return endShutdown
		}
	}
	return nil
}
