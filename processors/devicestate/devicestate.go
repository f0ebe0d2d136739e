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
	"log/slog"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stage names the consumer group, and the stage in dead letters.
const stage = "process-device-state"

// Processor is the host of the fold on one node.
type Processor struct {
	log    *eventlog.Log
	node   string
	logger *slog.Logger

	accepted, rejected, deadLettered prometheus.Counter

	// partitions is touched by the stage's goroutine only.
	partitions map[int32]*Fold
}

// New makes a processor. The node id must be stable over restarts and unlike any
// other node's.
func New(log *eventlog.Log, node string, logger *slog.Logger, reg prometheus.Registerer) *Processor {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetlog_device_events_total",
		Help: "Device events folded, by what became of them.",
	}, []string{"outcome"})
	reg.MustRegister(events)
	return &Processor{
		log: log, node: node, logger: logger, partitions: map[int32]*Fold{},
		accepted: events.WithLabelValues("accepted"), rejected: events.WithLabelValues("rejected"), deadLettered: events.WithLabelValues("dead_letter"),
	}
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
	fold := NewFold()
	err := p.log.ReadPartition(ctx, eventlog.DeviceState, partition, func(r *kgo.Record) {
		if err := fold.Load(r); err != nil {
			p.logger.Error("device snapshot cannot be read and is left out", "partition", partition, "offset", r.Offset, "error", err)
		}
	})
	if err != nil {
		return err
	}
	p.partitions[partition] = fold
	return nil
}

// handle folds a batch and returns the snapshots and the dead letters.
func (p *Processor) handle(_ context.Context, partition int32, batch []*kgo.Record) ([]*kgo.Record, error) {
	folded, err := p.partitions[partition].Batch(batch)
	if err != nil {
		return nil, err
	}
	p.accepted.Add(float64(folded.Accepted))
	p.rejected.Add(float64(folded.Rejected))
	p.deadLettered.Add(float64(len(folded.Unreadable)))
	out := make([]*kgo.Record, 0, len(folded.Snapshots)+len(folded.Unreadable))
	topic := p.log.Name(eventlog.DeviceState)
	for _, s := range folded.Snapshots {
		out = append(out, s.Record(topic))
	}
	for _, u := range folded.Unreadable {
		p.logger.Warn("device event goes to the dead letter", "partition", partition, "offset", u.Record.Offset, "reason", u.Reason)
		out = append(out, p.log.DeadLetterRecord(u.Record, stage, u.Reason.Error()))
	}
	return out, nil
}
