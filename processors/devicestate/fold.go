package devicestate

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Fold holds the states of one partition's devices and folds records into them. It
// holds them encoded: there may be a million, and a batch touches few. It depends on
// nothing but the records it is given, so it can be run over any log.
type Fold struct {
	states map[string][]byte // by record key
}

// NewFold is the fold of an empty log.
func NewFold() *Fold { return &Fold{states: map[string][]byte{}} }

// Load takes a device's state over from a record of the device-state topic.
func (f *Fold) Load(snapshot *kgo.Record) error {
	state, err := device.EncodedState(snapshot.Value)
	if err != nil {
		return err
	}
	f.states[string(snapshot.Key)] = bytes.Clone(state)
	return nil
}

// Folded is what became of a batch.
type Folded struct {
	// Snapshots are of each device the batch touched, in the order in which the
	// devices first appear.
	Snapshots          []Snapshot
	Accepted, Rejected int
	Unreadable         []Unreadable
}

// Snapshot is a device's new state with what became of its events, encoded.
type Snapshot struct {
	First  *kgo.Record // the device's first event of the batch
	Offset int64       // of its last
	Value  []byte
}

// Unreadable is a record that is no event.
type Unreadable struct {
	Record *kgo.Record
	Reason error
}

// touched is a device while a batch is being folded.
type touched struct {
	first    *kgo.Record
	state    *eventsv1.DeviceState // nil: never existed
	offset   int64
	time     *timestamppb.Timestamp // of the last event
	outcomes []*eventsv1.Outcome
}

// Batch folds records of the devices topic that follow those folded before.
func (f *Fold) Batch(batch []*kgo.Record) (Folded, error) {
	var out Folded
	var order []*touched
	devices := make(map[string]*touched, len(batch))
	for _, r := range batch {
		ev, err := decode(r)
		if err != nil {
			out.Unreadable = append(out.Unreadable, Unreadable{r, err})
			continue
		}
		t := devices[string(r.Key)]
		if t == nil {
			if t, err = f.touch(r); err != nil {
				return Folded{}, err
			}
			devices[string(r.Key)] = t
			order = append(order, t)
		}
		if t.apply(ev, r.Offset) {
			out.Accepted++
		} else {
			out.Rejected++
		}
	}
	out.Snapshots = make([]Snapshot, 0, len(order))
	var space []byte
	for _, t := range order {
		var snapshot Snapshot
		var err error
		if snapshot, space, err = f.keep(t, space); err != nil {
			return Folded{}, err
		}
		out.Snapshots = append(out.Snapshots, snapshot)
	}
	return out, nil
}

// touch decodes the state of the record's device.
func (f *Fold) touch(r *kgo.Record) (*touched, error) {
	t := &touched{first: r}
	encoded, there := f.states[string(r.Key)]
	if !there {
		return t, nil
	}
	var err error
	if t.state, err = device.DecodeState(encoded); err != nil {
		return nil, fmt.Errorf("the state of device %s cannot be read: restore the log from its backup: %w", r.Key, err)
	}
	return t, nil
}

func (t *touched) apply(ev *eventsv1.DeviceEvent, offset int64) (accepted bool) {
	next, outcome := device.Apply(t.state, ev)
	if next == nil {
		// A refused change of a device that never existed has a state to carry its
		// outcome.
		next = &eventsv1.DeviceState{Tenant: ev.GetTenant(), Device: ev.GetDevice(), Deleted: true}
	}
	t.state, t.offset, t.time = next, offset, ev.GetTime()
	t.outcomes = append(t.outcomes, outcome)
	return outcome.GetRejection() == nil
}

// chunk is how much memory snapshots share: they go together, to the log.
const chunk = 128 << 10

// keep encodes the device's new state. The snapshot is written to the space, or to
// new space; what is left of it is returned.
func (f *Fold) keep(t *touched, space []byte) (Snapshot, []byte, error) {
	state, err := t.state.MarshalVT()
	if err != nil {
		return Snapshot{}, nil, fmt.Errorf("encode state of device %s: %w", t.state.GetDevice(), err)
	}
	if room := len(state) + 64*(1+len(t.outcomes)); cap(space) < room {
		space = make([]byte, 0, max(chunk, room))
	}
	value, err := device.AppendSnapshot(space, state, &eventsv1.DeviceSnapshot{Offset: t.offset, Outcomes: t.outcomes, Time: t.time})
	if err != nil {
		return Snapshot{}, nil, fmt.Errorf("device %s: %w", t.state.GetDevice(), err)
	}
	f.states[string(t.first.Key)] = state
	return Snapshot{First: t.first, Offset: t.offset, Value: value[:len(value):len(value)]}, value[len(value):], nil
}

// Record is the snapshot as a record in the device's partition, whose number is
// the same in both topics. Its id names the event's place on the log, so that a
// batch folded again writes the same ids.
func (s Snapshot) Record(topic string) *kgo.Record {
	id := "devices-" + strconv.Itoa(int(s.First.Partition)) + "-" + strconv.FormatInt(s.Offset, 10)
	r := eventlog.CloudEvent(topic, id, "/processors/device-state", eventlog.TypeDeviceSnapshot,
		s.First.Timestamp, eventlog.ContentTypeProtobuf, s.First.Key, s.Value)
	r.Partition = s.First.Partition
	return r
}

// decode reads an event and checks that it stands under its own key.
func decode(r *kgo.Record) (*eventsv1.DeviceEvent, error) {
	ev := new(eventsv1.DeviceEvent)
	if err := proto.Unmarshal(r.Value, ev); err != nil {
		return nil, fmt.Errorf("value is not a DeviceEvent: %w", err)
	}
	tenant, id, ok := eventlog.SplitKey(r.Key)
	if !ok || string(tenant) != ev.GetTenant() || string(id) != ev.GetDevice() {
		return nil, fmt.Errorf("record key is not tenant/device of the event it carries")
	}
	return ev, nil
}
