package devicestate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, broker enginetest.Log) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	return log
}

// start runs f until stop is called, which waits for it.
func start(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); require.NoError(t, <-done) }) }
	t.Cleanup(stop)
	return stop
}

func startProcessor(t *testing.T, log *eventlog.Log, node string) (stop func()) {
	return start(t, New(log, node, quiet, prometheus.NewRegistry()).Run)
}

func startRegistry(t *testing.T, log *eventlog.Log) (*registry.Registry, func()) {
	r := registry.New(log, quiet)
	stop := start(t, r.Run)
	require.Eventually(t, func() bool { return r.Ready() == nil }, 20*time.Second, time.Millisecond)
	return r, stop
}

func register(id, name string) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{
		Id: eventlog.NewID(), Tenant: "default", Device: id, Time: timestamppb.Now(),
		Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{DisplayName: name, Enabled: true}},
	}
}

func rename(id, name string, version uint64) *eventsv1.DeviceEvent {
	ev := register(id, name)
	ev.Precondition = &eventsv1.Precondition{Version: &version}
	ev.Change = &eventsv1.DeviceEvent_Updated{Updated: &eventsv1.DeviceUpdated{DisplayName: &name}}
	return ev
}

func TestChangeIsDecidedByTheFoldAndReadAtOnce(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		stopProcessor := startProcessor(t, log, "n1")
		devices, stopRegistry := startRegistry(t, log)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		state, err := devices.Change(ctx, register("d", "one"))
		require.NoError(t, err)
		require.Equal(t, uint64(1), state.GetVersion())
		require.True(t, proto.Equal(state, devices.Get("default", "d")), "a change that returned can be read")
		state, err = devices.Change(ctx, rename("d", "two", 1))
		require.NoError(t, err)
		require.Equal(t, "two", state.GetDisplayName())

		var rejected *registry.RejectedError
		_, err = devices.Change(ctx, rename("d", "three", 1))
		require.ErrorAs(t, err, &rejected)
		require.Equal(t, eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH, rejected.Reason)
		_, err = devices.Change(ctx, rename("never", "x", 1))
		require.ErrorAs(t, err, &rejected)
		require.Equal(t, eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND, rejected.Reason)
		require.Nil(t, devices.Get("other", "d"), "another tenant does not see it")

		// Everything is rebuilt from the log.
		stopProcessor()
		stopRegistry()
		startProcessor(t, log, "n1")
		devices, _ = startRegistry(t, log)
		require.Equal(t, "two", devices.Get("default", "d").GetDisplayName())
		state, err = devices.Change(ctx, rename("d", "four", 2))
		require.NoError(t, err)
		require.Equal(t, uint64(3), state.GetVersion())
	})
}

// TestNoLostUpdate has 200 writers on each of two nodes race on a few devices with
// etags, through two processors of which one leaves on the way: each version is won
// once, and who loses is told that the device has changed.
func TestNoLostUpdate(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		stopFirst := startProcessor(t, log, "n1")
		startProcessor(t, log, "n2")
		here, _ := startRegistry(t, log)
		there, _ := startRegistry(t, log)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		const devices, writers = 5, 200
		for d := range devices {
			_, err := here.Change(ctx, register(fmt.Sprint("d", d), "0"))
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return len(there.List("default", "", devices)) == devices }, time.Minute, time.Millisecond)
		var all sync.WaitGroup
		var won [devices]versions
		for w := range 2 * writers {
			all.Go(func() {
				node := []*registry.Registry{here, there}[w%2]
				if version, err := winOnce(ctx, node, fmt.Sprint("d", w%devices), fmt.Sprint("writer ", w)); err != nil {
					t.Error(err)
				} else {
					won[w%devices].add(version)
				}
			})
		}
		stopFirst()
		all.Wait()
		for d := range devices {
			const each = 2 * writers / devices
			require.Len(t, won[d].times, each)
			for version, times := range won[d].times {
				require.Equal(t, 1, times, "version %d of d%d", version, d)
			}
			for _, node := range []*registry.Registry{here, there} {
				require.Eventually(t, func() bool { return node.Get("default", fmt.Sprint("d", d)).GetVersion() == 1+each }, time.Minute, time.Millisecond)
			}
			require.True(t, proto.Equal(here.Get("default", fmt.Sprint("d", d)), there.Get("default", fmt.Sprint("d", d))))
		}
	})
}

