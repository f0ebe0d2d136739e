package device

import (
	"fmt"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	maxConnectionID = 64
	maxNodeID       = 128
	// maxSubscriptions of a session (FEATURES.md MQTT-05), and how long a filter is:
	// it may name a device and a module.
	maxSubscriptions = 5
	maxFilterBytes   = 512
)

func validateConnectionID(id string) error {
	if id == "" || len(id) > maxConnectionID {
		return fmt.Errorf("connection id has %d bytes: use 1 to %d", len(id), maxConnectionID)
	}
	return nil
}

func validateConnected(c *eventsv1.DeviceConnected) error {
	if len(c.GetNode()) > maxNodeID || len(c.GetProtocol()) > maxNodeID {
		return fmt.Errorf("node or protocol of the connection is longer than %d bytes", maxNodeID)
	}
	for _, err := range []error{ValidateModelID(c.GetModelId()), validateTemplate(c.GetTemplate()), validateInitial(c.GetInitial())} {
		if err != nil {
			return err
		}
	}
	return validateConnectionID(c.GetConnection())
}

// connectDevice connects an identity of the device, which gets the template of its
// model when it has none (FEATURES.md DEV-51).
func connectDevice(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, c *eventsv1.DeviceConnected) *eventsv1.Rejection {
	identity := own(next, ev.GetModule())
	if identity == nil {
		return noModule(ev.GetDevice(), ev.GetModule())
	}
	connect(identity, ev, c)
	if ev.GetModule() != "" || next.GetTemplate() != "" || c.GetTemplate() == "" {
		return nil
	}
	next.Template, next.Version, next.UpdatedAt = c.GetTemplate(), next.GetVersion()+1, ev.GetTime()
	offer(next, c.GetInitial(), ev.GetTime())
	return nil
}

// connect makes this the identity's connection; what it is known to have been
// given stays known.
func connect(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.DeviceConnected) {
	kept := KeptSubscriptions(i.GetConnection(), ev.GetTime().AsTime())
	i.Connection = &eventsv1.Connection{
		Connected: true, Id: c.GetConnection(), Node: c.GetNode(), Protocol: c.GetProtocol(),
		Since: ev.GetTime(), DesiredDelivered: i.GetConnection().GetDesiredDelivered(),
		SessionSeconds: c.GetSessionSeconds(),
	}
	if !c.GetCleanSession() {
		i.Connection.Subscriptions = kept
	}
	if c.GetModelId() != "" && c.GetModelId() != i.GetTwin().GetModelId() {
		i.Twin = copyTwin(i.GetTwin())
		i.Twin.ModelId = c.GetModelId()
	}
}

func disconnect(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.DeviceDisconnected) *eventsv1.Rejection {
	now := i.GetConnection()
	if !now.GetConnected() || now.GetId() != c.GetConnection() {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_STALE, "another connection of %q has taken this one's place", ev.GetDevice())
	}
	i.Connection = &eventsv1.Connection{
		Id: now.GetId(), Node: now.GetNode(), Protocol: now.GetProtocol(), Since: ev.GetTime(),
		DesiredDelivered: max(now.GetDesiredDelivered(), c.GetDesiredDelivered()),
		Subscriptions:    now.GetSubscriptions(), SessionSeconds: now.GetSessionSeconds(),
	}
	if c.SessionSeconds != nil {
		i.Connection.SessionSeconds = c.GetSessionSeconds()
	}
	if i.GetConnection().GetSessionSeconds() == 0 {
		i.Connection.Subscriptions = nil
	}
	return nil
}

func validateSubscriptions(k *eventsv1.SubscriptionsKept) error {
	if len(k.GetSubscriptions()) > maxSubscriptions {
		return fmt.Errorf("session has %d subscriptions: at most %d", len(k.GetSubscriptions()), maxSubscriptions)
	}
	for _, s := range k.GetSubscriptions() {
		if s.GetFilter() == "" || len(s.GetFilter()) > maxFilterBytes || s.GetQos() > 1 {
			return fmt.Errorf("subscription %q is not valid", clip(s.GetFilter()))
		}
	}
	return validateConnectionID(k.GetConnection())
}

func keepSubscriptions(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, k *eventsv1.SubscriptionsKept) *eventsv1.Rejection {
	now := i.GetConnection()
	if !now.GetConnected() || now.GetId() != k.GetConnection() {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_STALE, "another connection of %q has taken this one's place", ev.GetDevice())
	}
	i.Connection = &eventsv1.Connection{
		Connected: true, Id: now.GetId(), Node: now.GetNode(), Protocol: now.GetProtocol(), Since: now.GetSince(),
		DesiredDelivered: now.GetDesiredDelivered(), Subscriptions: k.GetSubscriptions(), SessionSeconds: now.GetSessionSeconds(),
	}
	return nil
}

// KeptSubscriptions is what a session is subscribed to when its device comes back.
func KeptSubscriptions(c *eventsv1.Connection, at time.Time) []*eventsv1.Subscription {
	life := time.Duration(c.GetSessionSeconds()) * time.Second
	if life == 0 || !c.GetConnected() && !at.Before(c.GetSince().AsTime().Add(life)) {
		return nil
	}
	return c.GetSubscriptions()
}
