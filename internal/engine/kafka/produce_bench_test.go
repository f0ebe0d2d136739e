package kafka

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkProduce appends records as a busy gateway does, beside other producers
// that append one record at a time.
func BenchmarkProduce(b *testing.B) {
	for _, tc := range []struct {
		name   string
		sync   bool
		single int
	}{{"sync", true, 0}, {"sync beside 4", true, 4}, {"no sync", false, 0}} {
		b.Run(tc.name, func(b *testing.B) {
			broker, err := Start(Options{Addr: "127.0.0.1:0", DataDir: b.TempDir(), SyncWrites: tc.sync, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(b, err)
			defer func() { require.NoError(b, broker.Close()) }()
			client := func() *kgo.Client {
				c, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(16<<10))
				require.NoError(b, err)
				b.Cleanup(c.Close)
				return c
			}
			c := client()
			_, err = kadm.NewClient(c).CreateTopics(b.Context(), 2, -1, nil, "t")
			require.NoError(b, err)
			value := make([]byte, 250)
			done := make(chan struct{})
			var others sync.WaitGroup
			for range tc.single {
				other := client()
				others.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
							_ = other.ProduceSync(b.Context(), &kgo.Record{Topic: "t", Value: value}).FirstErr()
						}
					}
				})
			}
			b.ResetTimer()
			var all sync.WaitGroup
			all.Add(b.N)
			for range b.N {
				c.Produce(b.Context(), &kgo.Record{Topic: "t", Value: value}, func(_ *kgo.Record, err error) {
					if err != nil {
						b.Error(err)
					}
					all.Done()
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.StopTimer()
			close(done)
			others.Wait()
		})
	}
}
