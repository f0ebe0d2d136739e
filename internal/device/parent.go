package device

import (
	"cmp"
	"fmt"
	"regexp"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// relationshipPattern is IoT Central's (FEATURES.md §18).
var relationshipPattern = regexp.MustCompile(`^[a-zA-Z0-9\-._:]{0,255}$`)

func validateParent(child string, p *eventsv1.ParentAssigned) error {
	parent := p.GetParent()
	if !relationshipPattern.MatchString(p.GetRelationship()) {
		return fmt.Errorf("relationship id %q is not valid: use up to 255 letters, digits, '-', '.', '_' or ':'", clip(p.GetRelationship()))
	}
	if parent == "" {
		return nil
	}
	if parent == child {
		return fmt.Errorf("device %q cannot be its own gateway", clip(child))
	}
	return ValidateID(parent)
}

func assignParent(next *eventsv1.DeviceState, p *eventsv1.ParentAssigned) {
	next.Parent, next.Relationship = p.GetParent(), ""
	if p.GetParent() != "" {
		next.Relationship = cmp.Or(p.GetRelationship(), p.GetParent())
	}
}

// IsChildOf reports whether the gateway may publish for the device.
func IsChildOf(s *eventsv1.DeviceState, gateway string) bool {
	return Exists(s) && s.GetEnabled() && gateway != "" && s.GetParent() == gateway
}
