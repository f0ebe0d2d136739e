package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/fleetlog/fleetlog/ingest/provisioning"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// Config bounds what devices may use.
type Config struct {
	// MaxConnections at one time, strangers in their handshake included; 100,000
	// when zero.
	MaxConnections int64
	// Inflight is how many messages of one connection may wait for the log; 256
	// when zero. Beyond it the socket is not read.
	Inflight int64
	Rates    Rates
	// Node is this gateway's name among those of one log: stable over restarts and
	// unlike any other's.
	Node string
	// Registrar provisions devices; without one they are told that there is no
	// such service here.
	Registrar *provisioning.Registrar
	// Templates are given to devices that announce their model and have none.
	Templates *template.Templates
	// HubName is the host name that devices are told to connect to after they
	// were provisioned; when empty it is the one they used.
	HubName string
	Logger  *slog.Logger
}

// Gateway serves devices. It is safe for concurrent use.
type Gateway struct {
	cfg      Config
	log      *eventlog.Log
	topic    string
	registry *registry.Registry
	gate     *deviceauth.Gate
	logger   *slog.Logger
	metrics  *metrics
	places   *semaphore.Weighted
	warnings *rate.Limiter
	connects *rate.Limiter // nil: no bound
	pendings sync.Pool
	flushers *flushers
	courier  *courier
	families atomic.Uint64 // counts changes of who is whose gateway

	mu         sync.Mutex
	open       map[*connection]struct{} // all, strangers included
	byIdentity map[identity]*connection // each device's or module's one
	tenants    map[string]*rate.Limiter // what a tenant's connections share, by tenant
	closed     bool
}

// New makes a gateway that appends to the log and lets in the devices of the
// registry that the gate finds a good credential of. It must be made before the
// registry and the catalog run, so that it hears of every device that is blocked
// and of every credential that is taken back.
func New(log *eventlog.Log, devices *registry.Registry, gate *deviceauth.Gate, reg prometheus.Registerer, cfg Config) *Gateway {
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 100_000
	}
	if cfg.Inflight == 0 {
		cfg.Inflight = 256
	}
	g := &Gateway{
		cfg: cfg, log: log, topic: log.Name(eventlog.Telemetry), registry: devices, gate: gate,
		logger: cfg.Logger, metrics: newMetrics(reg),
		places:   semaphore.NewWeighted(cfg.MaxConnections),
		warnings: rate.NewLimiter(10, 50),
		connects: limiter(cfg.Rates.Connects),
		pendings: sync.Pool{New: newPending},
		flushers: newFlushers(), courier: newCourier(),
		open:       map[*connection]struct{}{},
		tenants:    map[string]*rate.Limiter{},
		byIdentity: map[identity]*connection{},
	}
	devices.OnChange(g.deviceChanged)
	gate.Groups().OnChange(g.groupChanged)
	return g
}

// Serve accepts devices on the listeners until ctx ends; then it lets what is
// under way be answered, for as long as [eventlog.FlushTimeout] at most, and
// returns nil when every connection is closed.
func (g *Gateway) Serve(ctx context.Context, listeners ...net.Listener) error {
	// Messages are appended under a context that outlives ctx: what was read is
	// brought to its end, unless the log does not answer.
	appending, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	var accepting, serving errgroup.Group
	var flushing sync.WaitGroup
	flushCtx, stopFlushing := context.WithCancel(context.WithoutCancel(ctx))
	defer flushing.Wait()
	defer stopFlushing()
	flushing.Go(func() { g.flushers.run(flushCtx) })
	flushing.Go(func() { g.courier.run(flushCtx) })
	flushing.Go(func() { g.disownLost(flushCtx) })
	stopListening := context.AfterFunc(ctx, func() {
		for _, listener := range listeners {
			_ = listener.Close()
		}
	})
	defer stopListening()
	for _, listener := range listeners {
		accepting.Go(func() error { return g.accept(ctx, appending, listener, &serving) })
	}
	err := accepting.Wait()
	g.dropAll()
	patience := time.AfterFunc(eventlog.FlushTimeout, func() { giveUp(endShutdown) })
	defer patience.Stop()
	err = errors.Join(err, serving.Wait())
	_ = g.log.Flush(appending) // the connections' ends; a log that does not answer is given up
	return err
}

