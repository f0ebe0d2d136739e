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

// telemetryTopic is the prefix of every topic the device may publish to.
func telemetryTopic(deviceID string) string { return "devices/" + deviceID + "/messages/events/" }

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
		b.contentType = value
	case "$.sub":
		if len(value) > maxComponentBytes {
			return endBadBag
		}
		b.component = value
	case creationTime:
		at, err := time.Parse(time.RFC3339Nano, value)
		if err == nil && strings.HasSuffix(value, "Z") && at.After(earliest) && at.Before(latest) {
			b.created = at
		}
	}
	return nil
}
