package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ErrNoAnswer is returned for a command that the device did not answer in time.
var ErrNoAnswer = errors.New("the device did not answer in time: it is not connected, or does not know the command, or needs longer")

// Command asks a device to do something and waits for its answer, until the
// request's deadline at most. The event carries a CommandRequested. It returns a
// [*RejectedError] when the fold refuses the request and [ErrNoAnswer] when the
// deadline has passed.
func (r *Registry) Command(ctx context.Context, ev *eventsv1.DeviceEvent) (*eventsv1.CommandAnswered, error) {
	result := make(chan *eventsv1.CommandResult, 1)
	r.mu.Lock()
	r.commands[ev.GetId()] = result
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.commands, ev.GetId())
	}()
	if _, err := r.Change(ctx, ev); err != nil {
		return nil, err
	}
	deadline := time.NewTimer(time.Until(ev.GetCommandRequested().GetDeadline().AsTime()))
	defer deadline.Stop()
	select {
	case end := <-result:
		if end.GetAnswer() == nil {
			return nil, ErrNoAnswer
		}
		return end.GetAnswer(), nil
	case <-deadline.C:
		return nil, r.giveUp(ctx, ev)
	case <-ctx.Done():
		return nil, fmt.Errorf("command %s of device %s may still be carried out: %w", ev.GetCommandRequested().GetMethod(), ev.GetDevice(), context.Cause(ctx))
	}
}

// giveUp notes on the log that nobody waits any more. That the device answered
// in the same moment changes nothing for this caller.
func (r *Registry) giveUp(ctx context.Context, asked *eventsv1.DeviceEvent) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := r.Change(ctx, &eventsv1.DeviceEvent{
		Id: eventlog.NewID(), Tenant: asked.GetTenant(), Device: asked.GetDevice(), Module: asked.GetModule(),
		Time: timestamppb.Now(), Actor: asked.GetActor(),
		Change: &eventsv1.DeviceEvent_CommandExpired{CommandExpired: &eventsv1.CommandExpired{Command: asked.GetId()}},
	})
	var rejected *RejectedError
	if err != nil && !errors.As(err, &rejected) {
		return errors.Join(ErrNoAnswer, err)
	}
	return ErrNoAnswer
}
