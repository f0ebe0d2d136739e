package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, broker enginetest.Log, change ...func(*eventlog.Config)) *eventlog.Log {
	t.Helper()
	cfg := eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	log, err := eventlog.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(log.Close)
	return log
}

func TestTopicsAreMadeOnceAndKeepTheirPartitions(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker, func(c *eventlog.Config) { c.Partitions = 3 })
		require.EqualValues(t, 3, log.Partitions(eventlog.Telemetry))
		again := open(t, broker, func(c *eventlog.Config) { c.Partitions = 7; c.TelemetryRetention = time.Hour })
		require.EqualValues(t, 3, again.Partitions(eventlog.Telemetry), "a key keeps its partition")
		configs, err := again.Admin().DescribeTopicConfigs(t.Context(), log.Name(eventlog.Telemetry), log.Name(eventlog.DeviceState), log.Name(eventlog.Devices))
		require.NoError(t, err)
		value := func(topic eventlog.Topic, key string) string {
			rc, err := configs.On(log.Name(topic), nil)
			require.NoError(t, err)
			for _, c := range rc.Configs {
				if c.Key == key {
					return c.MaybeValue()
				}
			}
			return ""
		}
		require.Equal(t, "3600000", value(eventlog.Telemetry, "retention.ms"), "the setting follows the configuration")
		require.Equal(t, "-1", value(eventlog.Devices, "retention.ms"))
		require.Equal(t, "compact", value(eventlog.DeviceState, "cleanup.policy"))
	})
}

func TestAppendKeepsTheOrderOfAKey(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		const keys, each = 5, 2000
		var mu sync.Mutex
		acked := map[string][]string{}
		for i := range keys * each {
			key := fmt.Sprintf("t/%d", i%keys)
			log.Append(t.Context(), &kgo.Record{Topic: log.Name(eventlog.Telemetry), Key: []byte(key), Value: fmt.Append(nil, i)}, func(r *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				require.NoError(t, err)
				acked[string(r.Key)] = append(acked[string(r.Key)], string(r.Value))
			})
		}
		require.NoError(t, log.Flush(t.Context()))
		read := map[string][]string{}
		for p := range log.Partitions(eventlog.Telemetry) {
			require.NoError(t, log.ReadPartition(t.Context(), eventlog.Telemetry, p, func(r *kgo.Record) {
				read[string(r.Key)] = append(read[string(r.Key)], string(r.Value))
			}))
		}
		require.Len(t, read, keys)
		require.Equal(t, acked, read, "acknowledged in the order they stand on the log")
	})
}

func TestFollowCatchesUpAndGoesOn(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		write := func(n int) {
			require.NoError(t, log.AppendSync(t.Context(), &kgo.Record{Topic: log.Name(eventlog.DeviceState), Key: eventlog.Key("t", "d"), Value: fmt.Append(nil, n)}))
		}
		for n := range 10 {
			write(n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var applied atomic.Int64
		caughtUp := make(chan int64, 1)
		done := make(chan error, 1)
		go func() {
			done <- log.Follow(ctx, eventlog.DeviceState, func(*kgo.Record) { applied.Add(1) }, func() { caughtUp <- applied.Load() })
		}()
		require.EqualValues(t, 10, <-caughtUp)
		write(10)
		require.Eventually(t, func() bool { return applied.Load() == 11 }, 10*time.Second, time.Millisecond)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestFollowOfAnEmptyTopicIsCaughtUpAtOnce(t *testing.T) {
	log := open(t, enginetest.EmbeddedLog(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Follow(ctx, eventlog.DeviceState, func(*kgo.Record) {}, cancel) }()
	require.NoError(t, <-done)
}

// TestTransactIsExactlyOnce has a stage fail now and then after it has appended:
// nothing of a failed batch is seen, and everything is handled in the end.
func TestTransactIsExactlyOnce(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		const n = 300
		for i := range n {
			require.NoError(t, log.AppendSync(t.Context(), &kgo.Record{Topic: log.Name(eventlog.Devices), Key: fmt.Appendf(nil, "t/%d", i%7), Value: fmt.Append(nil, i)}))
		}
		var loads, batches atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- log.Transact(ctx, "node", eventlog.Stage{
				Name: "stage", Topic: eventlog.Devices,
				Load: func(context.Context, int32) error { loads.Add(1); return nil },
				Handle: func(_ context.Context, partition int32, batch []*kgo.Record) ([]*kgo.Record, error) {
					var out []*kgo.Record
					for _, r := range batch {
						out = append(out, &kgo.Record{Topic: log.Name(eventlog.DeviceState), Partition: partition, Key: r.Key, Value: r.Value})
					}
					if batches.Add(1) <= 2 {
						return nil, errors.New("a fault")
					}
					return out, nil
				},
			})
		}()
		seen := func() map[string]int {
			seen := map[string]int{}
			for p := range log.Partitions(eventlog.DeviceState) {
				require.NoError(t, log.ReadPartition(t.Context(), eventlog.DeviceState, p, func(r *kgo.Record) { seen[string(r.Value)]++ }))
			}
			return seen
		}
		require.Eventually(t, func() bool { return len(seen()) == n }, 60*time.Second, 50*time.Millisecond)
		for value, times := range seen() {
			require.Equal(t, 1, times, value)
		}
		require.Greater(t, loads.Load(), int64(log.Partitions(eventlog.Devices)), "state is loaded again after a failure")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestDeadLetterKeepsTheRecordAndItsOrigin(t *testing.T) {
	log := open(t, enginetest.EmbeddedLog(t))
	origin := &kgo.Record{Topic: "somewhere", Partition: 2, Offset: 42, Key: []byte("t/d"), Value: []byte("\x00bad"), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("1")}}}
	require.NoError(t, log.DeadLetter(t.Context(), origin, "stage", string(make([]byte, 5000))))
	var got []*kgo.Record
	for p := range log.Partitions(eventlog.DeadLetter) {
		require.NoError(t, log.ReadPartition(t.Context(), eventlog.DeadLetter, p, func(r *kgo.Record) { got = append(got, r) }))
	}
	require.Len(t, got, 1)
	require.Equal(t, origin.Key, got[0].Key)
	require.Equal(t, origin.Value, got[0].Value)
	require.Equal(t, "1", string(eventlog.Header(got[0], "ce_id")))
	require.Equal(t, "somewhere", string(eventlog.Header(got[0], eventlog.HeaderDeadTopic)))
	require.Equal(t, "42", string(eventlog.Header(got[0], eventlog.HeaderDeadOffset)))
	require.LessOrEqual(t, len(eventlog.Header(got[0], eventlog.HeaderDeadReason)), 1024, "a reason is bounded")
}

func TestKeys(t *testing.T) {
	tenant, id, ok := eventlog.SplitKey(eventlog.Key("default", "d:1"))
	require.True(t, ok)
	require.Equal(t, "default d:1", string(tenant)+" "+string(id))
	for _, bad := range []string{"", "x", "/x", "x/"} {
		_, _, ok := eventlog.SplitKey([]byte(bad))
		require.False(t, ok, bad)
	}
}

func TestOpenSaysWhereItFailed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := eventlog.Open(ctx, eventlog.Config{Brokers: []string{"127.0.0.1:1"}, Logger: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "127.0.0.1:1")
}
