package mqtt

import (
	"net/url"
	"strings"
	"time"
)

// bag is what a telemetry topic says about its message: the property bag as
// sent, and the system properties the record needs (FEATURES.md MQTT-10).
type bag struct {
	raw         string // percent-encoded, as sent
	contentType string // $.ct
	component   string // $.sub
	created     time.Time
	batch       bool // the payload is many events
}

// creationTime is the application property that gives a message its event time
// (FEATURES.md HUB-09): UTC with `Z`, no offset.
const creationTime = "iothub-creation-time-utc"

// maxComponentBytes bounds `$.sub`; DTDL v2 names have at most 64 characters.
const maxComponentBytes = 64

// earliest and latest event times the analytics store can hold.
var (
	earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2299, 12, 31, 0, 0, 0, 0, time.UTC)
)

// telemetryTopic is the prefix of a device's telemetry topics. For a module the
// id is `{deviceId}/modules/{moduleId}`.
func telemetryTopic(id string) string { return "devices/" + id + "/messages/events/" }

// parseTopic reads the property bag of a telemetry topic. IoT Hub also takes the
// topic without its last slash.
func parseTopic(topic, prefix string) (bag, error) {
	raw, ok := strings.CutPrefix(topic, prefix)
	if !ok {
		if topic+"/" == prefix {
			return bag{}, nil
		}
		return bag{}, endForeignTopic
	}
	return parseBag(strings.TrimSuffix(raw, "/"))
}

func parseBag(raw string) (bag, error) {
	b := bag{raw: raw}
	raw = strings.TrimPrefix(raw, "?")
	for rest := raw; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := url.PathUnescape(rawKey)
		if err != nil {
			return bag{}, endBadBag
		}
		value, err := url.PathUnescape(rawValue)
		if err != nil {
			return bag{}, endBadBag
		}
		if err := b.take(key, value); err != nil {
			return bag{}, err
		}
	}
	return b, nil
}

// take notes a property that the record's own headers carry.
func (b *bag) take(key, value string) error {
	switch key {
	case "$.ct":
		b.contentType, b.batch = value, value == contentTypeBatch
	case "$.sub":
		if len(value) > maxComponentBytes {
			return endBadBag
		}
		b.component = value
	case creationTime:
		if at, ok := parseEventTime(value); ok {
			b.created = at
		}
	}
	return nil
}

// parseEventTime reads the time a device gives an event.
func parseEventTime(value string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, value)
	ok := err == nil && strings.HasSuffix(value, "Z") && at.After(earliest) && at.Before(latest)
	return at, ok
}
