package registry

import (
	"context"
	"flag"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/device/sample"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

var readyDevices = flag.Int("devices", 1_000_000, "devices of BenchmarkReady; a tenth of it with -short")

// BenchmarkReady is how soon a node has a fleet from the compacted topic of an
// embedded log, what a device takes of its memory, and how long a read takes.
func BenchmarkReady(b *testing.B) {
	devices := *readyDevices
	if testing.Short() {
		devices /= 10
	}
	broker := enginetest.EmbeddedLog(b)
	quiet := slog.New(slog.DiscardHandler)
	log, err := eventlog.Open(b.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(b, err)
	defer log.Close()
	populate(b, log, devices)
	var view *Registry
	before := heapAlloc()
	b.ResetTimer()
	for b.Loop() {
		view = New(log, quiet)
		ctx, cancel := context.WithCancel(b.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = view.Run(ctx) })
		<-view.CaughtUp()
		cancel()
		running.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/float64(devices)*1e6, "ms/1M-devices")
	b.ReportMetric(float64(heapAlloc()-before)/float64(devices), "B/device")
	b.ReportMetric(float64(p99OfGet(b, view, devices).Nanoseconds()), "p99-ns/read")
}

// populate writes a snapshot of each device of a fleet that has just come.
func populate(b *testing.B, log *eventlog.Log, devices int) {
	b.Helper()
	fleet := sample.New(2, devices)
	for n := range devices {
		var state *eventsv1.DeviceState
		for range sample.Greeting {
			state, _ = device.Apply(state, fleet.Next())
		}
		value, err := device.AppendSnapshot(nil, encode(b, state), &eventsv1.DeviceSnapshot{Offset: int64(n)})
		require.NoError(b, err)
		log.Append(b.Context(), &kgo.Record{Topic: log.Name(eventlog.DeviceState), Key: eventlog.Key(sample.Tenant, state.GetDevice()), Value: value},
			func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
	}
	require.NoError(b, log.Flush(b.Context()))
}

func heapAlloc() int64 {
	runtime.GC()
	runtime.GC() // what the first one freed of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func p99OfGet(b *testing.B, view *Registry, devices int) time.Duration {
	b.Helper()
	const reads, stride = 100_000, 7919
	var took []time.Duration
	for i := range reads {
		id := sample.ID(i * stride % devices)
		began := time.Now()
		require.NotNil(b, view.Get(sample.Tenant, id))
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[reads*99/100]
}
