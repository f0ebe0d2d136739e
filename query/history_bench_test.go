package query

import (
	"fmt"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// BenchmarkPast asks for states and events of a device that has 100,000 events,
// with the checkpoints that it has and without any.
func BenchmarkPast(b *testing.B) {
	a := newAPI(b)
	a.projectEvents()
	const events = 100_000
	began := time.Now().Add(-30 * 24 * time.Hour)
	live(b, a, began, events)
	middle := began.Add(events / 2 * time.Second)
	past := &historyService{deviceHistory: &deviceHistory{registry: a.devices, db: a.db, patience: time.Second}}
	for _, checkpoints := range []bool{true, false} {
		if !checkpoints {
			require.NoError(b, a.db.Exec(b.Context(), "TRUNCATE TABLE device_state_history"))
		}
		b.Run(fmt.Sprintf("state/checkpoints=%v", checkpoints), func(b *testing.B) {
			for b.Loop() {
				state, err := past.at(b.Context(), "default", "d", middle)
				require.NoError(b, err)
				require.EqualValues(b, events/2+1, state.GetRevision())
			}
		})
		b.Run(fmt.Sprintf("page of 50 events/checkpoints=%v", checkpoints), func(b *testing.B) {
			wanted := make([]int64, 50)
			for i := range wanted {
				wanted[i] = int64(events - 100 + i)
			}
			for b.Loop() {
				steps, err := past.steps(b.Context(), "default", "d", wanted)
				require.NoError(b, err)
				require.Len(b, steps, 50)
			}
		})
	}
}

// live writes a device's events, a second apart, and its checkpoints, as the
// projections would.
func live(b *testing.B, a *api, began time.Time, n int) {
	b.Helper()
	rows, err := a.db.PrepareBatch(b.Context(), "INSERT INTO device_events (tenant, device, at, event, offset)")
	require.NoError(b, err)
	checkpoints, err := a.db.PrepareBatch(b.Context(), "INSERT INTO device_state_history (tenant, device, event_offset, state)")
	require.NoError(b, err)
	var state *eventsv1.DeviceState
	for i := range n {
		ev := &eventsv1.DeviceEvent{
			Id: fmt.Sprintf("01a207dd-8b95-73a8-90ba-%012d", i), Tenant: "default", Device: "d", Time: timestamppb.New(began.Add(time.Duration(i) * time.Second)),
			Change: &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: fmt.Appendf(nil, `{"p%d":%d}`, i%10, i)}},
		}
		if i == 0 {
			ev.Change = registered("d").GetChange()
		}
		encoded, err := proto.Marshal(ev)
		require.NoError(b, err)
		require.NoError(b, rows.Append("default", "d", ev.GetTime().AsTime(), string(encoded), int64(i)))
		if state, _ = device.Apply(state, ev); i%16 == 0 {
			encoded, err := proto.Marshal(state)
			require.NoError(b, err)
			require.NoError(b, checkpoints.Append("default", "d", int64(i), string(encoded)))
		}
	}
	require.NoError(b, rows.Send())
	require.NoError(b, checkpoints.Send())
}
