package projections

import (
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// NewDeviceStateHistory prepares the projection of the device-state topic into the
// table device_state_history: now and then a state, so that any other one is few
// events away.
func NewDeviceStateHistory(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&deviceStateHistory, log, conn, options)
}

var deviceStateHistory = table{
	name: "device_state_history", projection: "project-device-state-history", topic: eventlog.DeviceState, loggedAt: "logged_at",
	gaps: true,
	rows: func() filler { return newCheckpointRows() },
}

type checkpointRows struct {
	tenant        vector[string]
	device, state vector[[]byte]
	revision      vector[uint64]
	eventOffset   vector[int64]
}

func newCheckpointRows() *checkpointRows {
	return &checkpointRows{
		tenant:      vector[string]{name: "tenant", kind: "LowCardinality(String)"},
		device:      vector[[]byte]{name: "device", kind: "String"},
		revision:    vector[uint64]{name: "revision", kind: "UInt64"},
		eventOffset: vector[int64]{name: "event_offset", kind: "Int64"},
		state:       vector[[]byte]{name: "state", kind: "String"},
	}
}

func (c *checkpointRows) columns() []column {
	return []column{&c.tenant, &c.device, &c.revision, &c.eventOffset, &c.state}
}

func (c *checkpointRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	snapshot, bad := readSnapshot(r)
	if bad != nil {
		return 0, bad
	}
	if !isCheckpoint(snapshot) {
		return 0, unwanted
	}
	s := snapshot.GetState()
	state, err := proto.Marshal(s)
	if err != nil {
		return 0, &refusal{badBody, "state cannot be encoded: " + err.Error()}
	}
	c.tenant.add(s.GetTenant())
	c.device.add(m.arena.keep([]byte(s.GetDevice())))
	c.revision.add(s.GetRevision())
	c.eventOffset.add(snapshot.GetOffset())
	c.state.add(state)
	return len(r.Key) + len(state), nil
}

// checkpointEvery is how many accepted events are between two checkpoints, about.
// A checkpoint costs as much room as the device's state, an event that is folded
// again some microseconds.
const checkpointEvery = 16

// isCheckpoint tells the snapshots that are kept: a device's first, and each in
// which its revision passes a multiple of checkpointEvery. It looks at nothing but
// the snapshot, whose outcomes tell how far it came since the one before, so that
// every node and every rebuild keep the same ones (of those that the compaction of
// the topic has left; the others only save time).
func isCheckpoint(s *eventsv1.DeviceSnapshot) bool {
	after := s.GetState().GetRevision()
	before := after - min(after, accepted(s.GetOutcomes()))
	return after > before && (before == 0 || after/checkpointEvery > before/checkpointEvery)
}

func accepted(outcomes []*eventsv1.Outcome) (n uint64) {
	for _, o := range outcomes {
		if o.GetRejection() == nil {
			n++
		}
	}
	return n
}
