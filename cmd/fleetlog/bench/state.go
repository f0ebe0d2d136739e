package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/device/sample"
	"github.com/fleetlog/fleetlog/internal/engine/kafka"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/processors/devicestate"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	readyTarget  = 20 * time.Second
	readTarget   = time.Millisecond
	changeTarget = 150 * time.Millisecond

	stateReads = 200_000
)

// state measures devices' states at scale: how fast the log is folded, how soon a
// node has all devices and what they take of its memory, how fast it answers for
// one, and how long a change takes. The engine is the embedded log with fsync, in
// this process.
func (b *bench) state(ctx context.Context) (rows []row, err error) {
	rows, err = b.onLog(ctx, "fold", b.fold)
	if err != nil {
		return rows, err
	}
	more, err := b.onLog(ctx, "node", b.node)
	return append(rows, more...), err
}

// onLog runs a measurement on an embedded log of its own.
func (b *bench) onLog(ctx context.Context, name string, measure func(context.Context, *eventlog.Log) ([]row, error)) (rows []row, err error) {
	quiet := slog.New(slog.DiscardHandler)
	broker, err := kafka.Start(kafka.Options{Addr: "127.0.0.1:0", DataDir: filepath.Join(b.work, name), SyncWrites: true, Logger: quiet}) //nolint:contextcheck // it lives until Close
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, broker.Close()) }() //nolint:contextcheck // it ends whatever ctx says
	log, err := eventlog.Open(ctx, eventlog.Config{Brokers: []string{broker.Addr()}, Logger: quiet})
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return measure(ctx, log)
}

// node has a registry take in a fleet from the compacted topic, and changes devices.
func (b *bench) node(ctx context.Context, log *eventlog.Log) (rows []row, err error) {
	devices := pick(b, 1_000_000, 100_000)
	stateBytes, err := b.populate(ctx, log, devices)
	if err != nil {
		return nil, err
	}
	before := heap()
	began := time.Now()
	view := registry.New(log, slog.New(slog.DiscardHandler))
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- view.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ran) }()
	select {
	case <-view.CaughtUp():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	took := time.Since(began)
	target := readyTarget * time.Duration(devices) / 1_000_000
	collected := time.Now()
	each := float64(heap()-before) / float64(devices)
	rows = append(rows, row{
		what: "node ready with " + thousands(int64(devices)) + " devices, from the compacted topic", measured: fmt.Sprintf("%.1f s", took.Seconds()),
		peer: "fixed target", ratio: times(took.Seconds() / target.Seconds()), target: fmt.Sprintf("≤ %.0f s", target.Seconds()), result: judge(took <= target),
	}, row{
		what: "… memory of a device in it", measured: thousands(int64(each)) + " B", peer: "its record on the log " + thousands(stateBytes) + " B", ratio: times(each / float64(stateBytes)),
		target: "–", result: noted, note: fmt.Sprintf("two garbage collections %s", millis(time.Since(collected))),
	})
	read := reads(view, devices)
	p99 := percentile(read, 99)
	rows = append(rows, row{
		what: "… read of a device, p99", measured: fmt.Sprintf("%.1f µs", float64(p99)/1e3), peer: "fixed target", ratio: times(float64(p99) / float64(readTarget)),
		target: "≤ 1 ms", result: judge(p99 <= readTarget), note: fmt.Sprintf("p50 %.1f µs, max %s", float64(percentile(read, 50))/1e3, millis(percentile(read, 100))),
	})
	changed, err := b.changes(ctx, log, view, devices)
	return append(rows, changed...), err
}

// populate writes a snapshot of each device of a fleet that has just come, and
// returns how many bytes a state has.
func (b *bench) populate(ctx context.Context, log *eventlog.Log, devices int) (int64, error) {
	fleet, fold, total := sample.New(2, devices), devicestate.NewFold(), 0
	var failed error
	var once sync.Once
	for range devices {
		var events []*kgo.Record
		for range sample.Greeting {
			r, err := eventRecord(log, fleet.Next())
			if err != nil {
				return 0, err
			}
			events = append(events, r)
		}
		out, err := fold.Batch(events)
		if err != nil {
			return 0, err
		}
		for _, s := range out.Snapshots {
			total += len(s.Value)
			log.Append(ctx, eventlog.CloudEvent(log.Name(eventlog.DeviceState), "bench", "/bench", eventlog.TypeDeviceSnapshot, time.Now(),
				eventlog.ContentTypeProtobuf, s.First.Key, s.Value), func(_ *kgo.Record, err error) {
				if err != nil {
					once.Do(func() { failed = err })
				}
			})
		}
	}
	err := log.Flush(ctx)
	return int64(total / devices), errors.Join(err, failed)
}

func eventRecord(log *eventlog.Log, ev *eventsv1.DeviceEvent) (*kgo.Record, error) {
	value, err := proto.Marshal(ev)
	if err != nil {
		return nil, err
	}
	return eventlog.CloudEvent(log.Name(eventlog.Devices), ev.GetId(), "/tenants/"+ev.GetTenant(), eventlog.TypeDeviceEvent,
		ev.GetTime().AsTime(), eventlog.ContentTypeProtobuf, eventlog.Key(ev.GetTenant(), ev.GetDevice()), value), nil
}

// heap is the live heap, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one freed of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// reads asks for devices here and there.
func reads(view *registry.Registry, devices int) []time.Duration {
	const stride = 7919 // a prime: no device twice in a while
	took := make([]time.Duration, 0, stateReads)
	for i := range stateReads {
		id := sample.ID(i * stride % devices)
		began := time.Now()
		if view.Get(sample.Tenant, id) == nil {
			return nil
		}
		took = append(took, time.Since(began))
	}
	return took
}

// changes has callers rename devices, each as fast as it is answered.
func (b *bench) changes(ctx context.Context, log *eventlog.Log, view *registry.Registry, devices int) (rows []row, err error) {
	processor := devicestate.New(log, "bench", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- processor.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ran) }()
	// The processor reads each partition's states first.
	if _, err := b.change(ctx, view, 64, devices, 64); err != nil {
		return nil, err
	}
	for _, callers := range []int{1, 20, 200} {
		began := time.Now()
		n := pick(b, 10, 2) * 100 * min(callers, 20)
		took, err := b.change(ctx, view, callers, devices, n)
		if err != nil {
			return rows, err
		}
		p99 := percentile(took, 99)
		rows = append(rows, row{
			what: fmt.Sprintf("… change accepted and readable, p99, %d callers", callers), measured: millis(p99), peer: "fixed target",
			ratio: times(float64(p99) / float64(changeTarget)), target: "≤ 150 ms", result: judge(p99 <= changeTarget),
			note: fmt.Sprintf("p50 %s, max %s, %s", millis(percentile(took, 50)), millis(percentile(took, 100)), perSecond(float64(n)/time.Since(began).Seconds())),
		})
	}
	return rows, nil
}

func (b *bench) change(ctx context.Context, view *registry.Registry, callers, devices, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	for caller := range callers {
		all.Go(func() {
			for i := caller; i < n; i += callers {
				name := fmt.Sprint("renamed ", i)
				began := time.Now()
				_, err := view.Change(ctx, &eventsv1.DeviceEvent{
					Id: eventlog.NewID(), Tenant: sample.Tenant, Device: sample.ID(i * 7919 % devices), Time: timestamppb.Now(),
					Change: &eventsv1.DeviceEvent_Updated{Updated: &eventsv1.DeviceUpdated{DisplayName: &name}},
				})
				mu.Lock()
				took, failed = append(took, time.Since(began)), errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return took, failed
}
