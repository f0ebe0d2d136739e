package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(runChild(dir))
	}
	goleak.VerifyTestMain(m)
}

// startBroker starts a broker on the directory; the test may close it before
// its end.
func startBroker(t *testing.T, dir string, change ...func(*Options)) *Broker {
	t.Helper()
	opts := Options{Addr: "127.0.0.1:0", DataDir: dir, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&opts)
	}
	b, err := Start(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func newClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func createTopic(t *testing.T, c *kgo.Client, name string, configs map[string]*string) {
	t.Helper()
	_, err := kadm.NewClient(c).CreateTopic(testContext(t), 2, -1, configs, name)
	require.NoError(t, err)
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// readAll reads partition 0 of the topic from its start to its end.
func readAll(t *testing.T, addr, topic string, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	ctx := testContext(t)
	c := newClient(t, addr, append([]kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().AtStart()},
	}), kgo.KeepControlRecords()}, opts...)...)
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	require.NoError(t, err)
	starts, err := kadm.NewClient(c).ListStartOffsets(ctx, topic)
	require.NoError(t, err)
	end, _ := ends.Lookup(topic, 0)
	start, _ := starts.Lookup(topic, 0)
	var records []*kgo.Record
	for next := start.Offset; next < end.Offset; {
		fetches := c.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
	return records
}

func TestStartRefusesAddress(t *testing.T) {
	for _, tc := range []struct {
		name, addr string
		notLoop    bool
	}{
		{"all interfaces", ":9092", true},
		{"all interfaces, spelled out", "0.0.0.0:9092", true},
		{"IPv6 all interfaces", "[::]:9092", true},
		{"another host", "192.0.2.1:9092", true},
		{"a name", "kafka.example.com:9092", true},
		{"no port", "127.0.0.1", false},
		{"port out of range", "127.0.0.1:70000", false},
		{"port not a number", "127.0.0.1:kafka", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Start(Options{Addr: tc.addr, DataDir: t.TempDir()})
			require.Error(t, err)
			require.Equal(t, tc.notLoop, errors.Is(err, ErrNotLoopback), "%v", err)
		})
	}
}

func TestStartTakesLocalhost(t *testing.T) {
	b := startBroker(t, t.TempDir(), func(o *Options) { o.Addr = "localhost:0" })
	require.NoError(t, newClient(t, b.Addr()).Ping(testContext(t)))
}

func TestStartSaysPortIsTaken(t *testing.T) {
	b := startBroker(t, t.TempDir())
	_, err := Start(Options{Addr: b.Addr(), DataDir: t.TempDir()})
	require.ErrorContains(t, err, b.Addr())
	var opErr *net.OpError
	require.ErrorAs(t, err, &opErr)
}

func TestOneBrokerADirectory(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, dir)
	_, err := Start(Options{Addr: "127.0.0.1:0", DataDir: dir})
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, b.Close())
	startBroker(t, dir)
}

// TestRestartKeepsEverything guards what the rest of Fleetlog reads back after a
// restart: records, committed offsets with their metadata (the projections'
// ledger), topic settings, and the producer state that makes a retry idempotent.
func TestRestartKeepsEverything(t *testing.T) {
	dir, ctx := t.TempDir(), testContext(t)
	b := startBroker(t, dir)
	c := newClient(t, b.Addr(), kgo.TransactionalID("writer"))
	retention := "-1"
	createTopic(t, c, "records", map[string]*string{"retention.ms": &retention})
	require.NoError(t, c.BeginTransaction())
	for i := range 100 {
		require.NoError(t, c.ProduceSync(ctx, &kgo.Record{Topic: "records", Value: fmt.Append(nil, i)}).FirstErr())
	}
	require.NoError(t, c.EndTransaction(ctx, kgo.TryCommit))
	pid, epoch, err := c.ProducerID(ctx)
	require.NoError(t, err)
	offsets := kadm.Offsets{}
	ledger := `{"first":40,"last":59,"token":"é"}`
	offsets.Add(kadm.Offset{Topic: "records", Partition: 0, At: 40, LeaderEpoch: -1, Metadata: ledger})
	require.NoError(t, kadm.NewClient(c).CommitAllOffsets(ctx, "project", offsets))
	c.Close()
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "closing again is harmless")

	b = startBroker(t, dir)
	records := readAll(t, b.Addr(), "records", kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	require.Len(t, records, 100)
	require.Equal(t, "99", string(records[99].Value))
	c = newClient(t, b.Addr(), kgo.TransactionalID("writer"))
	admin := kadm.NewClient(c)
	committed, err := admin.FetchOffsets(ctx, "project")
	require.NoError(t, err)
	o, ok := committed.Lookup("records", 0)
	require.True(t, ok)
	require.Equal(t, int64(40), o.At)
	require.Equal(t, ledger, o.Metadata)
	configs, err := admin.DescribeTopicConfigs(ctx, "records")
	require.NoError(t, err)
	got, err := configs.On("records", nil)
	require.NoError(t, err)
	for _, kv := range got.Configs {
		if kv.Key == "retention.ms" {
			require.Equal(t, retention, kv.MaybeValue())
		}
	}
	require.NoError(t, c.BeginTransaction())
	require.NoError(t, c.ProduceSync(ctx, &kgo.Record{Topic: "records", Value: []byte("after")}).FirstErr())
	require.NoError(t, c.EndTransaction(ctx, kgo.TryCommit))
	pid2, epoch2, err := c.ProducerID(ctx)
	require.NoError(t, err)
	require.Equal(t, pid, pid2, "the transactional id keeps its producer")
	require.Greater(t, epoch2, epoch, "its older self is fenced")
}

func TestMessageLargerThanOneMebibyte(t *testing.T) {
	b := startBroker(t, t.TempDir())
	c := newClient(t, b.Addr(), kgo.ProducerBatchMaxBytes(4<<20))
	createTopic(t, c, "large", nil)
	require.NoError(t, c.ProduceSync(testContext(t), &kgo.Record{Topic: "large", Value: make([]byte, 1<<20)}).FirstErr())
	err := c.ProduceSync(testContext(t), &kgo.Record{Topic: "large", Value: make([]byte, 5<<20)}).FirstErr()
	require.ErrorIs(t, err, kerr.MessageTooLarge)
}

func TestBadLogSaysWhere(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, logDir), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, logDir, "meta.json"), []byte("not JSON"), 0o600))
	_, err := Start(Options{Addr: "127.0.0.1:0", DataDir: dir})
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "meta.json")
}
