package projections

import (
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// NewDevices prepares the projection of the device-state topic into the table
// devices: one row a device, its newest state.
func NewDevices(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&devices, log, conn, options)
}

var devices = table{
	name: "devices", projection: "project-devices", topic: eventlog.DeviceState, loggedAt: "logged_at",
	gaps: true, replaces: true,
	rows: func() filler { return newDeviceRows() },
}

type deviceRows struct {
	tenant, displayName, template, organization, enrollmentGroup, modelID, parent vector[string]
	device, tags, properties                                                      vector[[]byte]
	enabled, provisioned, simulated, edge, waiting, connected                     vector[bool]
	registeredAt, updatedAt, connectionSince                                      vector[int64]
	version, revision                                                             vector[uint64]
	deleted                                                                       vector[uint8]
}

func newDeviceRows() *deviceRows {
	const word, date, yes = "LowCardinality(String)", "DateTime64(3, 'UTC')", "Bool"
	return &deviceRows{
		tenant:          vector[string]{name: "tenant", kind: word},
		device:          vector[[]byte]{name: "device", kind: "String"},
		displayName:     vector[string]{name: "display_name", kind: "String"},
		template:        vector[string]{name: "template", kind: word},
		enabled:         vector[bool]{name: "enabled", kind: yes},
		provisioned:     vector[bool]{name: "provisioned", kind: yes},
		simulated:       vector[bool]{name: "simulated", kind: yes},
		edge:            vector[bool]{name: "edge", kind: yes},
		waiting:         vector[bool]{name: "waiting", kind: yes},
		connected:       vector[bool]{name: "connected", kind: yes},
		organization:    vector[string]{name: "organization", kind: word},
		enrollmentGroup: vector[string]{name: "enrollment_group", kind: word},
		modelID:         vector[string]{name: "model_id", kind: word},
		parent:          vector[string]{name: "parent", kind: "String"},
		tags:            vector[[]byte]{name: "tags", kind: "JSON(max_dynamic_paths=64)"},
		properties:      vector[[]byte]{name: "properties", kind: "JSON(max_dynamic_paths=256)"},
		registeredAt:    vector[int64]{name: "registered_at", kind: date},
		updatedAt:       vector[int64]{name: "updated_at", kind: date},
		connectionSince: vector[int64]{name: "connection_since", kind: date},
		version:         vector[uint64]{name: "version", kind: "UInt64"},
		revision:        vector[uint64]{name: "revision", kind: "UInt64"},
		deleted:         vector[uint8]{name: "deleted", kind: "UInt8"},
	}
}

func (d *deviceRows) columns() []column {
	return []column{
		&d.tenant, &d.device, &d.displayName, &d.template, &d.enabled, &d.provisioned, &d.simulated, &d.edge, &d.waiting, &d.connected,
		&d.organization, &d.enrollmentGroup, &d.modelID, &d.parent, &d.tags, &d.properties,
		&d.registeredAt, &d.updatedAt, &d.connectionSince, &d.version, &d.revision, &d.deleted,
	}
}

func (d *deviceRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	snapshot, bad := readSnapshot(r)
	if bad != nil {
		return 0, bad
	}
	return d.take(snapshot.GetState(), r, m)
}

// take adds a row of the state that the record has.
func (d *deviceRows) take(s *eventsv1.DeviceState, r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	tags, bad := jsonColumn("tags", func() (any, error) { return decodeTags(s.GetTags()) })
	if bad != nil {
		return 0, bad
	}
	properties, bad := jsonColumn("properties", func() (any, error) {
		p, err := device.PropertiesOf(s, "")
		return p.Values(), err
	})
	if bad != nil {
		return 0, bad
	}
	d.add(s, m)
	d.tags.add(tags)
	d.properties.add(properties)
	return len(r.Key) + len(s.GetDisplayName()) + len(tags) + len(properties), nil
}

func (d *deviceRows) add(s *eventsv1.DeviceState, m *memory) {
	connection := s.GetSelf().GetConnection()
	d.tenant.add(s.GetTenant())
	d.device.add(m.arena.keep([]byte(s.GetDevice())))
	d.displayName.add(s.GetDisplayName())
	d.template.add(s.GetTemplate())
	d.enabled.add(s.GetEnabled())
	d.provisioned.add(s.GetProvisioned())
	d.simulated.add(s.GetSimulated())
	d.edge.add(s.GetEdge())
	d.waiting.add(s.GetWaiting())
	d.connected.add(connection.GetConnected())
	d.organization.add(first(s.GetOrganizations()))
	d.enrollmentGroup.add(s.GetEnrollmentGroup())
	d.modelID.add(modelOf(s))
	d.parent.add(s.GetParent())
	d.registeredAt.add(milliseconds(s.GetRegisteredAt()))
	d.updatedAt.add(milliseconds(s.GetUpdatedAt()))
	d.connectionSince.add(milliseconds(connection.GetSince()))
	d.version.add(s.GetVersion())
	d.revision.add(s.GetRevision())
	deleted := uint8(0)
	if s.GetDeleted() {
		deleted = 1
	}
	d.deleted.add(deleted)
}

// readSnapshot reads a record of the device-state topic. A device that never
// existed has a state too, to carry what became of the changes to it.
func readSnapshot(r *kgo.Record) (*eventsv1.DeviceSnapshot, *refusal) {
	snapshot := new(eventsv1.DeviceSnapshot)
	if bad := readValue(r, snapshot); bad != nil {
		return nil, bad
	}
	s := snapshot.GetState()
	if bad := checkKey(r, s.GetTenant(), s.GetDevice()); bad != nil {
		return nil, bad
	}
	if s.GetVersion() == 0 {
		return nil, unwanted
	}
	return snapshot, nil
}

// jsonColumn is a value as ClickHouse's JSON type takes it.
func jsonColumn(name string, value func() (any, error)) ([]byte, *refusal) {
	v, err := value()
	var text []byte
	if err == nil {
		text, err = json.Marshal(v)
	}
	if err == nil {
		err = checkBody(text)
	}
	if err != nil {
		return nil, &refusal{badBody, fmt.Sprintf("%s of the state: %s", name, err)}
	}
	return text, nil
}

// decodeTags reads tags as numbers of 64 bits: the state holds any that JSON
// knows, and ClickHouse would refuse the row of the device.
func decodeTags(raw []byte) (any, error) {
	tags := map[string]any{}
	if len(raw) == 0 {
		return tags, nil
	}
	err := json.Unmarshal(raw, &tags)
	return tags, err
}

func first(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// modelOf is the model the device announced last: when it connected, else when it
// registered.
func modelOf(s *eventsv1.DeviceState) string {
	if connected := s.GetSelf().GetTwin().GetModelId(); connected != "" {
		return connected
	}
	return s.GetModelId()
}

// milliseconds is a time as a DateTime64(3) holds it; one that is not there is
// 1970.
func milliseconds(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return min(max(t.AsTime().UnixMilli(), earliest), latest)
}
