// Package registry is a node's view of the devices: it follows the
// `device-state` topic into memory and lets a caller append an intent and wait
// for what became of it.
//
// Reads cost a look-up and the decoding of one state, and never leave the node. A change that returned is
// visible to reads on the same node. The view is a cache: it is rebuilt from the
// compacted topic at every start, and the package never decides whether a change
// is accepted; the fold does.
package registry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
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

	devices view

	mu       sync.Mutex
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
		r.logger.Info("device registry has caught up", "devices", r.devices.len())
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

// Get is the device's state, decoded for the caller; nil when there is no such
// device.
func (r *Registry) Get(tenant, id string) *eventsv1.DeviceState {
	return r.decode(r.devices.get(string(eventlog.Key(tenant, id))))
}

// List is up to limit devices of the tenant whose ids sort after the given one
// ("" starts at the first).
func (r *Registry) List(tenant, after string, limit int) []*eventsv1.DeviceState {
	return r.decodeAll(r.devices.list(tenant, after, limit))
}

// Children is up to limit devices of the tenant whose parent is the given device
// and whose ids sort after the given one ("" starts at the first).
func (r *Registry) Children(tenant, parent, after string, limit int) []*eventsv1.DeviceState {
	return r.decodeAll(r.devices.childrenOf(tenant, parent, after, limit))
}

// apply takes in one snapshot. Nobody waits for one before the view has caught up,
// so it is decoded only then.
func (r *Registry) apply(rec *kgo.Record) {
	encoded, err := device.EncodedState(rec.Value)
	var before []byte
	changed := false
	if err == nil {
		encoded = bytes.Clone(encoded) // the record's memory holds many
		before, changed, err = r.devices.set(string(rec.Key), encoded)
	}
	if changed {
		r.mu.Lock()
		r.newest.note(rec.Partition, rec.Key, encoded)
		r.mu.Unlock()
	}
	var snapshot eventsv1.DeviceSnapshot
	if err == nil && r.ready.Load() {
		err = proto.Unmarshal(rec.Value, &snapshot)
	}
	if err != nil {
		r.logger.Error("device snapshot cannot be read and is left out", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "error", err)
		return
	}
	if state := snapshot.GetState(); state != nil {
		r.tell(before, state, snapshot.GetOutcomes())
	}
}

// tell lets those know of a change whom it concerns.
func (r *Registry) tell(encodedBefore []byte, state *eventsv1.DeviceState, outcomes []*eventsv1.Outcome) {
	if len(r.onChange) > 0 {
		before := r.decode(encodedBefore)
		for _, f := range r.onChange {
			f(before, state)
		}
	}
	for _, d := range r.decided(outcomes) {
		d.tell(state)
	}
}

// decode is nil for nil. A state that cannot be read is as good as none: the fold
// wrote it, so what is wrong is the disk.
func (r *Registry) decode(encoded []byte) *eventsv1.DeviceState {
	if encoded == nil {
		return nil
	}
	state, err := device.DecodeState(encoded)
	if err != nil {
		r.logger.Error("the state of a device cannot be read: restore the log from its backup", "error", err)
		return nil
	}
	return state
}

func (r *Registry) decodeAll(encoded [][]byte) []*eventsv1.DeviceState {
	var states []*eventsv1.DeviceState
	for _, e := range encoded {
		if state := r.decode(e); state != nil {
			states = append(states, state)
		}
	}
	return states
}
