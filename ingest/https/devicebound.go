package https

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// visibilityTimeout is how long a device has a message to itself (FEATURES.md
	// HUB-05).
	visibilityTimeout = time.Minute
	// maxLockTries bounds how often a reader starts again because another one was
	// faster.
	maxLockTries = 8
	// changeTimeout bounds how long a device waits for the fold's decision.
	changeTimeout = 20 * time.Second
)

// receive gives the device the oldest message that waits for it, 204 when there
// is none. It is the device's until it settles it by its lock, the ETag, or the
// visibility timeout is over.
func (d *Door) receive(w http.ResponseWriter, r *http.Request, c caller) error {
	identity := device.IdentityOf(d.deps.Registry.Get(c.tenant, c.device), c.module)
	for range maxLockTries {
		m := nextMessage(identity, time.Now())
		if m == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		lock := eventlog.NewID()
		state, err := d.change(r.Context(), c, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageLocked{MessageLocked: &eventsv1.MessageLocked{
			Message: m.GetId(), Token: lock, Until: timestamppb.New(time.Now().Add(visibilityTimeout)),
		}}})
		switch {
		case errors.Is(err, failLock): // another reader was faster
			state = d.deps.Registry.Get(c.tenant, c.device)
		case err != nil:
			return err
		}
		identity = device.IdentityOf(state, c.module)
		if m := findLocked(identity, lock); m != nil {
			deliver(w, c, m)
			return nil
		}
	}
	return failBusy
}

// nextMessage is the oldest message that may be given out.
func nextMessage(i *eventsv1.Identity, at time.Time) *eventsv1.CloudMessage {
	for _, m := range i.GetMessages() {
		if !device.MessageOver(m, at) && !device.MessageLockedAt(m, at) {
			return m
		}
	}
	return nil
}

func findLocked(i *eventsv1.Identity, lock string) *eventsv1.CloudMessage {
	n := slices.IndexFunc(i.GetMessages(), func(m *eventsv1.CloudMessage) bool { return lock != "" && m.GetLock() == lock })
	if n < 0 {
		return nil
	}
	return i.GetMessages()[n]
}

// timeHeader is how IoT Hub writes times in headers.
const timeHeader = "1/2/2006 3:04:05 PM"

// deliver writes the message as IoT Hub's device API does.
func deliver(w http.ResponseWriter, c caller, m *eventsv1.CloudMessage) {
	h, content := w.Header(), m.GetMessage()
	for _, p := range content.GetProperties() {
		h[appPrefix+p.GetKey()] = []string{p.GetValue()} // keeps the case of the name
	}
	for name, value := range map[string]string{
		"ETag":                   `"` + m.GetLock() + `"`,
		"iothub-messageid":       content.GetMessageId(),
		"iothub-correlationid":   content.GetCorrelationId(),
		"iothub-userid":          content.GetUserId(),
		"iothub-contenttype":     content.GetContentType(),
		"iothub-contentencoding": content.GetContentEncoding(),
		"iothub-ack":             content.GetAck(),
		"iothub-to":              c.path() + "/messages/deviceBound",
		"iothub-sequencenumber":  strconv.FormatUint(m.GetSequence(), 10),
		"iothub-deliverycount":   strconv.FormatUint(uint64(m.GetDeliveryCount()), 10),
		"iothub-enqueuedtime":    m.GetEnqueuedAt().AsTime().Format(timeHeader),
		"iothub-expiry":          content.GetExpires().AsTime().Format(timeHeader),
	} {
		if value != "" {
			h[http.CanonicalHeaderKey(name)] = []string{value}
		}
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(content.GetBody()) // one that is gone gets them again
}

// settle completes the message of a lock, or rejects it with `?reject`.
func (d *Door) settle(w http.ResponseWriter, r *http.Request, c caller) error {
	if r.URL.Query().Has("reject") {
		return d.settleAs(w, r, c, eventsv1.Settlement_SETTLEMENT_REJECTED)
	}
	return d.settleAs(w, r, c, eventsv1.Settlement_SETTLEMENT_COMPLETED)
}

// abandon puts the message of a lock back into the queue.
func (d *Door) abandon(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.settleAs(w, r, c, eventsv1.Settlement_SETTLEMENT_ABANDONED)
}

func (d *Door) settleAs(w http.ResponseWriter, r *http.Request, c caller, settlement eventsv1.Settlement) error {
	lock := strings.Trim(r.PathValue("lock"), `"`)
	m := findLocked(device.IdentityOf(d.deps.Registry.Get(c.tenant, c.device), c.module), lock)
	if m == nil || !device.MessageLockedAt(m, time.Now()) {
		return failLock
	}
	_, err := d.change(r.Context(), c, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageSettled{MessageSettled: &eventsv1.MessageSettled{
		Message: m.GetId(), Token: lock, Settlement: settlement,
	}}})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// change appends an event of the caller's and waits for the fold's decision. What
// is over is failLock.
func (d *Door) change(ctx context.Context, c caller, ev *eventsv1.DeviceEvent) (*eventsv1.DeviceState, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
	defer cancel()
	principal := "device:" + c.device
	if c.module != "" {
		principal += "/" + c.module
	}
	ev.Id, ev.Tenant, ev.Device, ev.Module = eventlog.NewID(), c.tenant, c.device, c.module
	ev.Time, ev.Actor = timestamppb.Now(), &eventsv1.Actor{Principal: principal}
	state, err := d.deps.Registry.Change(ctx, ev)
	var rejected *registry.RejectedError
	switch {
	case err == nil:
		return state, nil
	case !errors.As(err, &rejected):
		return nil, within(failBusy, err)
	case rejected.Reason == eventsv1.RejectionReason_REJECTION_REASON_STALE:
		return nil, failLock
	case rejected.Reason == eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND:
		return nil, failDevice
	}
	return nil, fmt.Errorf("%w: %w", because(failArgument, rejected), rejected)
}
