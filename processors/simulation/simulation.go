// Package simulation runs simulated devices (FEATURES.md DEV-30): a device that is
// said to be simulated connects to the gateway over MQTT with its own key, as any
// device does, and says what its template's model has it say.
//
// In go the node's views of devices and templates, out come devices: telemetry,
// reported properties, acknowledgements of desired ones and answers to commands.
// Nodes share the devices by the partitions of the `device-state` topic, so that each
// runs on one node. The package writes nothing to the log itself, and never knows
// more of the platform than a device does.
package simulation

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	domain "github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceclient"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	// stage names the consumer group by which nodes share the devices.
	stage = "process-simulation"
	// limit is how many devices of a tenant are simulated at one time (FEATURES.md
	// DEV-30).
	limit = 100
	// DefaultInterval is between two messages of a device.
	DefaultInterval = 10 * time.Second
	// pageSize is how many devices are looked at in one piece.
	pageSize = 1000
)

// Deps are the node's views.
type Deps struct {
	Log       *eventlog.Log
	Devices   *registry.Registry
	Catalog   *catalog.Catalog
	Templates *template.Templates
	Groups    *enrollment.Groups
	Keys      *domain.MasterKey
	Metrics   prometheus.Registerer
	Logger    *slog.Logger
}

// Config says where and how devices are simulated.
type Config struct {
	// Node must be stable over restarts and unlike any other's.
	Node string
	// Gateway is where devices connect, as [deviceclient.ParseBroker] gives it, and
	// Trust what they trust if it has TLS; nil: the system's CAs.
	Gateway *url.URL
	Trust   *tls.Config
	// Interval is between two messages of a device; DefaultInterval when zero.
	Interval time.Duration
	// Now is the clock that values follow; time.Now when nil.
	Now func() time.Time
}

// Simulation is the simulated devices of one node.
type Simulation struct {
	deps    Deps
	cfg     Config
	metrics *metrics
	fleet   fleet
	changed chan struct{} // there is something to settle

	mu      sync.Mutex
	mine    map[int32]bool // partitions whose devices are this node's
	running map[identity]*running
	waiting map[identity]string // why devices of this node do not run
}

// running is a device that runs, and what it was started with.
type running struct {
	setting

	stop context.CancelFunc
	done chan struct{}
}

type setting struct {
	template *template.Template
	key      []byte
}

// equal ignores that a view may have read the same template again.
func (s setting) equal(other setting) bool {
	return bytes.Equal(s.key, other.key) && bytes.Equal(s.template.JSON, other.template.JSON)
}

// New makes the simulation. It must be made before the registry and the catalog run,
// and after the view of templates was, so that it hears of every change.
func New(deps Deps, cfg Config) *Simulation {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Simulation{
		deps: deps, cfg: cfg, metrics: newMetrics(deps.Metrics), changed: make(chan struct{}, 1),
		fleet: fleet{devices: map[identity]time.Time{}}, running: map[identity]*running{}, waiting: map[identity]string{},
	}
	deps.Devices.OnChange(func(before, after *eventsv1.DeviceState) {
		if matters(before, after) {
			s.fleet.take(deps.Devices, identity{after.GetTenant(), after.GetDevice()})
			s.wake()
		}
	})
	deps.Catalog.OnChange(func(_, after *catalog.Resource) {
		if after.Kind == template.KindName || after.Kind == enrollment.KindName {
			s.wake()
		}
	})
	return s
}

func (s *Simulation) wake() {
	select {
	case s.changed <- struct{}{}:
	default: // it is to be settled anyway
	}
}

// Run simulates until ctx ends; nil is its answer then. All devices have disconnected
// when it returns.
func (s *Simulation) Run(ctx context.Context) error {
	if !s.awaitViews(ctx) {
		return nil
	}
	s.load()
	all, own := errgroup.WithContext(ctx)
	all.Go(func() error {
		return s.deps.Log.Share(own, stage, s.cfg.Node, eventlog.DeviceState, func(partitions map[int32]bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.mine = partitions
			s.settle(own)
		})
	})
	all.Go(func() error {
		for {
			select {
			case <-own.Done():
				return nil
			case <-s.changed:
				s.mu.Lock()
				s.settle(own)
				s.mu.Unlock()
			}
		}
	})
	return all.Wait() // without partitions no device runs
}

