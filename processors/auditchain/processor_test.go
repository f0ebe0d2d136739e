package auditchain

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/fleetlog/fleetlog/internal/auditchain"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, broker enginetest.Log, prefix string) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix + prefix, Partitions: 2, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	return log
}

// start runs a processor until stop is called.
func start(t *testing.T, log *eventlog.Log, node string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- New(log, node).Run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); require.NoError(t, <-done) }) }
	t.Cleanup(stop)
	return stop
}

// write appends records of two tenants to the topics.
func write(t *testing.T, log *eventlog.Log, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		topic := auditchain.Topics[i%len(auditchain.Topics)]
		log.Append(t.Context(), &kgo.Record{
			Topic: log.Name(topic), Key: eventlog.Key([]string{"a", "b"}[i/3%2], fmt.Sprint("thing", i%7)), Value: fmt.Appendf(nil, "value %d", i),
			Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}},
		}, nil)
	}
	require.NoError(t, log.Flush(t.Context()))
}

// verified waits until the chains have n records, and verifies them.
func verified(t *testing.T, log *eventlog.Log, n int) []*auditchain.Verification {
	t.Helper()
	var found []*auditchain.Verification
	require.Eventually(t, func() bool {
		var err error
		found, _, err = auditchain.Verify(t.Context(), log, "", nil)
		require.NoError(t, err)
		total := uint64(0)
		for _, v := range found {
			total += v.Records
			require.Empty(t, v.Broken)
		}
		return total == uint64(n)
	}, 60*time.Second, 20*time.Millisecond)
	return found
}

// TestEachRecordIsChainedOnce stops the processor anywhere, and has two nodes hand the
// partitions over.
func TestEachRecordIsChainedOnce(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker, "")
		random, n := rand.New(rand.NewPCG(1, 2)), 0
		for round := range 6 {
			stop := start(t, log, fmt.Sprint("n", round%2))
			for range 3 {
				some := 1 + random.IntN(200)
				write(t, log, n, some)
				n += some
			}
			if round%3 == 0 {
				verified(t, log, n)
			}
			stop()
		}
		start(t, log, "n0")
		for _, v := range verified(t, log, n) {
			require.Zero(t, v.Unchained)
			require.Len(t, v.Head, 64)
		}
	})
}

// copied is what is on a log, to be changed and put on another one.
type copied map[eventlog.Topic]map[int32][]*kgo.Record

func copyOf(t *testing.T, log *eventlog.Log) copied {
	t.Helper()
	all := copied{}
	for _, topic := range append(slices.Clone(auditchain.Topics), eventlog.AuditChain) {
		all[topic] = map[int32][]*kgo.Record{}
		for partition := range log.Partitions(topic) {
			require.NoError(t, log.ReadPartition(t.Context(), topic, partition, func(r *kgo.Record) { all[topic][partition] = append(all[topic][partition], r) }))
		}
	}
	return all
}

// put writes the copy to a log, as somebody who can write everything would.
func (c copied) put(t *testing.T, log *eventlog.Log) {
	t.Helper()
	client, err := log.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	require.NoError(t, err)
	defer client.Close()
	for topic, partitions := range c {
		for partition, records := range partitions {
			for _, r := range records {
				again := &kgo.Record{Topic: log.Name(topic), Partition: partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
				require.NoError(t, client.ProduceSync(t.Context(), again).FirstErr())
			}
		}
	}
}

// TestTamperingIsFound copies a log with one thing changed: the verification says where,
// of the right tenant and topic, and of nothing else.
func TestTamperingIsFound(t *testing.T) {
	broker := enginetest.EmbeddedLog(t)
	log := open(t, broker, "")
	stop := start(t, log, "n")
	for round := range 4 {
		write(t, log, 60*round, 60)
		verified(t, log, 60*(round+1))
	}
	stop()
	_, heads, err := auditchain.Verify(t.Context(), log, "a", nil)
	require.NoError(t, err)
	catalog := func(c copied) []*kgo.Record { return c[eventlog.Catalog][0] }
	set := func(c copied, records []*kgo.Record) { c[eventlog.Catalog][0] = records }
	for i, tc := range []struct {
		name   string
		change func(c copied)
		says   string
	}{
		{"nothing", func(copied) {}, ""},
		{"a value", func(c copied) { catalog(c)[10].Value = []byte("value X") }, "not those that were written"},
		{"a header", func(c copied) { catalog(c)[10].Headers[0].Value = []byte("X") }, "not those that were written"},
		{"a time", func(c copied) { catalog(c)[10].Timestamp = catalog(c)[10].Timestamp.Add(time.Millisecond) }, "not those that were written"},
		{"whose it is", func(c copied) {
			catalog(c)[10].Key = bytes.Replace(catalog(c)[10].Key, []byte("thing"), []byte("thang"), 1)
		}, "not those that were written"},
		{"one removed", func(c copied) { set(c, slices.Delete(catalog(c), 10, 11)) }, ""},
		{"one put in", func(c copied) { set(c, slices.Insert(catalog(c), 10, catalog(c)[10])) }, ""},
		{"two that change places", func(c copied) { r := catalog(c); r[10], r[11] = r[11], r[10] }, "not those that were written"},
		{"the last removed", func(c copied) { set(c, catalog(c)[:len(catalog(c))-1]) }, "are gone"},
		{"a link removed", func(c copied) { links := c[eventlog.AuditChain]; links[0] = slices.Delete(links[0], 2, 3) }, "links were removed"},
		{"the chain cut off with what it vouches for", func(c copied) {
			cut := len(catalog(c)) / 2
			set(c, catalog(c)[:cut])
			c[eventlog.AuditChain][0] = slices.DeleteFunc(c[eventlog.AuditChain][0], func(r *kgo.Record) bool { return bytes.Contains(r.Key, []byte("catalog")) })
		}, "-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := copyOf(t, log)
			tc.change(c)
			other := open(t, broker, fmt.Sprint("copy", i))
			c.put(t, other)
			found, still, err := auditchain.Verify(t.Context(), other, "", nil)
			require.NoError(t, err)
			var broken []string
			for _, v := range found {
				if v.Broken != "" {
					broken = append(broken, v.Broken)
					require.True(t, v.Topic == eventlog.Catalog || tc.name == "a link removed", "%s %s", v.Topic, v.Broken)
				}
			}
			lost := 0
			for head := range heads {
				if !still[head] {
					lost++
				}
			}
			switch {
			case tc.name == "nothing":
				require.Empty(t, broken)
				require.Zero(t, lost)
			case tc.says == "-": // only heads that were noted down tell
				require.Empty(t, broken)
				require.Positive(t, lost)
			default:
				require.NotEmpty(t, broken)
				require.Contains(t, strings.Join(broken, "\n"), tc.says)
			}
		})
	}
}
