// Package registry is a node's view of the devices: it follows the
// `device-state` topic into memory and lets a caller append an intent and wait
// for what became of it.
//
// Reads cost a map look-up and never leave the node. A change that returned is
// visible to reads on the same node. The view is a cache: it is rebuilt from the
// compacted topic at every start, and the package never decides whether a change
// is accepted; the fold does.
package registry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/tidwall/btree"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
)

// ErrNotReady is returned until the view has caught up with the log.
var ErrNotReady = errors.New("the device registry is still reading the log: try again in a moment")

// RejectedError is the fold's refusal of a change.
type RejectedError struct {
	Reason  eventsv1.RejectionReason
	Message string
}

func (e *RejectedError) Error() string { return e.Message }

// Registry is safe for concurrent use. Run must be running for it to be of use.
type Registry struct {
	log      *eventlog.Log
	logger   *slog.Logger
	ready    atomic.Bool
	caughtUp chan struct{}
	onChange []func(before, after *eventsv1.DeviceState)

	mu       sync.RWMutex
	devices  btree.Map[string, *eventsv1.DeviceState] // by record key
	newest   newest
	waiting  map[string]submitted                    // by event id
	commands map[string]chan *eventsv1.CommandResult // by command id
}

// New makes a registry over the log; Run starts it.
func New(log *eventlog.Log, logger *slog.Logger) *Registry {
	return &Registry{
		log: log, logger: logger, caughtUp: make(chan struct{}),
		newest: newest{}, waiting: map[string]submitted{}, commands: map[string]chan *eventsv1.CommandResult{},
	}
}

// OnChange registers a function called for each change that the view takes in
// once it has caught up, with the state before (nil: none) and after. It must be
// called before Run and must not block.
func (r *Registry) OnChange(f func(before, after *eventsv1.DeviceState)) {
	r.onChange = append(r.onChange, f)
}

// Run follows the log until ctx ends; nil is its only answer then.
func (r *Registry) Run(ctx context.Context) error {
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	sweeping.Go(func() { r.sweep(ctx) })
	return r.log.Follow(ctx, eventlog.DeviceState, r.apply, func() {
		if !r.ready.Swap(true) {
			close(r.caughtUp)
		}
		r.logger.Info("device registry has caught up", "devices", r.len())
	})
}

// CaughtUp is closed once the view has caught up with the log.
func (r *Registry) CaughtUp() <-chan struct{} { return r.caughtUp }

// Ready is nil once the view has caught up with the log.
func (r *Registry) Ready() error {
	if !r.ready.Load() {
		return ErrNotReady
	}
	return nil
}

func (r *Registry) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.devices.Len()
}

// Get is the device's state; nil when there is no such device. The state is
// shared and must not be changed.
func (r *Registry) Get(tenant, id string) *eventsv1.DeviceState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	state, _ := r.devices.Get(string(eventlog.Key(tenant, id)))
	if !device.Exists(state) {
		return nil
	}
	return state
}

// List is up to limit devices of the tenant whose ids sort after the given one
// ("" starts at the first).
func (r *Registry) List(tenant, after string, limit int) []*eventsv1.DeviceState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var page []*eventsv1.DeviceState
	pivot := string(eventlog.Key(tenant, after))
	r.devices.Ascend(pivot, func(key string, state *eventsv1.DeviceState) bool {
		if state.GetTenant() != tenant {
			return false
		}
		if key != pivot && device.Exists(state) {
			page = append(page, state)
		}
		return len(page) < limit
	})
	return page
}

// apply takes in one snapshot.
func (r *Registry) apply(rec *kgo.Record) {
	var snapshot eventsv1.DeviceSnapshot
	if err := proto.Unmarshal(rec.Value, &snapshot); err != nil || snapshot.GetState() == nil {
		r.logger.Error("device snapshot cannot be read and is left out", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "error", err)
		return
	}
	state := snapshot.GetState()
	r.mu.Lock()
	before, _ := r.devices.Set(string(rec.Key), state)
	r.newest.note(rec.Partition, before, state)
	decisions := r.decided(snapshot.GetOutcomes())
	r.mu.Unlock()
	if r.ready.Load() {
		for _, f := range r.onChange {
			f(before, state)
		}
	}
	for _, d := range decisions {
		d.tell(state)
	}
}
