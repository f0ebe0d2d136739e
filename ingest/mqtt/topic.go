package mqtt

import (
	"net/url"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
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
	case telemetry.ContentType:
		b.contentType, b.batch = value, value == telemetry.BatchType
	case telemetry.Component:
		if len(value) > telemetry.MaxComponentBytes {
			return endBadBag
		}
		b.component = value
	case telemetry.CreationTime:
		if at, ok := telemetry.ParseEventTime(value); ok {
			b.created = at
		}
	}
	return nil
}