// versions counts how often each was won.
type versions struct {
	mu    sync.Mutex
	times map[uint64]int
}

func (v *versions) add(version uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.times == nil {
		v.times = map[uint64]int{}
	}
	v.times[version]++
}

// winOnce renames the device at the version it reads, until that succeeds.
func winOnce(ctx context.Context, node *registry.Registry, id, name string) (uint64, error) {
	for {
		version := node.Get("default", id).GetVersion()
		state, err := node.Change(ctx, rename(id, name, version))
		var rejected *registry.RejectedError
		switch {
		case errors.As(err, &rejected) && rejected.Reason == eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH:
		case err != nil:
			return 0, err
		case state.GetVersion() <= version:
			return 0, fmt.Errorf("version %d after version %d was changed", state.GetVersion(), version)
		default:
			return version, nil
		}
	}
}

func TestUnreadableEventGoesToTheDeadLetter(t *testing.T) {
	log := open(t, enginetest.EmbeddedLog(t))
	startProcessor(t, log, "n1")
	devices, _ := startRegistry(t, log)
	misplaced, err := proto.Marshal(register("other", "x"))
	require.NoError(t, err)
	for _, value := range [][]byte{[]byte("\xff\xff"), misplaced} {
		require.NoError(t, log.AppendSync(t.Context(), &kgo.Record{Topic: log.Name(eventlog.Devices), Key: eventlog.Key("default", "d"), Value: value}))
	}
	_, err = devices.Change(t.Context(), register("d", "after"))
	require.NoError(t, err, "the next event is folded as if nothing had been")

	client, err := log.NewClient(kgo.ConsumeTopics(log.Name(eventlog.DeadLetter)), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var dead []*kgo.Record
	for len(dead) < 2 {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		dead = append(dead, fetches.Records()...)
	}
	require.Equal(t, "\xff\xff", string(dead[0].Value), "as it came")
	require.Equal(t, stage, string(eventlog.Header(dead[0], eventlog.HeaderDeadStage)))
	require.Contains(t, string(eventlog.Header(dead[0], eventlog.HeaderDeadReason)), "not a DeviceEvent")
	require.Equal(t, log.Name(eventlog.Devices), string(eventlog.Header(dead[0], eventlog.HeaderDeadTopic)))
	require.Contains(t, string(eventlog.Header(dead[1], eventlog.HeaderDeadReason)), "record key")
}

func TestListPagesInOrderOfIDs(t *testing.T) {
	log := open(t, enginetest.EmbeddedLog(t))
	startProcessor(t, log, "n1")
	devices, _ := startRegistry(t, log)
	var all sync.WaitGroup
	for i := range 25 {
		all.Go(func() {
			_, err := devices.Change(t.Context(), register(fmt.Sprintf("d-%02d", i), ""))
			require.NoError(t, err)
		})
	}
	all.Wait()
	var ids []string
	after := ""
	for {
		page := devices.List("default", after, 10)
		for _, d := range page {
			require.True(t, device.Exists(d))
			ids = append(ids, d.GetDevice())
		}
		if len(page) < 10 {
			break
		}
		after = page[len(page)-1].GetDevice()
	}
	require.Len(t, ids, 25)
	require.IsIncreasing(t, ids)
}

// BenchmarkChange is one change from call to visible state on the embedded log
// with fsync: append, fold in a transaction, follow.
func BenchmarkChange(b *testing.B) {
	log, err := eventlog.Open(b.Context(), func() eventlog.Config {
		broker := enginetest.EmbeddedLog(b)
		return eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet}
	}())
	require.NoError(b, err)
	defer log.Close()
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	devices := registry.New(log, quiet)
	running.Go(func() { _ = devices.Run(ctx) })
	running.Go(func() { _ = New(log, "n1", quiet, prometheus.NewRegistry()).Run(ctx) })
	require.Eventually(b, func() bool { return devices.Ready() == nil }, 10*time.Second, time.Millisecond)
	for b.Loop() {
		_, err := devices.Change(b.Context(), register("d", "x"))
		require.NoError(b, err)
	}
}
