package kafka

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkTransaction is one record through a consume-process-append stage: the
// input is appended, polled, and its output and offset are committed together.
func BenchmarkTransaction(b *testing.B) {
	for _, sync := range []bool{true, false} {
		b.Run(fmt.Sprintf("sync=%v", sync), func(b *testing.B) {
			broker, err := Start(Options{Addr: "127.0.0.1:0", DataDir: b.TempDir(), SyncWrites: sync, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(b, err)
			defer func() { require.NoError(b, broker.Close()) }()
			s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(broker.Addr()), kgo.ConsumerGroup("stage"), kgo.ConsumeTopics("in"),
				kgo.TransactionalID("stage"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ProducerLinger(0),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			require.NoError(b, err)
			defer s.Close()
			in, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.ProducerLinger(0))
			require.NoError(b, err)
			defer in.Close()
			_, err = kadm.NewClient(in).CreateTopics(b.Context(), 1, -1, nil, "in", "out")
			require.NoError(b, err)
			var commits time.Duration
			step := func() {
				require.NoError(b, in.ProduceSync(b.Context(), &kgo.Record{Topic: "in", Value: []byte("value")}).FirstErr())
				fetches := s.PollRecords(b.Context(), 1)
				require.NoError(b, fetches.Err())
				began := time.Now()
				require.NoError(b, s.Begin())
				s.Produce(b.Context(), &kgo.Record{Topic: "out", Value: []byte("value")}, nil)
				committed, err := s.End(b.Context(), kgo.TryCommit)
				require.NoError(b, err)
				require.True(b, committed)
				commits += time.Since(began)
			}
			step() // joins the group
			commits = 0
			for b.Loop() {
				step()
			}
			b.ReportMetric(float64(commits.Microseconds())/float64(b.N), "µs/transaction")
		})
	}
}
