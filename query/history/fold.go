package history

import (
	"slices"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Beginning is the offset before a device's first event.
const Beginning = -1

// Stretch is a run of one device's events: those whose offsets are behind After, up
// to and including UpTo. They are folded onto the state as of After.
type Stretch struct{ After, UpTo int64 }

// Stretches are those that must be folded to know the device before and after each
// of the wanted events, when its state is known at the checkpoints. Both are offsets
// in ascending order. A stretch goes on from one wanted event to the next unless a
// checkpoint saves events between them.
func Stretches(checkpoints, wanted []int64) []Stretch {
	var out []Stretch
	for _, offset := range wanted {
		i, _ := slices.BinarySearch(checkpoints, offset) // those before i are before the event
		nearest := int64(Beginning)
		if i > 0 {
			nearest = checkpoints[i-1]
		}
		if last := len(out) - 1; last >= 0 && nearest <= out[last].UpTo {
			out[last].UpTo = offset
			continue
		}
		out = append(out, Stretch{nearest, offset})
	}
	return out
}

// Step is an event with the device before and after it, and what became of it.
type Step struct {
	Offset        int64
	Event         *eventsv1.DeviceEvent
	Before, After *eventsv1.DeviceState
	Outcome       *eventsv1.Outcome
}

// Fold folds stretches of a device's events. Each event of theirs must be given to
// it in the order of the log; others are left out, and so are those given twice.
type Fold struct {
	stretches []Stretch
	states    map[int64]*eventsv1.DeviceState
	begun     bool
	last      int64
	state     *eventsv1.DeviceState
}

// NewFold begins from the states, which are by the offset that each is as of; that
// of the beginning need not be there.
func NewFold(stretches []Stretch, states map[int64]*eventsv1.DeviceState) *Fold {
	return &Fold{stretches: stretches, states: states}
}

// Next folds the event; false: it is not one of those to be folded.
func (f *Fold) Next(offset int64, ev *eventsv1.DeviceEvent) (Step, bool) {
	for len(f.stretches) > 0 && offset > f.stretches[0].UpTo {
		f.begin()
		f.stretches, f.begun = f.stretches[1:], false
	}
	if len(f.stretches) == 0 {
		return Step{}, false
	}
	f.begin()
	if offset <= f.last {
		return Step{}, false
	}
	step := Step{Offset: offset, Event: ev, Before: f.state}
	step.After, step.Outcome = device.Apply(f.state, ev)
	f.state, f.last = step.After, offset
	return step, true
}

// begin puts the fold where its stretch begins.
func (f *Fold) begin() {
	if !f.begun {
		f.begun, f.last, f.state = true, f.stretches[0].After, f.states[f.stretches[0].After]
	}
}

// State is the device after the last event: nil when it never existed.
func (f *Fold) State() *eventsv1.DeviceState {
	if len(f.stretches) > 0 {
		f.begin()
	}
	return f.state
}
