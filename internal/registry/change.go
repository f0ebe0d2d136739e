package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
)

// patience bounds how long a submitted change may stay undecided.
const patience = 30 * time.Second

// ErrUndecided is returned for a change that is on the log but that nobody has
// decided in time: no node folds device events.
var ErrUndecided = errors.New("the change is on the log but not decided yet: read the device to see what became of it, and check that a node runs the device-state processor")

// submitted is a change that waits for the fold's decision.
type submitted struct {
	done func(*eventsv1.DeviceState, error)
	at   time.Time
}

type decision struct {
	done    func(*eventsv1.DeviceState, error)
	outcome *eventsv1.Outcome
}

func (d decision) tell(state *eventsv1.DeviceState) {
	if rej := d.outcome.GetRejection(); rej != nil {
		d.done(nil, &RejectedError{Reason: rej.GetReason(), Message: rej.GetMessage()})
		return
	}
	d.done(state, nil)
}

// Submit appends an intent and calls done once, with the device's state after
// the fold's decision, a [*RejectedError], or what kept the intent from being
// decided. It may be called before Submit returns, and must not block. Intents
// about one device are decided in the order of their Submit calls.
func (r *Registry) Submit(ctx context.Context, ev *eventsv1.DeviceEvent, done func(*eventsv1.DeviceState, error)) {
	record, err := r.record(ev)
	if err != nil {
		done(nil, err)
		return
	}
	id := ev.GetId()
	r.mu.Lock()
	r.waiting[id] = submitted{done: done, at: time.Now()}
	r.mu.Unlock()
	r.log.Append(ctx, record, func(_ *kgo.Record, err error) {
		if err == nil {
			return
		}
		if s, ok := r.forget(id); ok {
			s.done(nil, fmt.Errorf("append change of device %s: %w", ev.GetDevice(), err))
		}
	})
}

// Change appends an intent, waits for the fold's decision and returns the
// device's state after it. A refusal is a [*RejectedError]. When ctx ends first
// the change may still happen: the error says so.
func (r *Registry) Change(ctx context.Context, ev *eventsv1.DeviceEvent) (*eventsv1.DeviceState, error) {
	type answer struct {
		state *eventsv1.DeviceState
		err   error
	}
	answers := make(chan answer, 1)
	r.Submit(ctx, ev, func(state *eventsv1.DeviceState, err error) { answers <- answer{state, err} })
	select {
	case a := <-answers:
		return a.state, a.err
	case <-ctx.Done():
		r.forget(ev.GetId())
		return nil, fmt.Errorf("change of device %s is on the log but not decided yet, read the device to see what became of it: %w", ev.GetDevice(), context.Cause(ctx))
	}
}

func (r *Registry) record(ev *eventsv1.DeviceEvent) (*kgo.Record, error) {
	if err := r.Ready(); err != nil {
		return nil, err
	}
	if err := device.Validate(ev); err != nil {
		return nil, &RejectedError{Reason: eventsv1.RejectionReason_REJECTION_REASON_INVALID, Message: err.Error()}
	}
	value, err := proto.Marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("encode device event: %w", err)
	}
	return eventlog.CloudEvent(r.log.Name(eventlog.Devices), ev.GetId(), "/tenants/"+ev.GetTenant(), eventlog.TypeDeviceEvent,
		ev.GetTime().AsTime(), eventlog.ContentTypeProtobuf, eventlog.Key(ev.GetTenant(), ev.GetDevice()), value), nil
}

func (r *Registry) forget(eventID string) (submitted, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.waiting[eventID]
	delete(r.waiting, eventID)
	return s, ok
}

// decided takes those who wait for the outcomes.
func (r *Registry) decided(outcomes []*eventsv1.Outcome) []decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	var decisions []decision
	for _, outcome := range outcomes {
		if s, ok := r.waiting[outcome.GetEventId()]; ok {
			delete(r.waiting, outcome.GetEventId())
			decisions = append(decisions, decision{s.done, outcome})
		}
		for _, result := range outcome.GetResults() {
			if ch, ok := r.commands[result.GetCommand()]; ok {
				delete(r.commands, result.GetCommand())
				ch <- result
			}
		}
	}
	return decisions
}

// sweep gives up on changes that nobody decides.
func (r *Registry) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-tick.C:
			for _, s := range r.overdue(at) {
				s.done(nil, ErrUndecided)
			}
		}
	}
}

func (r *Registry) overdue(at time.Time) []submitted {
	r.mu.Lock()
	defer r.mu.Unlock()
	var over []submitted
	for id, s := range r.waiting {
		if at.Sub(s.at) > patience {
			delete(r.waiting, id)
			over = append(over, s)
		}
	}
	return over
}
