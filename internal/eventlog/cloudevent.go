package eventlog

import (
	"bytes"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Header names of CloudEvents 1.0 in Kafka binary mode (CloudEvents Kafka
// Protocol Binding 1.0 §3.2), and our extension attributes.
const (
	HeaderSpecVersion = "ce_specversion"
	HeaderID          = "ce_id"
	HeaderSource      = "ce_source"
	HeaderType        = "ce_type"
	HeaderTime        = "ce_time"
	HeaderSubject     = "ce_subject"
	HeaderContentType = "content-type"
	// HeaderProperties is the device's application properties, as the
	// percent-encoded property bag it sent.
	HeaderProperties = "ce_properties"
	// HeaderGateway is the id of the gateway that published for the device.
	HeaderGateway = "ce_gateway"
)

// Content types and event types we write.
const (
	ContentTypeJSON     = "application/json"
	ContentTypeProtobuf = "application/protobuf"

	TypeTelemetry      = "fleetlog.telemetry.v1"
	TypeDeviceEvent    = "fleetlog.device.event.v1"
	TypeDeviceSnapshot = "fleetlog.device.snapshot.v1"
	TypeCatalogEvent   = "fleetlog.catalog.event.v1"
	TypeAuditEvent     = "fleetlog.audit.event.v1"
	TypeAuditLink      = "fleetlog.audit.link.v1"
	TypeAlertEvent     = "fleetlog.alert.event.v1"
	TypeJobEvent       = "fleetlog.job.event.v1"
)

// SpecVersion is the value of ce_specversion.
var SpecVersion = []byte("1.0")

// NewID makes an event id: a UUIDv7, so ids sort by time.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// CloudEvent builds a record whose headers are the event's CloudEvents
// attributes. The source is a URI-reference of what produced the event.
func CloudEvent(topic, id, source, eventType string, at time.Time, contentType string, key, value []byte) *kgo.Record {
	// The attributes share one piece of memory.
	text := make([]byte, 0, len(id)+len(source)+len(eventType)+len(contentType)+len(time.RFC3339Nano))
	attribute := func(s string) []byte {
		text = append(text, s...)
		return text[len(text)-len(s) : len(text) : len(text)]
	}
	r := &kgo.Record{
		Topic:     topic,
		Key:       key,
		Value:     value,
		Timestamp: at,
		Headers: []kgo.RecordHeader{
			{Key: HeaderSpecVersion, Value: SpecVersion},
			{Key: HeaderID, Value: attribute(id)},
			{Key: HeaderSource, Value: attribute(source)},
			{Key: HeaderType, Value: attribute(eventType)},
			{Key: HeaderTime},
			{Key: HeaderContentType, Value: attribute(contentType)},
		},
	}
	r.Headers[4].Value = at.UTC().AppendFormat(text[len(text):], time.RFC3339Nano)
	return r
}

// Header is the value of the record's first header of that name, nil when it
// has none. It aliases the record.
func Header(r *kgo.Record, name string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == name {
			return r.Headers[i].Value
		}
	}
	return nil
}

// Key joins a tenant and an id into a record key. Neither may contain a slash;
// the identity rules of both see to that.
func Key(tenant, id string) []byte {
	key := make([]byte, 0, len(tenant)+1+len(id))
	key = append(key, tenant...)
	key = append(key, '/')
	return append(key, id...)
}

// SplitKey takes a record key apart at its first slash. It aliases the key.
func SplitKey(key []byte) (tenant, id []byte, ok bool) {
	tenant, id, ok = bytes.Cut(key, []byte{'/'})
	return tenant, id, ok && len(tenant) > 0 && len(id) > 0
}
