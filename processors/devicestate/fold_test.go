package devicestate

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/device/sample"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// record puts a fleet's events on the log.
func record(t testing.TB, log *eventlog.Log, fleet *sample.Fleet, events int) {
	t.Helper()
	for range events {
		ev := fleet.Next()
		value, err := proto.Marshal(ev)
		require.NoError(t, err)
		log.Append(t.Context(), eventlog.CloudEvent(log.Name(eventlog.Devices), ev.GetId(), "/tenants/"+ev.GetTenant(), eventlog.TypeDeviceEvent,
			ev.GetTime().AsTime(), eventlog.ContentTypeProtobuf, eventlog.Key(ev.GetTenant(), ev.GetDevice()), value),
			func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
	}
	require.NoError(t, log.Flush(t.Context()))
}

// recorded is what a partition of a topic holds.
func recorded(t testing.TB, log *eventlog.Log, topic eventlog.Topic, partition int32) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var records []*kgo.Record
	require.NoError(t, log.ReadPartition(ctx, topic, partition, func(r *kgo.Record) { records = append(records, r) }))
	return records
}

// BenchmarkFold folds a log from the bytes of its records to the bytes of the
// snapshots, on one core: a fleet whose 20,000 devices come and then do something in
// no order, in batches as the processor has them.
func BenchmarkFold(b *testing.B) {
	const devices, events, batch = 20_000, 400_000, 2_500
	broker := enginetest.EmbeddedLog(b)
	log, err := eventlog.Open(b.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(b, err)
	defer log.Close()
	record(b, log, sample.New(1, devices), events)
	partitions := make([]sample.Tape, log.Partitions(eventlog.Devices))
	for p := range partitions {
		require.NoError(b, log.ReadPartition(b.Context(), eventlog.Devices, int32(p), partitions[p].Add))
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	b.ReportAllocs()
	b.ResetTimer()
	folded, snapshots := 0, 0
	for b.Loop() {
		for _, tape := range partitions {
			fold := NewFold()
			for from := 0; from < tape.Len(); from += batch {
				records := tape.Play(from, batch)
				out, err := fold.Batch(records)
				require.NoError(b, err)
				require.Zero(b, out.Rejected+len(out.Unreadable))
				for _, s := range out.Snapshots {
					_ = s.Record("device-state")
				}
				folded, snapshots = folded+len(records), snapshots+len(out.Snapshots)
			}
		}
	}
	b.ReportMetric(float64(folded)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(folded)/float64(snapshots), "events/snapshot")
	b.ReportMetric(0, "ns/op")
}
