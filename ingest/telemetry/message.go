// Package telemetry makes records of the `telemetry` topic out of messages that
// come one request at a time. They are the very records that ingest/mqtt makes
// of the same messages; that package has its own way because it counts
// allocations.
package telemetry

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// MaxBytes is IoT Hub's largest device-to-cloud message: its body, the values
	// of its system properties, and its application properties (FEATURES.md HUB-07).
	MaxBytes = 256 << 10
	// MaxComponentBytes bounds `$.sub`; DTDL v2 names have at most 64 characters.
	MaxComponentBytes = 64
	// maxProperties is far beyond what devices send.
	maxProperties = 256
)

// Names of the system properties in a property bag (FEATURES.md MQTT-10) that a
// record's own headers carry.
const (
	ContentType = "$.ct"
	Component   = "$.sub"
)

// Errors of Record: ErrTooLarge, and ErrProperties with the reason.
var (
	ErrTooLarge   = errors.New("a message has at most 256 KiB with its properties")
	ErrProperties = errors.New("the message's properties are not valid")
)

// Property is one entry of a message's property bag. Names that begin with `$.`
// are IoT Hub's system properties.
type Property struct{ Name, Value string }

// Message is what a device or module sends.
type Message struct {
	Tenant, Device string
	Module         string // empty: the device itself
	Payload        []byte
	Properties     []Property
	At             time.Time // event time; zero: the creation time among the properties, else Arrived
	Arrived        time.Time
}

// Record is the message as a CloudEvent for the topic of that name.
func (m Message) Record(topic string) (*kgo.Record, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	arrived := m.Arrived.Truncate(time.Millisecond)
	at, component, contentType := arrived, "", ""
	for _, p := range m.Properties {
		switch p.Name {
		case ContentType:
			contentType = p.Value
		case Component:
			component = p.Value
		case CreationTime:
			if created, ok := ParseEventTime(p.Value); ok {
				at = created
			}
		}
	}
	if !m.At.IsZero() {
		at = m.At
	}
	if contentType == BatchType {
		contentType = eventlog.ContentTypeJSON // of each event in it
	}
	return eventlog.TelemetryEvent{
		ID: eventlog.NewID(), Source: source(m.Device, m.Module), Tenant: m.Tenant, Device: m.Device,
		ContentType: contentType, Component: component, Properties: EncodeBag(m.Properties),
		At: at, Received: arrived, Payload: m.Payload,
	}.Record(topic), nil
}

// Size is what counts towards MaxBytes.
func (m Message) Size() int {
	n := len(m.Payload)
	for _, p := range m.Properties {
		n += len(p.Value)
		if !strings.HasPrefix(p.Name, "$.") {
			n += len(p.Name)
		}
	}
	return n
}

func (m Message) check() error {
	if m.Size() > MaxBytes {
		return ErrTooLarge
	}
	if len(m.Properties) > maxProperties {
		return fmt.Errorf("%w: at most %d of them", ErrProperties, maxProperties)
	}
	for _, p := range m.Properties {
		if p.Name == "" {
			return fmt.Errorf("%w: one has no name", ErrProperties)
		}
		if p.Name == Component && len(p.Value) > MaxComponentBytes {
			return fmt.Errorf("%w: a component's name has at most %d bytes", ErrProperties, MaxComponentBytes)
		}
	}
	return nil
}

func source(device, module string) string {
	if module == "" {
		return "/devices/" + device
	}
	return "/devices/" + device + "/modules/" + module
}

// EncodeBag writes a property bag as devices do in a topic: percent-encoded
// `name=value` pairs joined by `&`.
func EncodeBag(properties []Property) string {
	var b strings.Builder
	for i, p := range properties {
		if i > 0 {
			b.WriteByte('&')
		}
		name, system := strings.CutPrefix(p.Name, "$.")
		if system {
			b.WriteString("$.")
		}
		b.WriteString(escape(name))
		b.WriteByte('=')
		b.WriteString(escape(p.Value))
	}
	return b.String()
}

// escape is what encodeURIComponent does: QueryEscape, but %20 for a space.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
