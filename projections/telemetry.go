package projections

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// NewTelemetry prepares the projection of the telemetry topic into the table
// telemetry: one row a message.
func NewTelemetry(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&telemetry, log, conn, options)
}

var telemetry = table{
	name: "telemetry", projection: "project-telemetry", topic: eventlog.Telemetry, loggedAt: "enqueued_at",
	rows: func() filler { return newTelemetryRows() },
}

// bodyType is the body's type exactly as the table has it. From any other type,
// also from String, ClickHouse would convert the values without regard to the
// settings of the insert. It goes as text, for ClickHouse to parse.
const bodyType = "JSON(max_dynamic_paths=256)"

type telemetryRows struct {
	tenant, component, module vector[string]
	device, body, id          vector[[]byte]
	timestamp                 vector[int64]
	properties                vector[map[string]string]
}

func newTelemetryRows() *telemetryRows {
	return &telemetryRows{
		tenant:     vector[string]{name: "tenant", kind: "LowCardinality(String)"},
		device:     vector[[]byte]{name: "device", kind: "String"},
		timestamp:  vector[int64]{name: "ts", kind: "DateTime64(3, 'UTC')"},
		body:       vector[[]byte]{name: "body", kind: bodyType},
		id:         vector[[]byte]{name: "id", kind: "String"},
		component:  vector[string]{name: "component", kind: "LowCardinality(String)", optional: true},
		module:     vector[string]{name: "module", kind: "LowCardinality(String)", optional: true},
		properties: vector[map[string]string]{name: "properties", kind: "Map(LowCardinality(String), String)", optional: true},
	}
}

func (t *telemetryRows) columns() []column {
	return []column{&t.tenant, &t.device, &t.timestamp, &t.body, &t.id, &t.component, &t.module, &t.properties}
}

func (t *telemetryRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	row, bad := toRow(r)
	if bad != nil {
		return 0, bad
	}
	t.tenant.add(m.text(row.tenant))
	t.device.add(m.arena.keep(row.device))
	t.timestamp.add(row.timestamp)
	t.body.add(m.arena.keep(row.body))
	t.id.add(m.arena.keep(row.id))
	t.component.add(m.text(row.component))
	t.component.used = t.component.used || len(row.component) > 0
	t.module.add(m.text(row.module))
	t.module.used = t.module.used || len(row.module) > 0
	t.properties.add(m.bag(row.properties))
	t.properties.used = t.properties.used || len(row.properties) > 0
	return len(row.device) + len(row.body) + len(row.properties) + len(row.id), nil
}
