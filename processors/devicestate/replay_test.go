package devicestate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/device/sample"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// events are a fleet's as records, some of them late, doubled, or no events at all.
func events(t require.TestingT, fleet *sample.Fleet, n int, dice func(most int) int) []*kgo.Record {
	var out []*kgo.Record
	var held *eventsv1.DeviceEvent
	for range n {
		ev := fleet.Next()
		if held == nil && dice(20) == 0 {
			held = ev // until later: what it is about may be over then
			continue
		}
		for _, ev := range []*eventsv1.DeviceEvent{ev, held} {
			if ev == nil || ev == held && dice(5) > 0 {
				continue
			}
			if ev == held {
				held = nil
			}
			value, err := proto.Marshal(ev)
			require.NoError(t, err)
			if dice(100) == 0 {
				value = value[:len(value)-1]
			}
			r := &kgo.Record{Key: eventlog.Key(ev.GetTenant(), ev.GetDevice()), Value: value, Offset: int64(len(out))}
			if out = append(out, r); dice(50) == 0 {
				again := *r
				again.Offset = int64(len(out))
				out = append(out, &again)
			}
		}
	}
	return out
}

// straight are the states after one fold of all records from zero.
func straight(t require.TestingT, records []*kgo.Record) map[string][]byte {
	fold := NewFold()
	_, err := fold.Batch(records)
	require.NoError(t, err)
	return fold.states
}

// TestAnySplitGivesTheSameStates folds a log in batches of any size, with a crash
// after any of them: byte by byte the states are those of one straight fold.
func TestAnySplitGivesTheSameStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dice := func(most int) int { return rapid.IntRange(0, most-1).Draw(t, "dice") }
		records := events(t, sample.New(rapid.Uint64().Draw(t, "seed"), 1+dice(4)), 80, dice)
		fold, written := NewFold(), map[string]*kgo.Record{}
		for rest := records; len(rest) > 0; {
			n := 1 + dice(len(rest))
			out, err := fold.Batch(rest[:n])
			require.NoError(t, err)
			for _, s := range out.Snapshots {
				written[string(s.First.Key)] = s.Record("device-state")
			}
			if rest = rest[n:]; dice(3) == 0 {
				fold = NewFold()
				for _, r := range written {
					require.NoError(t, fold.Load(r))
				}
			}
		}
		want := straight(t, records)
		require.Equal(t, want, fold.states)
		require.Equal(t, want, straight(t, records), "the log replayed twice gives the same bytes")
		for key, r := range written {
			state, err := device.EncodedState(r.Value)
			require.NoError(t, err)
			require.Equal(t, want[key], state)
		}
	})
}

// TestSnapshotsAreThoseOfThePlainFold folds a log event by event, with the codec's
// own functions: the fold of batches gives the same snapshots, byte by byte, and
// leaves out the same records.
func TestSnapshotsAreThoseOfThePlainFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dice := func(most int) int { return rapid.IntRange(0, most-1).Draw(t, "dice") }
		records := events(t, sample.New(rapid.Uint64().Draw(t, "seed"), 1+dice(4)), 80, dice)
		var order []string
		snapshots, unreadable := map[string]*eventsv1.DeviceSnapshot{}, []*kgo.Record{}
		for _, r := range records {
			ev := new(eventsv1.DeviceEvent)
			if proto.Unmarshal(r.Value, ev) != nil {
				unreadable = append(unreadable, r)
				continue
			}
			s := snapshots[string(r.Key)]
			if s == nil {
				s = new(eventsv1.DeviceSnapshot)
				snapshots[string(r.Key)], order = s, append(order, string(r.Key))
			}
			state, outcome := device.Apply(s.GetState(), ev)
			if state == nil {
				state = &eventsv1.DeviceState{Tenant: ev.GetTenant(), Device: ev.GetDevice(), Deleted: true}
			}
			s.State, s.Offset, s.Outcomes, s.Time = state, r.Offset, append(s.GetOutcomes(), outcome), ev.GetTime()
		}
		out, err := NewFold().Batch(records)
		require.NoError(t, err)
		require.Len(t, out.Snapshots, len(order))
		for i, key := range order {
			want, err := proto.Marshal(snapshots[key])
			require.NoError(t, err)
			require.Equal(t, want, out.Snapshots[i].Value, "snapshot %d", i)
			require.Equal(t, key, string(out.Snapshots[i].First.Key))
		}
		require.Len(t, out.Unreadable, len(unreadable))
		for i, r := range unreadable {
			require.Same(t, r, out.Unreadable[i].Record)
		}
	})
}

// TestProcessorStoppedAnywhereGivesTheSameStates stops a processor and starts the
// next one at random moments while events come in, and compares what is on the log
// in the end with a straight fold of it.
func TestProcessorStoppedAnywhereGivesTheSameStates(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		random := rand.New(rand.NewPCG(1, 2))
		stop := startProcessor(t, log, "n1")
		all := events(t, sample.New(3, 100), 8_000, random.IntN)
		for len(all) > 0 {
			n := min(1+random.IntN(400), len(all))
			for _, r := range all[:n] {
				log.Append(t.Context(), &kgo.Record{Topic: log.Name(eventlog.Devices), Key: r.Key, Value: r.Value}, nil)
			}
			if all = all[n:]; random.IntN(3) == 0 {
				stop() // in the middle of what it is doing
				stop = startProcessor(t, log, "n1")
			}
		}
		require.NoError(t, log.Flush(t.Context()))
		for p := range log.Partitions(eventlog.Devices) {
			folded := recorded(t, log, eventlog.Devices, p)
			want := straight(t, folded)
			require.NotEmpty(t, want)
			var got map[string][]byte
			require.Eventually(t, func() bool {
				var reached int64
				got, reached = states(t, log, p)
				return reached == lastEvent(folded)
			}, time.Minute, 10*time.Millisecond, "partition %d", p)
			require.Equal(t, want, got, "partition %d", p)
		}
	})
}

// lastEvent is the offset of the last record that is an event.
func lastEvent(records []*kgo.Record) (offset int64) {
	for _, r := range records {
		if decode(r, new(eventsv1.DeviceEvent)) == nil {
			offset = r.Offset
		}
	}
	return offset
}

// states are those on the log for a partition, and up to which event.
func states(t *testing.T, log *eventlog.Log, partition int32) (byKey map[string][]byte, reached int64) {
	t.Helper()
	byKey = map[string][]byte{}
	for _, r := range recorded(t, log, eventlog.DeviceState, partition) {
		var snapshot eventsv1.DeviceSnapshot
		require.NoError(t, proto.Unmarshal(r.Value, &snapshot))
		reached = max(reached, snapshot.GetOffset())
		state, err := device.EncodedState(r.Value)
		require.NoError(t, err)
		byKey[string(r.Key)] = state
	}
	return byKey, reached
}
