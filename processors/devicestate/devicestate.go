// Package devicestate hosts the device fold: it consumes the `devices` topic
// and appends each device's new state, with what became of its events, to the
// compacted `device-state` topic, state and offsets in one Kafka transaction.
//
// Each event is folded once, whatever crashes. An event that cannot be read goes
// to the dead letter in the same transaction. The package decides nothing: the
// fold in internal/device does.
package devicestate

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
)

// stage names the consumer group, and the stage in dead letters.
const stage = "process-device-state"

// Processor is the host of the fold on one node.
type Processor struct {
	log    *eventlog.Log
	node   string
	logger *slog.Logger
	events *prometheus.CounterVec

	// partitions is touched by the stage's goroutine only.
	partitions map[int32]map[string]*eventsv1.DeviceState
}

// New makes a processor. The node id must be stable over restarts and unlike any
// other node's.
func New(log *eventlog.Log, node string, logger *slog.Logger, reg prometheus.Registerer) *Processor {
	p := &Processor{
		log: log, node: node, logger: logger,
		partitions: map[int32]map[string]*eventsv1.DeviceState{},
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetlog_device_events_total",
			Help: "Device events folded, by what became of them.",
		}, []string{"outcome"}),
	}
	reg.MustRegister(p.events)
	return p
}

// Run folds until ctx ends; nil is its answer then.
func (p *Processor) Run(ctx context.Context) error {
	return p.log.Transact(ctx, p.node, eventlog.Stage{
		Name:   stage,
		Topic:  eventlog.Devices,
		Load:   p.load,
		Handle: p.handle,
	})
}

// load builds a partition's states anew from the compacted topic.
func (p *Processor) load(ctx context.Context, partition int32) error {
	states := map[string]*eventsv1.DeviceState{}
	err := p.log.ReadPartition(ctx, eventlog.DeviceState, partition, func(r *kgo.Record) {
		var snapshot eventsv1.DeviceSnapshot
		if err := proto.Unmarshal(r.Value, &snapshot); err != nil {
			p.logger.Error("device snapshot cannot be read and is left out", "partition", partition, "offset", r.Offset, "error", err)
			return
		}
		states[string(r.Key)] = snapshot.GetState()
	})
	if err != nil {
		return err
	}
	p.partitions[partition] = states
	return nil
}

// handle folds a batch and returns one snapshot for each device it touched, in
// the order in which the devices first appear.
func (p *Processor) handle(_ context.Context, partition int32, batch []*kgo.Record) ([]*kgo.Record, error) {
	states := p.partitions[partition]
	snapshots := map[string]*eventsv1.DeviceSnapshot{}
	var order, dead []*kgo.Record
	for _, r := range batch {
		ev, err := decode(r)
		if err != nil {
			p.events.WithLabelValues("dead_letter").Inc()
			p.logger.Warn("device event goes to the dead letter", "partition", partition, "offset", r.Offset, "reason", err)
			dead = append(dead, p.log.DeadLetterRecord(r, stage, err.Error()))
			continue
		}
		key := string(r.Key)
		state, outcome := device.Apply(states[key], ev)
		states[key] = state
		p.count(outcome)
		snapshot, seen := snapshots[key]
		if !seen {
			snapshot = &eventsv1.DeviceSnapshot{}
			snapshots[key] = snapshot
			order = append(order, r)
		}
		snapshot.State, snapshot.Offset = stateOrAbsent(state, ev), r.Offset
		snapshot.Outcomes = append(snapshot.Outcomes, outcome)
	}
	out := make([]*kgo.Record, 0, len(order)+len(dead))
	for _, r := range order {
		record, err := p.record(r, snapshots[string(r.Key)])
		if err != nil {
			return nil, err
		}
		out = append(out, record)
	}
	return append(out, dead...), nil
}

// stateOrAbsent gives a refused change of a device that never existed a state to
// carry its outcome.
func stateOrAbsent(state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) *eventsv1.DeviceState {
	if state != nil {
		return state
	}
	return &eventsv1.DeviceState{Tenant: ev.GetTenant(), Device: ev.GetDevice(), Deleted: true}
}

// record is the snapshot as a record in the device's partition, whose number is
// the same in both topics. Its id names the event's place on the log, so that a
// batch folded again writes the same ids.
func (p *Processor) record(first *kgo.Record, s *eventsv1.DeviceSnapshot) (*kgo.Record, error) {
	value, err := proto.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode state of device %s: %w", s.GetState().GetDevice(), err)
	}
	id := fmt.Sprintf("devices-%d-%d", first.Partition, s.GetOffset())
	r := eventlog.CloudEvent(p.log.Name(eventlog.DeviceState), id, "/processors/device-state", eventlog.TypeDeviceSnapshot,
		first.Timestamp, eventlog.ContentTypeProtobuf, first.Key, value)
	r.Partition = first.Partition
	return r, nil
}

func (p *Processor) count(o *eventsv1.Outcome) {
	if o.GetRejection() != nil {
		p.events.WithLabelValues("rejected").Inc()
		return
	}
	p.events.WithLabelValues("accepted").Inc()
}

// decode reads an event and checks that it stands under its own key.
func decode(r *kgo.Record) (*eventsv1.DeviceEvent, error) {
	var ev eventsv1.DeviceEvent
	if err := proto.Unmarshal(r.Value, &ev); err != nil {
		return nil, fmt.Errorf("value is not a DeviceEvent: %w", err)
	}
	tenant, id, ok := eventlog.SplitKey(r.Key)
	if !ok || string(tenant) != ev.GetTenant() || string(id) != ev.GetDevice() {
		return nil, fmt.Errorf("record key is not tenant/device of the event it carries")
	}
	return &ev, nil
}
