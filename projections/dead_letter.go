package projections

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// NewDeadLetter prepares the projection of the dead-letter topic into the table
// dead_letter: one row a record that some stage could not handle.
func NewDeadLetter(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&deadLetter, log, conn, options)
}

var deadLetter = table{
	name: "dead_letter", projection: "project-dead-letter", topic: eventlog.DeadLetter, loggedAt: "logged_at",
	gaps: true, replaces: true,
	rows: func() filler { return newDeadLetterRows() },
}

// What a row holds at most of a dead letter, which may be anything.
const (
	maxDeadPayload = 64 << 10
	maxDeadText    = 4 << 10 // key, and each header
	maxDeadHeaders = 64
)

type deadLetterRows struct {
	tenant, stage, topic vector[string]
	key, reason, payload vector[[]byte]
	partition            vector[int32]
	offset               vector[int64]
	headers              vector[map[string]string]
	payloadBytes         vector[uint32]
}

func newDeadLetterRows() *deadLetterRows {
	const word = "LowCardinality(String)"
	return &deadLetterRows{
		tenant:       vector[string]{name: "tenant", kind: word},
		key:          vector[[]byte]{name: "key", kind: "String"},
		stage:        vector[string]{name: "stage", kind: word},
		reason:       vector[[]byte]{name: "reason", kind: "String"},
		topic:        vector[string]{name: "source_topic", kind: word},
		partition:    vector[int32]{name: "source_partition", kind: "Int32"},
		offset:       vector[int64]{name: "source_offset", kind: "Int64"},
		headers:      vector[map[string]string]{name: "headers", kind: "Map(LowCardinality(String), String)"},
		payload:      vector[[]byte]{name: "payload", kind: "String"},
		payloadBytes: vector[uint32]{name: "payload_bytes", kind: "UInt32"},
	}
}

func (d *deadLetterRows) columns() []column {
	return []column{&d.tenant, &d.key, &d.stage, &d.reason, &d.topic, &d.partition, &d.offset, &d.headers, &d.payload, &d.payloadBytes}
}

// fill refuses nothing: a refusal would be one more record on the topic it reads.
func (d *deadLetterRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	at := originOf(r)
	headers, headerBytes := headersOf(r)
	payload := r.Value[:min(len(r.Value), maxDeadPayload)]
	key := r.Key[:min(len(r.Key), maxDeadText)]
	d.tenant.add(m.text(deadTenant(r.Key)))
	d.key.add(m.arena.keep(key))
	d.stage.add(m.text(at.stage))
	d.reason.add(m.arena.keep(at.reason))
	d.topic.add(m.text(at.topic))
	d.partition.add(at.partition)
	d.offset.add(at.offset)
	d.headers.add(headers)
	d.payload.add(m.arena.keep(payload))
	d.payloadBytes.add(uint32(min(len(r.Value), eventlog.MaxRecordBytes)))
	return len(key) + len(at.reason) + len(payload) + headerBytes, nil
}

// deadTenant is the tenant that the key names, empty for none.
func deadTenant(key []byte) []byte {
	tenant, _, ok := eventlog.SplitKey(key)
	if !ok || len(tenant) > maxTenantBytes {
		return nil
	}
	return tenant
}

// deadOrigin is what a dead letter says of itself.
type deadOrigin struct {
	stage, reason, topic []byte
	partition            int32
	offset               int64
}

// originOf reads the headers that were added last: a record may have been put aside
// before. What is not there is -1.
func originOf(r *kgo.Record) deadOrigin {
	o := deadOrigin{partition: -1, offset: -1}
	for _, h := range r.Headers {
		value := h.Value[:min(len(h.Value), maxDeadText)]
		switch h.Key {
		case eventlog.HeaderDeadStage:
			o.stage = value
		case eventlog.HeaderDeadReason:
			o.reason = value
		case eventlog.HeaderDeadTopic:
			o.topic = value
		case eventlog.HeaderDeadPartition:
			if n, err := strconv.ParseInt(string(value), 10, 32); err == nil {
				o.partition = int32(n)
			}
		case eventlog.HeaderDeadOffset:
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
				o.offset = n
			}
		}
	}
	return o
}

// headersOf are the record's own headers, and how many bytes they are.
func headersOf(r *kgo.Record) (headers map[string]string, bytes int) {
	headers = map[string]string{}
	for _, h := range r.Headers {
		switch h.Key {
		case eventlog.HeaderDeadStage, eventlog.HeaderDeadReason, eventlog.HeaderDeadTopic, eventlog.HeaderDeadPartition, eventlog.HeaderDeadOffset:
			continue
		}
		if len(headers) == maxDeadHeaders {
			break
		}
		name, value := h.Key[:min(len(h.Key), maxAttributeBytes)], h.Value[:min(len(h.Value), maxDeadText)]
		headers[name] = string(value)
		bytes += len(name) + len(value)
	}
	return headers, bytes
}
