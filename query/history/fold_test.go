package history

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

func TestStretches(t *testing.T) {
	for name, test := range map[string]struct {
		checkpoints, wanted []int64
		want                []Stretch
	}{
		"nothing wanted":                      {[]int64{1}, nil, nil},
		"no checkpoint":                       {nil, []int64{0, 7}, []Stretch{{Beginning, 7}}},
		"checkpoint of the event itself":      {[]int64{7}, []int64{7}, []Stretch{{Beginning, 7}}},
		"nearest one":                         {[]int64{2, 5, 9}, []int64{7}, []Stretch{{5, 7}}},
		"one that saves nothing":              {[]int64{2, 5}, []int64{5, 6}, []Stretch{{2, 6}}},
		"one between that saves events":       {[]int64{2, 40}, []int64{5, 41}, []Stretch{{2, 5}, {40, 41}}},
		"the first event, then far behind it": {[]int64{0, 90}, []int64{0, 100}, []Stretch{{Beginning, 0}, {90, 100}}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, Stretches(test.checkpoints, test.wanted))
		})
	}
}

// TestAnyCheckpointsGiveTheSameSteps: whichever states are known, whichever events
// are wanted, and however often an event is there, each wanted one has the states
// before and after it that the fold of all events has.
func TestAnyCheckpointsGiveTheSameSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := life(t)
		all := make([]Step, len(events))
		var state *eventsv1.DeviceState
		for i, ev := range events {
			all[i] = Step{Offset: int64(i), Event: ev, Before: state}
			state, all[i].Outcome = device.Apply(state, ev)
			all[i].After = state
		}
		var checkpoints, wanted []int64
		states := map[int64]*eventsv1.DeviceState{}
		for i := range all {
			if rapid.IntRange(0, 5).Draw(t, "checkpoint") == 0 {
				checkpoints = append(checkpoints, int64(i))
				states[int64(i)] = stored(t, all[i].After)
			}
			if rapid.IntRange(0, 5).Draw(t, "wanted") == 0 {
				wanted = append(wanted, int64(i))
			}
		}
		fold := NewFold(Stretches(checkpoints, wanted), states)
		got := map[int64]Step{}
		for i, ev := range events {
			for range rapid.IntRange(1, 2).Draw(t, "copies") {
				if step, ok := fold.Next(int64(i), ev); ok {
					_, twice := got[step.Offset]
					require.False(t, twice)
					got[step.Offset] = step
				}
			}
		}
		for _, offset := range wanted {
			step, want := got[offset], all[offset]
			require.True(t, proto.Equal(want.Before, step.Before), "before %d", offset)
			require.True(t, proto.Equal(want.After, step.After), "after %d", offset)
			require.True(t, proto.Equal(want.Outcome, step.Outcome), "outcome of %d", offset)
		}
		if n := len(wanted); n > 0 {
			require.True(t, proto.Equal(all[wanted[n-1]].After, fold.State()))
		}
	})
}

// stored is the state as it comes back from a table.
func stored(t *rapid.T, s *eventsv1.DeviceState) *eventsv1.DeviceState {
	if s == nil {
		return nil
	}
	encoded, err := proto.Marshal(s)
	require.NoError(t, err)
	out := new(eventsv1.DeviceState)
	require.NoError(t, proto.Unmarshal(encoded, out))
	return out
}
