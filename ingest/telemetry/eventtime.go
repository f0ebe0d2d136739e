package telemetry

import (
	"strings"
	"time"
)

// CreationTime is the application property that gives a message its event time
// (FEATURES.md HUB-09): UTC with `Z`, no offset.
const CreationTime = "iothub-creation-time-utc"

// Earliest and Latest event times the analytics store can hold; a time must lie
// between them.
var (
	Earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	Latest   = time.Date(2299, 12, 31, 0, 0, 0, 0, time.UTC)
)

// ParseEventTime reads the time a device gives an event.
func ParseEventTime(value string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, value)
	return at, err == nil && strings.HasSuffix(value, "Z") && at.After(Earliest) && at.Before(Latest)
}
