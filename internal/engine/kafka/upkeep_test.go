package kafka

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func produce(t *testing.T, c *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	require.NoError(t, c.ProduceSync(testContext(t), records...).FirstErr())
}

func TestReadCommittedHidesAborted(t *testing.T) {
	dir, ctx := t.TempDir(), testContext(t)
	b := startBroker(t, dir)
	c := newClient(t, b.Addr(), kgo.TransactionalID("writer"))
	createTopic(t, c, "a", nil)
	createTopic(t, c, "b", nil)
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		require.NoError(t, c.BeginTransaction())
		for _, topic := range []string{"a", "b"} {
			produce(t, c, &kgo.Record{Topic: topic, Value: fmt.Append(nil, end)})
		}
		require.NoError(t, c.EndTransaction(ctx, end))
	}
	check := func(addr string) {
		for _, topic := range []string{"a", "b"} {
			for _, r := range readAll(t, addr, topic, kgo.FetchIsolationLevel(kgo.ReadCommitted())) {
				require.Equal(t, "true", string(r.Value))
			}
			require.Len(t, readAll(t, addr, topic), 3)
		}
	}
	check(b.Addr())
	c.Close()
	require.NoError(t, b.Close())
	b = startBroker(t, dir)
	check(b.Addr())

	// An orderly close amid a transaction aborts it.
	c = newClient(t, b.Addr(), kgo.TransactionalID("writer"))
	require.NoError(t, c.BeginTransaction())
	produce(t, c, &kgo.Record{Topic: "a", Value: []byte("open")})
	require.NoError(t, b.Close())
	require.NoFileExists(t, filepath.Join(dir, cleanFile))
	b = startBroker(t, dir)
	require.Len(t, readAll(t, b.Addr(), "a", kgo.FetchIsolationLevel(kgo.ReadCommitted())), 2)
	after := newClient(t, b.Addr())
	produce(t, after, &kgo.Record{Topic: "a", Value: []byte("after")})
	require.Len(t, readAll(t, b.Addr(), "a", kgo.FetchIsolationLevel(kgo.ReadCommitted())), 3, "the open transaction holds up no reader")
}

// fillCompacted writes each of two keys 50 times, a batch each, and one key once.
func fillCompacted(t *testing.T, addr string) {
	t.Helper()
	c := newClient(t, addr)
	policy := "compact"
	createTopic(t, c, "state", map[string]*string{"cleanup.policy": &policy})
	produce(t, c, &kgo.Record{Topic: "state", Key: []byte("quiet"), Value: []byte("0"), Timestamp: time.Now().AddDate(-1, 0, 0)})
	for i := range 50 {
		for _, key := range []string{"x", "y"} {
			produce(t, c, &kgo.Record{Topic: "state", Key: []byte(key), Value: fmt.Append(nil, i)})
		}
	}
}

// latest folds the topic as a reader of state does.
func latest(t *testing.T, addr string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, r := range readAll(t, addr, "state", kgo.FetchIsolationLevel(kgo.ReadCommitted())) {
		values[string(r.Key)] = string(r.Value)
	}
	return values
}

var wantLatest = map[string]string{"quiet": "0", "x": "49", "y": "49"}

func eager(o *Options) { o.CompactAfter = 1 }

func TestStartCompacts(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, dir)
	fillCompacted(t, b.Addr())
	require.Len(t, readAll(t, b.Addr(), "state"), 101)
	require.NoError(t, b.Close())

	b = startBroker(t, dir)
	require.Len(t, readAll(t, b.Addr(), "state"), 101, "too little to be worth it")
	require.NoError(t, b.Close())

	for range 2 {
		b = startBroker(t, dir, eager)
		require.Equal(t, wantLatest, latest(t, b.Addr()))
		require.LessOrEqual(t, len(readAll(t, b.Addr(), "state")), 4)
		require.NoDirExists(t, filepath.Join(dir, backupDir))
		require.NoError(t, b.Close())
	}
}

