package projections

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// NewDeviceVersions prepares the projection of the device-state topic into the table
// device_versions: a row for each state that comes.
//
// The topic is compacted, so what is projected later than it is compacted has fewer
// states: of each device the newest at least.
func NewDeviceVersions(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	return newProjection(&deviceVersions, log, conn, options)
}

var deviceVersions = table{
	name: "device_versions", projection: "project-device-versions", topic: eventlog.DeviceState, loggedAt: "logged_at",
	gaps: true,
	rows: func() filler {
		return &versionRows{deviceRows: newDeviceRows(), at: vector[time.Time]{name: "at", kind: "DateTime64(6, 'UTC')"}}
	},
}

type versionRows struct {
	*deviceRows

	at vector[time.Time]
}

func (v *versionRows) columns() []column { return append(v.deviceRows.columns(), &v.at) }

func (v *versionRows) fill(r *kgo.Record, m *memory) (bytes int, bad *refusal) {
	snapshot, bad := readSnapshot(r)
	if bad != nil {
		return 0, bad
	}
	if bytes, bad = v.deviceRows.take(snapshot.GetState(), r, m); bad == nil {
		at := r.Timestamp // of a snapshot that does not say
		if snapshot.GetTime() != nil {
			at = snapshot.GetTime().AsTime()
		}
		v.at.add(time.UnixMicro(min(max(at.UnixMicro(), earliest*1000), latest*1000)))
	}
	return bytes, bad
}
