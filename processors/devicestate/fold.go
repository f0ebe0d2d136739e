package devicestate

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
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

	// What follows is of the device being folded.
	event    eventsv1.DeviceEvent
	room     [2]eventsv1.DeviceState // the state, and the next one
	outcomes []*eventsv1.Outcome
	encoded  []byte
	space    []byte // for snapshots
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

// Batch folds records of the devices topic that follow those folded before. It takes
// one device after the other, so that only one state is decoded at a time.
func (f *Fold) Batch(batch []*kgo.Record) (Folded, error) {
	defer f.forget()
	devices := byDevice(batch)
	out := Folded{Snapshots: make([]Snapshot, 0, len(devices))}
	for _, d := range devices {
		if err := f.fold(d, &out); err != nil {
			return Folded{}, fmt.Errorf("device %s: %w", d.key, err)
		}
	}
	if len(out.Unreadable) > 0 {
		slices.SortFunc(out.Unreadable, func(a, b Unreadable) int { return cmp.Compare(a.Record.Offset, b.Record.Offset) })
		slices.SortFunc(out.Snapshots, func(a, b Snapshot) int { return cmp.Compare(a.First.Offset, b.First.Offset) })
	}
	return out, nil
}

// forget lets go of the batch's memory.
func (f *Fold) forget() {
	f.event, f.room = eventsv1.DeviceEvent{}, [2]eventsv1.DeviceState{}
	clear(f.outcomes[:cap(f.outcomes)])
}

// visit is a device's part of a batch.
type visit struct {
	key     string
	records []*kgo.Record
}

// byDevice gives each device its records, in the order in which the devices first
// appear.
func byDevice(batch []*kgo.Record) []visit {
	places := make(map[string]int, len(batch))
	place, sizes := make([]int, len(batch)), make([]int, 0, len(batch))
	visits := make([]visit, 0, len(batch))
	for i, r := range batch {
		n, there := places[string(r.Key)]
		if !there {
			n = len(visits)
			visits, sizes = append(visits, visit{key: string(r.Key)}), append(sizes, 0)
			places[visits[n].key] = n
		}
		place[i] = n
		sizes[n]++
	}
	room := make([]*kgo.Record, len(batch))
	for n, size := range sizes {
		visits[n].records, room = room[:0:size], room[size:]
	}
	for i, r := range batch {
		visits[place[i]].records = append(visits[place[i]].records, r)
	}
	return visits
}

// fold folds a device's events and keeps its new state.
func (f *Fold) fold(v visit, out *Folded) error {
	state, err := f.state(v.key)
	if err != nil {
		return err
	}
	var s Snapshot
	var last *timestamppb.Timestamp
	outcomes := f.outcomes[:0]
	for _, r := range v.records {
		if err := decode(r, &f.event); err != nil {
			out.Unreadable = append(out.Unreadable, Unreadable{r, err})
			continue
		}
		var outcome *eventsv1.Outcome
		if state, outcome = f.apply(state); outcome.GetRejection() == nil {
			out.Accepted++
		} else {
			out.Rejected++
		}
		if s.Offset = r.Offset; s.First == nil {
			s.First = r
		}
		last, outcomes = f.event.GetTime(), append(outcomes, outcome)
	}
	f.outcomes = outcomes
	if s.First == nil {
		return nil
	}
	if s.Value, err = f.keep(v.key, state, &eventsv1.DeviceSnapshot{Offset: s.Offset, Outcomes: outcomes, Time: last}); err != nil {
		return err
	}
	out.Snapshots = append(out.Snapshots, s)
	return nil
}

// state is a device's; nil when it never existed.
func (f *Fold) state(key string) (*eventsv1.DeviceState, error) {
	encoded, there := f.states[key]
	if !there {
		return nil, nil
	}
	if err := device.DecodeStateTo(&f.room[0], encoded); err != nil {
		return nil, fmt.Errorf("its state cannot be read: restore the log from its backup: %w", err)
	}
	return &f.room[0], nil
}

// apply folds the event into the state.
func (f *Fold) apply(state *eventsv1.DeviceState) (*eventsv1.DeviceState, *eventsv1.Outcome) {
	next := &f.room[0]
	if state == next {
		next = &f.room[1]
	}
	now, outcome := device.ApplyTo(next, state, &f.event)
	if now == nil {
		// A refused change of a device that never existed has a state to carry its
		// outcome.
		now = &eventsv1.DeviceState{Tenant: f.event.GetTenant(), Device: f.event.GetDevice(), Deleted: true}
	}
	return now, outcome
}

// chunk is how much memory snapshots share: they go together, to the log.
const chunk = 128 << 10

// keep encodes the device's new state, and writes it over the one before where it
// fits.
func (f *Fold) keep(key string, state *eventsv1.DeviceState, rest *eventsv1.DeviceSnapshot) ([]byte, error) {
	n := state.SizeVT()
	f.encoded = slices.Grow(f.encoded[:0], n)[:n]
	if _, err := state.MarshalToSizedBufferVT(f.encoded); err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	if room := n + 64*(1+len(rest.GetOutcomes())); cap(f.space)-len(f.space) < room {
		f.space = make([]byte, 0, max(chunk, room))
	}
	from := len(f.space)
	snapshot, err := device.AppendSnapshot(f.space, f.encoded, rest)
	if err != nil {
		return nil, err
	}
	f.space = snapshot
	f.states[key] = renew(f.states[key], f.encoded)
	return snapshot[from:len(snapshot):len(snapshot)], nil
}

// renew copies bytes over old ones when they fill that memory nearly.
func renew(old, encoded []byte) []byte {
	if n := len(encoded); n > cap(old) || n < cap(old)/4*3 {
		return append([]byte(nil), encoded...)
	}
	return append(old[:0], encoded...)
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
func decode(r *kgo.Record, ev *eventsv1.DeviceEvent) error {
	if err := device.DecodeEvent(r.Value, ev); err != nil {
		return fmt.Errorf("value is not a DeviceEvent: %w", err)
	}
	tenant, id, ok := eventlog.SplitKey(r.Key)
	if !ok || string(tenant) != ev.GetTenant() || string(id) != ev.GetDevice() {
		return fmt.Errorf("record key is not tenant/device of the event it carries")
	}
	return nil
}