// accept takes connections from one listener. A failure that may pass, such as
// too many open files, is waited out.
func (g *Gateway) accept(ctx, appending context.Context, listener net.Listener, serving *errgroup.Group) error {
	patience := backoff.NewExponentialBackOff()
	patience.MaxInterval = time.Second
	for {
		if g.connects != nil {
			_ = g.connects.Wait(ctx) // fails only when ctx ends, and then Accept does
		}
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept devices on %s: %w", listener.Addr(), err)
		case err != nil:
			g.warn("cannot accept a device, trying again", "addr", listener.Addr().String(), "error", err)
			select {
			case <-time.After(patience.NextBackOff()):
			case <-ctx.Done():
			}
			continue
		}
		patience.Reset()
		if !g.places.TryAcquire(1) {
			_ = conn.Close()
			g.ended(endCrowded, conn, nil)
			continue
		}
		serving.Go(func() error {
			defer g.places.Release(1)
			g.serve(appending, conn)
			return nil
		})
	}
}

// serve runs one connection from accept to close.
func (g *Gateway) serve(ctx context.Context, conn net.Conn) {
	g.metrics.connections.Inc()
	defer g.metrics.connections.Dec()
	c := &connection{gateway: g, conn: conn, window: semaphore.NewWeighted(g.cfg.Inflight)}
	c.out.conn, c.out.flushers = conn, g.flushers
	c.reader = newPacketReader(conn, maxConnectBytes, c.beforeWait)
	c.out.raw = c.reader.raw
	if !g.enter(c) {
		_ = conn.Close()
		return
	}
	defer g.leave(c)
	err := c.serve(ctx)
	c.session.stop()
	c.finish(ctx, err)
	c.depart(ctx, err)
	g.ended(err, conn, c)
}

// enter counts the connection among the open ones, unless the gateway is
// closing.
func (g *Gateway) enter(c *connection) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.open[c] = struct{}{}
	}
	return !g.closed
}

// ended counts and, where a person should know, logs the end of a connection.
func (g *Gateway) ended(err error, conn net.Conn, c *connection) {
	why := endingOf(err)
	g.metrics.ended.WithLabelValues(why.reason).Inc()
	if why.expected {
		return
	}
	device := ""
	if c != nil {
		device = c.device
	}
	g.warn("device connection ended", "reason", why.reason, "device", device, "remote", conn.RemoteAddr().String(), "error", err)
}

// warn logs at a bounded rate: a thousand broken devices must not fill the disk.
func (g *Gateway) warn(msg string, args ...any) {
	if g.warnings.Allow() {
		g.logger.Warn(msg, args...) //nolint:sloglint // the callers' messages are constants
	}
}

// admit makes the connection the device's only one; an older one is dropped
// (FEATURES.md MQTT-04).
func (g *Gateway) admit(c *connection) {
	g.mu.Lock()
	older := g.byIdentity[c.identity()]
	g.byIdentity[c.identity()] = c
	g.mu.Unlock()
	if older != nil {
		older.drop(endTakenOver)
	}
	// The device may have been blocked, or its credential taken back, between its
	// check and now.
	if err := g.gate.Holds(c.tenant, c.device, c.admission); err != nil {
		c.drop(endingOf(refusal(err)))
	}
	g.metrics.accepted.Inc()
}

func (g *Gateway) leave(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, c)
	if id := c.identity(); g.byIdentity[id] == c {
		delete(g.byIdentity, id)
	}
}

func (g *Gateway) dropAll() {
	g.mu.Lock()
	g.closed = true
	all := slices.Collect(maps.Keys(g.open))
	g.mu.Unlock()
	for _, c := range all {
		c.drop(endShutdown)
	}
}

// ListenPlain opens the port without TLS. Only loopback addresses are allowed:
// tokens and telemetry must not cross a network in the clear.
func ListenPlain(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("MQTT address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("plain MQTT on %s is refused: only loopback may go without TLS; use --mqtts-addr for devices on a network", addr)
	}
	return listen(ctx, addr)
}

// ListenTLS opens the port with TLS. A device may show a certificate; whether it
// is good is for the gate to say, which knows the enrollment groups.
func ListenTLS(ctx context.Context, addr string, config *tls.Config) (net.Listener, error) {
	listener, err := listen(ctx, addr)
	if err != nil {
		return nil, err
	}
	own := config.Clone()
	own.ClientAuth = tls.RequestClientCert
	return tls.NewListener(listener, own), nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	return boundedListener{listener}, nil
}

// sendBufferBytes bounds what the kernel holds for a device that does not read;
// left to itself it grows the buffer to megabytes a connection.
const sendBufferBytes = 64 << 10

type boundedListener struct{ net.Listener }

// Accept gives each connection its bounded send buffer.
func (l boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBufferBytes) // a connection that is gone already fails at its first read
	}
	return conn, err
}
