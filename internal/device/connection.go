package device

import (
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	maxConnectionID = 64
	maxNodeID       = 128
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
	if err := ValidateModelID(c.GetModelId()); err != nil {
		return err
	}
	return validateConnectionID(c.GetConnection())
}

// connect makes this the identity's connection; what it is known to have been
// given stays known.
func connect(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.DeviceConnected) {
	until := i.GetConnection().GetDeviceboundUntil()
	i.Connection = &eventsv1.Connection{
		Connected: true, Id: c.GetConnection(), Node: c.GetNode(), Protocol: c.GetProtocol(),
		Since: ev.GetTime(), DesiredDelivered: i.GetConnection().GetDesiredDelivered(),
	}
	if !c.GetCleanSession() {
		i.Connection.DeviceboundUntil = until
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
		DeviceboundUntil: c.GetDeviceboundUntil(),
	}
	return nil
}
