package device

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	// MaxMessageBytes bounds a cloud-to-device message with its properties
	// (FEATURES.md HUB-07).
	MaxMessageBytes = 64 << 10
	// MaxMessageLife is how long one may wait at most (FEATURES.md HUB-05).
	MaxMessageLife = 48 * time.Hour
	// DefaultMessageLife is how long one waits when nobody says.
	DefaultMessageLife = time.Hour
	// maxDeliveries is how often one is tried before it counts as poison.
	maxDeliveries = 10
	maxProperties = 100
	maxLockToken  = 64
)

func validateMessage(m *eventsv1.MessageEnqueued) error {
	if n := messageBytes(m); n > MaxMessageBytes {
		return fmt.Errorf("message has %d bytes with its properties: send at most %d", n, MaxMessageBytes)
	}
	if len(m.GetProperties()) > maxProperties {
		return fmt.Errorf("message has %d properties: send at most %d", len(m.GetProperties()), maxProperties)
	}
	for _, p := range m.GetProperties() {
		if p.GetKey() == "" || !utf8.ValidString(p.GetKey()) || !utf8.ValidString(p.GetValue()) {
			return fmt.Errorf("message property %q is not valid: use a name, and UTF-8", clip(p.GetKey()))
		}
	}
	if m.GetExpires() == nil {
		return fmt.Errorf("message has no expiry")
	}
	switch m.GetAck() {
	case "", "none", "positive", "negative", "full":
		return nil
	}
	return fmt.Errorf("ack %q is not one of none, positive, negative, full", clip(m.GetAck()))
}

func messageBytes(m *eventsv1.MessageEnqueued) int {
	n := len(m.GetBody()) + len(m.GetMessageId()) + len(m.GetCorrelationId()) + len(m.GetContentType()) + len(m.GetContentEncoding()) + len(m.GetUserId())
	for _, p := range m.GetProperties() {
		n += len(p.GetKey()) + len(p.GetValue())
	}
	return n
}

func validateLock(l *eventsv1.MessageLocked) error {
	if l.GetToken() == "" || len(l.GetToken()) > maxLockToken || l.GetUntil() == nil {
		return fmt.Errorf("lock has no token of 1 to %d bytes, or no end", maxLockToken)
	}
	return nil
}

func enqueue(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, m *eventsv1.MessageEnqueued) *eventsv1.Rejection {
	if len(i.GetMessages()) >= maxPending || pendingBytes(i)+messageBytes(m) > maxPendingBytes {
		return full(ev.GetDevice(), "messages")
	}
	i.MessagesQueued++
	i.Messages = append(slices.Clone(i.GetMessages()), &eventsv1.CloudMessage{
		Id: ev.GetId(), Message: m, EnqueuedAt: ev.GetTime(), Sequence: i.GetMessagesQueued(),
	})
	return nil
}

func lock(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, l *eventsv1.MessageLocked) *eventsv1.Rejection {
	n := findMessage(i, l.GetMessage())
	if n < 0 || MessageLockedAt(i.GetMessages()[n], ev.GetTime().AsTime()) {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_STALE, "the message is not in the queue of %q, or another reader has it", ev.GetDevice())
	}
	m := i.GetMessages()[n]
	deliveries := m.GetDeliveryCount()
	if m.GetLock() != "" { // the lock before this one ran out
		deliveries++
	}
	if deliveries >= maxDeliveries {
		i.Messages = slices.Delete(slices.Clone(i.GetMessages()), n, n+1)
		return nil
	}
	replaceMessage(i, n, &eventsv1.CloudMessage{
		Id: m.GetId(), Message: m.GetMessage(), EnqueuedAt: m.GetEnqueuedAt(), Sequence: m.GetSequence(),
		DeliveryCount: deliveries, Lock: l.GetToken(), LockedUntil: l.GetUntil(),
	})
	return nil
}

func settle(i *eventsv1.Identity, s *eventsv1.MessageSettled) *eventsv1.Rejection {
	n := findMessage(i, s.GetMessage())
	if n < 0 || i.GetMessages()[n].GetLock() != s.GetToken() {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_STALE, "the message is not in the queue any more, or its lock is over")
	}
	m := i.GetMessages()[n]
	if s.GetSettlement() == eventsv1.Settlement_SETTLEMENT_ABANDONED && m.GetDeliveryCount()+1 < maxDeliveries {
		replaceMessage(i, n, &eventsv1.CloudMessage{
			Id: m.GetId(), Message: m.GetMessage(), EnqueuedAt: m.GetEnqueuedAt(), Sequence: m.GetSequence(), DeliveryCount: m.GetDeliveryCount() + 1,
		})
		return nil
	}
	i.Messages = slices.Delete(slices.Clone(i.GetMessages()), n, n+1)
	return nil
}

func replaceMessage(i *eventsv1.Identity, n int, m *eventsv1.CloudMessage) {
	i.Messages = slices.Clone(i.GetMessages())
	i.Messages[n] = m
}

func findMessage(i *eventsv1.Identity, id string) int {
	return slices.IndexFunc(i.GetMessages(), func(m *eventsv1.CloudMessage) bool { return m.GetId() == id })
}

// MessageOver reports whether a message has waited too long.
func MessageOver(m *eventsv1.CloudMessage, at time.Time) bool {
	return at.After(m.GetMessage().GetExpires().AsTime())
}

// MessageLockedAt reports whether a device that polls has the message.
func MessageLockedAt(m *eventsv1.CloudMessage, at time.Time) bool {
	return m.GetLock() != "" && at.Before(m.GetLockedUntil().AsTime())
}