// awaitViews waits until the views have caught up; false when ctx ends first.
func (s *Simulation) awaitViews(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.deps.Devices.Ready() != nil || s.deps.Catalog.Ready() != nil {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// load takes in the devices that were there before the views told of changes.
func (s *Simulation) load() {
	// One tenant until tenants have host names of their own.
	const tenant = access.DefaultTenant
	for after := ""; ; {
		page := s.deps.Devices.List(tenant, after, pageSize)
		for _, state := range page {
			if concerns(state) {
				s.fleet.take(s.deps.Devices, identity{tenant, state.GetDevice()})
			}
		}
		if len(page) < pageSize {
			return
		}
		after = page[len(page)-1].GetDevice()
	}
}

// settle has those devices run that are to run on this node, and no others; s.mu is
// held. When it returns those it stopped are disconnected.
func (s *Simulation) settle(ctx context.Context) {
	wanted, waiting := s.plan()
	s.stop(func(one identity) bool {
		want, ok := wanted[one]
		return !ok || !want.equal(s.running[one].setting)
	})
	for one, want := range wanted {
		if s.running[one] == nil {
			s.start(ctx, one, want)
		}
	}
	s.tell(waiting)
}

// plan is how each device of this node is to run, and why those that are not do not.
func (s *Simulation) plan() (wanted map[identity]setting, waiting map[identity]string) {
	wanted, waiting = map[identity]setting{}, map[identity]string{}
	for _, devices := range s.fleet.ranked() {
		for rank, one := range devices {
			if !s.mine[s.deps.Log.PartitionOf(eventlog.DeviceState, eventlog.Key(one.tenant, one.id))] {
				continue
			}
			if rank >= limit {
				waiting[one] = overLimit
				continue
			}
			want, why := s.setting(one)
			if why != "" {
				waiting[one] = why
				continue
			}
			wanted[one] = want
		}
	}
	return wanted, waiting
}

// Why a device is not simulated, as the metric names it.
const (
	overLimit  = "over_limit"
	noTemplate = "no_template"
	noKey      = "no_key"
	gone       = "gone"
)

// advice is what people can do about it.
var advice = map[string]string{
	overLimit:  "100 devices of a tenant are simulated at one time, the oldest first: delete some, or make them real",
	noTemplate: "it has no published template: assign one",
	noKey:      "it connects with a certificate: only devices with symmetric keys can be simulated",
}

// setting is what the device is to be started with, or why it cannot be.
func (s *Simulation) setting(one identity) (_ setting, why string) {
	state := s.deps.Devices.Get(one.tenant, one.id)
	if !concerns(state) {
		return setting{}, gone
	}
	t := s.deps.Templates.Get(one.tenant, state.GetTemplate())
	if t == nil {
		return setting{}, noTemplate
	}
	key, err := s.key(state)
	if err != nil {
		s.deps.Logger.Error("the key of a simulated device cannot be opened: is this the master key it was made with?", "tenant", one.tenant, "device", one.id, "error", err)
	}
	if key == nil {
		return setting{}, noKey
	}
	return setting{t, key}, ""
}

// key is the device's primary key; nil when it has none.
func (s *Simulation) key(state *eventsv1.DeviceState) ([]byte, error) {
	tenant, id := state.GetTenant(), state.GetDevice()
	if own := state.GetAttestation(); own != nil {
		if own.GetSymmetricKey() == nil {
			return nil, nil
		}
		keys, err := s.deps.Keys.OpenKeys(domain.AttestationPlace(tenant, id), own.GetSymmetricKey())
		return keys.Primary, err
	}
	group := state.GetEnrollmentGroup()
	if group == "" {
		group = domain.DefaultGroup
	}
	keys := s.deps.Groups.Of(tenant).KeysOf(group)
	if keys == nil {
		return nil, nil
	}
	return keys.DeviceKeys(id).Primary, nil
}

func (s *Simulation) start(ctx context.Context, one identity, want setting) {
	ctx, stop := context.WithCancel(ctx)
	model := want.template.ModelID()
	if domain.ValidateModelID(model) != nil {
		model = "" // the gateway would not take it
	}
	d := &device{
		client:   deviceclient.Device{ID: one.id, Key: want.key, Model: model, Broker: s.cfg.Gateway, Trust: s.cfg.Trust},
		imitates: newImitation(one.tenant, one.id, want.template.Model), every: s.cfg.Interval, now: s.cfg.Now,
		metrics: s.metrics, logger: s.deps.Logger.With("tenant", one.tenant, "device", one.id),
	}
	r := &running{setting: want, stop: stop, done: make(chan struct{})}
	s.running[one] = r
	go func() { // stop waits for it
		defer close(r.done)
		d.run(ctx)
	}()
}

// stop ends those devices that are to end, all at once, and waits for them.
func (s *Simulation) stop(which func(identity) bool) {
	var ending []*running
	for one, r := range s.running {
		if which(one) {
			r.stop()
			ending = append(ending, r)
			delete(s.running, one)
		}
	}
	for _, r := range ending {
		<-r.done
	}
}

// tell says of each device that does not run why, once.
func (s *Simulation) tell(waiting map[identity]string) {
	states := map[string]int{"running": len(s.running), overLimit: 0, noTemplate: 0, noKey: 0}
	for one, why := range waiting {
		if why == gone { // the change that says so is on its way
			continue
		}
		states[why]++
		if s.waiting[one] != why {
			s.deps.Logger.Warn("device is not simulated", "tenant", one.tenant, "device", one.id, "reason", why, "advice", advice[why])
		}
	}
	s.waiting = waiting
	for state, n := range states {
		s.metrics.devices.WithLabelValues(state).Set(float64(n))
	}
}
