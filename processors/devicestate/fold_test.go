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

// tape is records in one piece, so that those that wait do not weigh on the garbage
// collector as they would not where the log is on a disk.
type tape struct {
	bytes []byte
	ends  []int // of keys and values in turn
}

func newTape(records []*kgo.Record) (t tape) {
	for _, r := range records {
		for _, part := range [][]byte{r.Key, r.Value} {
			t.bytes = append(t.bytes, part...)
			t.ends = append(t.ends, len(t.bytes))
		}
	}
	return t
}

// play makes records of the tape again.
func (t tape) play(from, n int) []*kgo.Record {
	var records []*kgo.Record
	for i := 2 * from; i < min(2*(from+n), len(t.ends)); i += 2 {
		start := 0
		if i > 0 {
			start = t.ends[i-1]
		}
		records = append(records, &kgo.Record{Key: t.bytes[start:t.ends[i]], Value: t.bytes[t.ends[i]:t.ends[i+1]], Offset: int64(i / 2)})
	}
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
	var partitions []tape
	for p := range log.Partitions(eventlog.Devices) {
		partitions = append(partitions, newTape(recorded(b, log, eventlog.Devices, p)))
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	b.ReportAllocs()
	b.ResetTimer()
	folded, snapshots := 0, 0
	for b.Loop() {
		for _, tape := range partitions {
			fold := NewFold()
			for from := 0; 2*from < len(tape.ends); from += batch {
				records := tape.play(from, batch)
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
