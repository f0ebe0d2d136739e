package eventlog

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TimeFormat is how telemetry's ce_time is written: RFC 3339 to the
// millisecond, in UTC.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// TelemetryEvent is one message of a device on its way to the log.
type TelemetryEvent struct {
	ID, Source     string
	Tenant, Device string
	// ContentType, Component and Properties are left out when empty. Properties
	// is a percent-encoded property bag.
	ContentType, Component, Properties string
	At                                 time.Time // event time
	Received                           time.Time // the record's timestamp
	Payload                            []byte    // untouched; the record aliases it
}

// Record is the event as a record of the topic of that name, the same to its
// readers as one of the MQTT gateway, which builds its own without allocations.
func (e TelemetryEvent) Record(topic string) *kgo.Record {
	headers := append(make([]kgo.RecordHeader, 0, 8),
		kgo.RecordHeader{Key: HeaderSpecVersion, Value: SpecVersion},
		kgo.RecordHeader{Key: HeaderID, Value: []byte(e.ID)},
		kgo.RecordHeader{Key: HeaderSource, Value: []byte(e.Source)},
		kgo.RecordHeader{Key: HeaderType, Value: []byte(TypeTelemetry)},
		kgo.RecordHeader{Key: HeaderTime, Value: e.At.UTC().AppendFormat(nil, TimeFormat)},
	)
	for _, optional := range [...]struct{ key, value string }{
		{HeaderContentType, e.ContentType}, {HeaderSubject, e.Component}, {HeaderProperties, e.Properties},
	} {
		if optional.value != "" {
			headers = append(headers, kgo.RecordHeader{Key: optional.key, Value: []byte(optional.value)})
		}
	}
	return &kgo.Record{
		Topic: topic, Key: Key(e.Tenant, e.Device), Value: e.Payload, Headers: headers, Timestamp: e.Received,
	}
}
