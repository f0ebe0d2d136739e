package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/device/sample"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/processors/devicestate"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	foldTarget  = 300_000 // events/s on one core
	foldBatch   = 2_500   // of one partition, when the processor catches up
	foldSamples = 5_000   // snapshots that are encoded for the floor
)

// fold records a fleet's events on the log, reads them back and folds them on one
// core, by its computing time. The floor is to decode the same events and encode the
// same snapshots, without deciding anything between.
func (b *bench) fold(ctx context.Context, log *eventlog.Log) ([]row, error) {
	tapes, err := b.record(ctx, log)
	if err != nil {
		return nil, err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ours, floors []float64
	var perSnapshot float64
	for range 3 {
		rate, each, snapshots, err := foldOnce(tapes)
		if err != nil {
			return nil, err
		}
		floor, err := foldFloor(tapes, snapshots, each)
		if err != nil {
			return nil, err
		}
		ours, floors, perSnapshot = append(ours, rate), append(floors, floor), each
	}
	rate, floor := median(ours), median(floors)
	return []row{{
		what:     "fold of recorded device events on one core, record bytes to snapshot bytes",
		measured: perSecond(rate), peer: "decoding and encoding alone " + perSecond(floor), ratio: times(rate / floor), target: "≥ 300,000/s",
		result: judge(rate >= foldTarget), note: fmt.Sprintf("%.1f events a snapshot", perSnapshot),
	}}, nil
}

// record writes events to the log and reads each partition back.
func (b *bench) record(ctx context.Context, log *eventlog.Log) ([]sample.Tape, error) {
	fleet := sample.New(1, pick(b, 20_000, 5_000))
	var mu sync.Mutex
	var failed error
	for range pick(b, 400_000, 100_000) {
		r, err := eventRecord(log, fleet.Next())
		if err != nil {
			return nil, err
		}
		log.Append(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	if err := log.Flush(ctx); err != nil {
		return nil, fmt.Errorf("record a fleet: %w", err)
	}
	if failed != nil {
		return nil, fmt.Errorf("record a fleet: %w", failed)
	}
	tapes := make([]sample.Tape, log.Partitions(eventlog.Devices))
	for p := range tapes {
		if err := log.ReadPartition(ctx, eventlog.Devices, int32(p), tapes[p].Add); err != nil {
			return nil, err
		}
	}
	return tapes, nil
}

// foldOnce gives events per second of computing time, events per snapshot and some
// of the snapshots.
func foldOnce(tapes []sample.Tape) (rate, each float64, some [][]byte, err error) {
	events, snapshots := 0, 0
	began := ownCPU(syscall.RUSAGE_SELF)
	for p := range tapes {
		fold := devicestate.NewFold()
		for from := 0; from < tapes[p].Len(); from += foldBatch {
			out, err := fold.Batch(tapes[p].Play(from, foldBatch))
			if err != nil {
				return 0, 0, nil, err
			}
			if out.Rejected+len(out.Unreadable) > 0 {
				return 0, 0, nil, fmt.Errorf("%d events of the fleet were refused", out.Rejected+len(out.Unreadable))
			}
			for _, s := range out.Snapshots {
				_ = s.Record("device-state")
				if snapshots++; len(some) < foldSamples && snapshots%7 == 0 {
					some = append(some, s.Value)
				}
			}
			events += out.Accepted
		}
	}
	took := ownCPU(syscall.RUSAGE_SELF) - began
	return float64(events) / took.Seconds(), float64(events) / float64(snapshots), some, nil
}

// foldFloor gives events per second of computing time when each event is decoded,
// and for so many events a snapshot is encoded.
func foldFloor(tapes []sample.Tape, some [][]byte, each float64) (float64, error) {
	began, events := ownCPU(syscall.RUSAGE_SELF), 0
	for p := range tapes {
		for from := 0; from < tapes[p].Len(); from += foldBatch {
			for _, r := range tapes[p].Play(from, foldBatch) {
				if err := proto.Unmarshal(r.Value, new(eventsv1.DeviceEvent)); err != nil {
					return 0, err
				}
				events++
			}
		}
	}
	decoding := float64(ownCPU(syscall.RUSAGE_SELF)-began) / float64(events)
	decoded := make([]*eventsv1.DeviceSnapshot, len(some))
	for i, value := range some {
		decoded[i] = new(eventsv1.DeviceSnapshot)
		if err := proto.Unmarshal(value, decoded[i]); err != nil {
			return 0, err
		}
	}
	const rounds = 10
	began = ownCPU(syscall.RUSAGE_SELF)
	for range rounds {
		for _, s := range decoded {
			if _, err := proto.Marshal(s); err != nil {
				return 0, err
			}
		}
	}
	encoding := float64(ownCPU(syscall.RUSAGE_SELF)-began) / float64(rounds*len(decoded))
	return float64(time.Second) / (decoding + encoding/each), nil
}
