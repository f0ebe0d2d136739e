package kafka

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// childEnv makes the test binary run a broker on the directory it names, until
// it is killed.
const childEnv = "FLEETLOG_TEST_KAFKA_CHILD_DIR"

func runChild(dir string) int {
	b, err := Start(Options{Addr: "127.0.0.1:0", DataDir: dir, SyncWrites: true, CompactAfter: 1, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(b.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent, should it die first
	return 0
}

// child is a broker in a process that can be killed.
type child struct {
	addr string
	kill func()
}

func startChild(t *testing.T, dir string) child {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	_, err = cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var once sync.Once
	kill := func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	t.Cleanup(kill)
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, "the child broker did not start")
	return child{strings.TrimSpace(addr), kill}
}

// TestKillKeepsAcknowledgedRecords kills the broker under load, again and again
// on the same directory.
func TestKillKeepsAcknowledgedRecords(t *testing.T) {
	dir := t.TempDir()
	var acked sync.Map
	var sent atomic.Int64
	for round := range 4 {
		broker := startChild(t, dir)
		c := newClient(t, broker.addr, kgo.RecordRetries(2), kgo.RequestRetries(1), kgo.ProducerLinger(time.Millisecond))
		if round == 0 {
			createTopic(t, c, "records", nil)
		}
		ctx, cancel := context.WithCancel(testContext(t))
		target, count := 5_000+rand.Int64N(20_000), atomic.Int64{}
		enough := make(chan struct{})
		var producer sync.WaitGroup
		producer.Go(func() {
			for ctx.Err() == nil {
				value := strconv.FormatInt(sent.Add(1), 10)
				c.Produce(ctx, &kgo.Record{Topic: "records", Value: []byte(value)}, func(_ *kgo.Record, err error) {
					if err != nil {
						return
					}
					acked.Store(value, true)
					if count.Add(1) == target {
						close(enough)
					}
				})
			}
		})
		<-enough
		broker.kill()
		cancel()
		producer.Wait()
		c.Close()
	}
	b := startBroker(t, dir)
	kept := map[string]bool{}
	for _, r := range readAll(t, b.Addr(), "records") {
		kept[string(r.Value)] = true
	}
	lost, total := 0, 0
	acked.Range(func(value, _ any) bool {
		total++
		if !kept[value.(string)] {
			lost++
		}
		return true
	})
	require.Zero(t, lost, "of %d acknowledged records", total)
	t.Logf("%d acknowledged, %d on the log", total, len(kept))
}

// TestKillLeavesTransactionsWhole kills the broker amid transactions that read
// one topic and write two: what is committed must agree in both topics and in the
// group's offset, and every input must come out once.
func TestKillLeavesTransactionsWhole(t *testing.T) {
	const inputs = 250
	dir := t.TempDir()
	broker := startChild(t, dir)
	c := newClient(t, broker.addr)
	for _, topic := range []string{"in", "out-a", "out-b"} {
		createTopic(t, c, topic, nil)
	}
	for i := range inputs {
		require.NoError(t, c.ProduceSync(testContext(t), &kgo.Record{Topic: "in", Value: fmt.Append(nil, i)}).FirstErr())
	}
	c.Close()
	kills := 0
	for done := false; !done; {
		done = transactUntil(t, broker, inputs, 1+rand.Int64N(20))
		broker.kill()
		kills++
		a := startBroker(t, dir)
		checkWhole(t, a.Addr())
		require.NoError(t, a.Close())
		if !done {
			broker = startChild(t, dir)
		}
	}
	t.Logf("killed %d times", kills)
}

func checkWhole(t *testing.T, addr string) {
	t.Helper()
	values := func(topic string) []string {
		var v []string
		for _, r := range readAll(t, addr, topic, kgo.FetchIsolationLevel(kgo.ReadCommitted())) {
			v = append(v, string(r.Value))
		}
		return v
	}
	a, b := values("out-a"), values("out-b")
	c := newClient(t, addr)
	defer c.Close()
	offsets, err := kadm.NewClient(c).FetchOffsets(testContext(t), "stage")
	require.NoError(t, err)
	var at int64
	if o, ok := offsets.Lookup("in", 0); ok {
		at = max(o.At, 0)
	}
	want := make([]string, at)
	for i := range want {
		want[i] = strconv.Itoa(i)
	}
	require.Equal(t, want, append([]string{}, a...), "out-a against the group's offset")
	require.Equal(t, want, append([]string{}, b...), "out-b against the group's offset")
}

// transactUntil copies in to out-a and out-b, a few records a transaction, until
// all are through (true), or the broker is killed amid the given transaction
// (false).
func transactUntil(t *testing.T, broker child, inputs, killIn int64) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(broker.addr), kgo.ConsumerGroup("stage"), kgo.ConsumeTopics("in"),
		kgo.TransactionalID("stage"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ProducerLinger(0), kgo.RequestRetries(1), kgo.RecordRetries(1),
		kgo.RetryTimeout(time.Second), kgo.MaxConcurrentFetches(1), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	defer s.Close()
	for n := int64(1); ; n++ {
		fetches := s.PollRecords(ctx, 3)
		if ctx.Err() != nil {
			return false
		}
		require.NoError(t, fetches.Err())
		require.NoError(t, s.Begin())
		var last int64
		fetches.EachRecord(func(r *kgo.Record) {
			last = r.Offset
			for _, topic := range []string{"out-a", "out-b"} {
				s.Produce(ctx, &kgo.Record{Topic: topic, Value: r.Value}, func(*kgo.Record, error) {})
			}
		})
		if n == killIn {
			// From the first append to some time after the end.
			time.AfterFunc(time.Duration(rand.Int64N(int64(6*time.Millisecond))), func() {
				broker.kill()
				cancel()
			})
		}
		committed, err := s.End(ctx, kgo.TryCommit)
		if err != nil {
			require.Error(t, ctx.Err(), "%v", err)
			return false
		}
		if committed && last == inputs-1 {
			return true
		}
	}
}
