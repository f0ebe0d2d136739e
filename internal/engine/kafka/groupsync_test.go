package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func startSynced(t *testing.T) (*Broker, *kgo.Client) {
	t.Helper()
	broker, err := Start(Options{Addr: "127.0.0.1:0", DataDir: t.TempDir(), SyncWrites: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = broker.Close() })
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(5*time.Second))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	createTopic(t, client, "t", nil)
	return broker, client
}

func TestNoAcknowledgementBeforeTheDisk(t *testing.T) {
	broker, client := startSynced(t)
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("1")}).FirstErr())
	// Somebody makes a pass that does not end.
	broker.disk.mu.Lock()
	for broker.disk.busy {
		broker.disk.change.Wait()
	}
	broker.disk.busy = true
	asked := broker.disk.asked
	broker.disk.mu.Unlock()
	acked := make(chan error, 1)
	client.Produce(t.Context(), &kgo.Record{Topic: "t", Value: []byte("2")}, func(_ *kgo.Record, err error) { acked <- err })
	require.Eventually(t, func() bool {
		broker.disk.mu.Lock()
		defer broker.disk.mu.Unlock()
		return broker.disk.asked > asked
	}, 5*time.Second, time.Millisecond)
	select {
	case err := <-acked:
		require.Fail(t, "acknowledged before it was on disk", "%v", err)
	default:
	}
	broker.disk.mu.Lock()
	broker.disk.busy = false
	broker.disk.change.Broadcast()
	broker.disk.mu.Unlock()
	require.NoError(t, <-acked)
	for _, d := range broker.disk.dirs {
		for name, f := range d.files {
			stat, err := os.Stat(filepath.Join(d.path, name))
			require.NoError(t, err)
			require.Equal(t, stat.Size(), f.size, "%s is on disk whole", name)
		}
	}
}

func TestNothingIsAcknowledgedOnADiskThatFails(t *testing.T) {
	broker, client := startSynced(t)
	broker.disk.mu.Lock()
	broker.disk.failed = errors.New("input/output error")
	broker.disk.mu.Unlock()
	require.Error(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("1")}).FirstErr())
	require.ErrorContains(t, broker.Close(), "input/output error", "an unclean end is told")
}

// TestPassFindsWhatIsNew follows a directory through new partitions, grown and
// rolled segments, and deletions.
func TestPassFindsWhatIsNew(t *testing.T) {
	root := t.TempDir()
	partition := filepath.Join(root, "partitions", "t-0")
	require.NoError(t, os.MkdirAll(partition, 0o700))
	write := func(name, content string) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(content)
		require.NoError(t, errors.Join(err, f.Close()))
	}
	s := newGroupSync(root, slog.New(slog.DiscardHandler))
	sizes := func(dir string) map[string]int64 {
		t.Helper()
		require.NoError(t, s.wait())
		found := map[string]int64{}
		if d := s.dirs[dir]; d != nil {
			for name, f := range d.files {
				found[name] = f.size
			}
		}
		return found
	}
	write(filepath.Join(root, "groups.log"), "x")
	write(filepath.Join(partition, "0.dat"), "abc")
	write(filepath.Join(partition, "0.idx"), "i")
	write(filepath.Join(partition, "snapshot.json"), "{}")
	require.Equal(t, map[string]int64{"0.dat": 3, "0.idx": 1}, sizes("t-0"))
	require.Equal(t, int64(1), s.top.files["groups.log"].size)
	write(filepath.Join(partition, "0.dat"), "def")
	require.Equal(t, int64(6), sizes("t-0")["0.dat"])
	for i := 1; i <= 20; i++ { // within one step of the file system's clock
		write(filepath.Join(partition, fmt.Sprintf("%d.dat", i*7)), "new")
		write(filepath.Join(partition, fmt.Sprintf("%d.idx", i*7)), "i")
		require.Equal(t, map[string]int64{fmt.Sprintf("%d.dat", i*7): 3, fmt.Sprintf("%d.idx", i*7): 1}, sizes("t-0"), "only the newest segment changes")
	}
	require.NoError(t, os.Mkdir(filepath.Join(root, "partitions", "u-0"), 0o700))
	write(filepath.Join(root, "partitions", "u-0", "0.dat"), "u")
	require.Equal(t, map[string]int64{"0.dat": 1}, sizes("u-0"))
	require.NoError(t, os.RemoveAll(partition))
	require.Empty(t, sizes("t-0"))
	require.NoError(t, s.close())
}

func TestManyWaitForOnePass(t *testing.T) {
	s := newGroupSync(t.TempDir(), slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 100 {
				if err := s.wait(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, s.asked, s.done)
	require.NoError(t, s.close())
}

// FuzzRequestHeads cuts a stream of requests at any place: the heads are found all
// the same, and nothing a client sends breaks the connection's bookkeeping.
func FuzzRequestHeads(f *testing.F) {
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 7, 1}, uint8(3))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		near, far := net.Pipe()
		defer near.Close()
		c := &durableConn{Conn: near}
		go func() {
			defer far.Close()
			step := int(cut)%64 + 1
			for rest := stream; len(rest) > 0; {
				n, err := far.Write(rest[:min(step, len(rest))])
				if err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		_, _ = io.Copy(io.Discard, readOnly{c})
		var want []int32
		for rest := stream; len(rest) >= headBytes; {
			want = append(want, int32(binary.BigEndian.Uint32(rest[8:])))
			whole := max(int64(binary.BigEndian.Uint32(rest))+4, headBytes)
			rest = rest[min(whole, int64(len(rest))):]
		}
		want = want[max(len(want)-maxWaiting, 0):]
		got := make([]int32, 0, len(want))
		for _, head := range c.waiting {
			got = append(got, head.correlation)
		}
		require.ElementsMatch(t, want, got)
	})
}

type readOnly struct{ io.Reader }
