package device

import (
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

func validateParent(child, parent string) error {
	if parent == "" {
		return nil
	}
	if parent == child {
		return fmt.Errorf("device %q cannot be its own gateway", clip(child))
	}
	return ValidateID(parent)
}

// IsChildOf reports whether the gateway may publish for the device.
func IsChildOf(s *eventsv1.DeviceState, gateway string) bool {
	return Exists(s) && s.GetEnabled() && gateway != "" && s.GetParent() == gateway
}