// TestInterruptedCompactionIsUndone has the state a compaction leaves when it is
// killed after it has deleted the segments, and at the points around it.
func TestInterruptedCompactionIsUndone(t *testing.T) {
	parts := func(dir string) string { return filepath.Join(dir, logDir, partitionsDir) }
	for _, tc := range []struct {
		name    string
		killed  func(t *testing.T, dir string)
		records int
	}{
		{"while backing up", func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, backupDir+".new", "state-0"), 0o750))
		}, 101},
		{"segments deleted", func(t *testing.T, dir string) {
			require.NoError(t, linkTree(parts(dir), filepath.Join(dir, backupDir)))
			require.NoError(t, os.Remove(filepath.Join(parts(dir), "state-0", "0.dat")))
		}, 101},
		{"segments half written", func(t *testing.T, dir string) {
			require.NoError(t, linkTree(parts(dir), filepath.Join(dir, backupDir)))
			segment := filepath.Join(parts(dir), "state-0", "0.dat")
			content, err := os.ReadFile(segment)
			require.NoError(t, err)
			require.NoError(t, os.Remove(segment))
			require.NoError(t, os.WriteFile(segment, content[:100], 0o600))
		}, 101},
		{"backup half removed", func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, backupDir+".old", "state-1"), 0o750))
		}, 101},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			b := startBroker(t, dir)
			fillCompacted(t, b.Addr())
			require.NoError(t, b.Close())
			tc.killed(t, dir)
			require.NoError(t, os.Remove(filepath.Join(dir, cleanFile)))

			b = startBroker(t, dir)
			require.Len(t, readAll(t, b.Addr(), "state"), tc.records)
			require.Equal(t, wantLatest, latest(t, b.Addr()))
			require.NoError(t, b.Close())
			left, err := filepath.Glob(filepath.Join(dir, backupDir+"*"))
			require.NoError(t, err)
			require.Empty(t, left)
			b = startBroker(t, dir, eager)
			require.Equal(t, wantLatest, latest(t, b.Addr()))
		})
	}
}

func TestRetentionKeepsOffsetsAndForeverTopics(t *testing.T) {
	dir, ctx := t.TempDir(), testContext(t)
	b := startBroker(t, dir, func(o *Options) { o.RetentionEvery = 10 * time.Millisecond })
	c := newClient(t, b.Addr())
	day, forever, policy := "86400000", "-1", "compact"
	createTopic(t, c, "day", map[string]*string{"retention.ms": &day})
	createTopic(t, c, "forever", map[string]*string{"retention.ms": &forever})
	createTopic(t, c, "unset", nil)
	createTopic(t, c, "compacted", map[string]*string{"cleanup.policy": &policy})
	old := time.Now().AddDate(0, 0, -30)
	topics := []string{"day", "forever", "unset", "compacted"}
	for _, topic := range topics {
		for i := range 5 {
			produce(t, c, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Timestamp: old})
		}
	}
	admin := kadm.NewClient(c)
	start := func(topic string) int64 {
		offsets, err := admin.ListStartOffsets(ctx, topic)
		require.NoError(t, err)
		o, _ := offsets.Lookup(topic, 0)
		return o.Offset
	}
	require.Eventually(t, func() bool { return start("day") == 4 }, time.Minute, 5*time.Millisecond, "all but the last record expire")
	require.NoError(t, deleteExpired(ctx, b.Addr(), time.Now()))
	for _, topic := range topics[1:] {
		require.Zero(t, start(topic), topic)
	}
	// The next offset is the next one even after a crash.
	c.Close()
	require.NoError(t, b.Close())
	require.NoError(t, os.Remove(filepath.Join(dir, cleanFile)))
	b = startBroker(t, dir)
	c = newClient(t, b.Addr())
	r, err := c.ProduceSync(ctx, &kgo.Record{Topic: "day"}).First()
	require.NoError(t, err)
	require.Equal(t, int64(5), r.Offset)
}

func TestCloseEndsWithClientsConnected(t *testing.T) {
	b := startBroker(t, t.TempDir())
	c := newClient(t, b.Addr())
	createTopic(t, c, "records", nil)
	require.NoError(t, b.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, c.Ping(ctx))
}
