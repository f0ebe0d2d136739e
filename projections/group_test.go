package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
)

// childEnv tells a process of this test that it is a projector, and of what.
const childEnv = "FLEETLOG_TEST_PROJECTOR"

type child struct{ Kafka, Prefix, ClickHouse, Database string }

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := project(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// project projects until it is killed.
func project(spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	log, err := eventlog.Open(ctx, eventlog.Config{Brokers: []string{c.Kafka}, Prefix: c.Prefix, Logger: quiet()})
	if err != nil {
		return err
	}
	defer log.Close()
	conn, err := clickhouse.Open(ctx, clickhouse.Config{Addr: c.ClickHouse, Database: c.Database})
	if err != nil {
		return err
	}
	defer conn.Close()
	telemetry, err := projections.NewTelemetry(log, conn, projections.Options{Logger: quiet(), BlockRows: 200, Linger: 10 * time.Millisecond})
	if err != nil {
		return err
	}
	return telemetry.Run(ctx)
}

// startChild starts a projector in a process of its own.
func (s *site) startChild(clickHouse string) *exec.Cmd {
	s.t.Helper()
	spec, err := json.Marshal(child{Kafka: s.broker.Addr, Prefix: s.broker.TopicPrefix, ClickHouse: clickHouse, Database: s.database})
	require.NoError(s.t, err)
	self, err := os.Executable()
	require.NoError(s.t, err)
	cmd := exec.CommandContext(s.t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	require.NoError(s.t, cmd.Start())
	return cmd
}

// TestKilledProjectorIsReplaced: kill -9 while inserts are in flight. The next
// projector waits until the group has noticed, and takes over.
func TestKilledProjectorIsReplaced(t *testing.T) {
	eachSite(t, func(s *site) {
		f := s.faulty()
		s.appendGood(1000)
		victim := s.startChild(f.URL)
		require.Eventually(t, func() bool { rows, _ := s.count(); return rows > 0 }, patience, time.Millisecond)
		f.set(hangAfter)
		before := f.inserts.Load()
		s.appendGood(5000)
		require.Eventually(t, func() bool { return f.inserts.Load() >= before+3 }, patience, time.Millisecond)
		s.start(s.conn, projections.Options{})
		require.NoError(t, victim.Process.Kill())
		_ = victim.Wait()
		s.appendGood(1000)
		s.wantRows(7000)
	})
}

// TestRebalanceWhileDataFlows: projectors come and go.
func TestRebalanceWhileDataFlows(t *testing.T) {
	eachSite(t, func(s *site) {
		options := projections.Options{BlockRows: 200}
		_, stopFirst := s.start(s.conn, options)
		flow := func() {
			for range 20 {
				s.appendGood(200)
			}
		}
		flow()
		second, stopSecond := s.start(s.conn, options)
		flow()
		require.Eventually(t, func() bool { return second.Ready() == nil }, patience, time.Millisecond)
		flow()
		stopFirst()
		flow()
		s.wantRows(16_000)
		third, _ := s.start(s.conn, options)
		flow()
		require.Eventually(t, func() bool { return third.Ready() == nil }, patience, time.Millisecond)
		stopSecond()
		flow()
		s.wantRows(24_000)
	})
}

// TestARecreatedTopicIsAnotherTopic: its offsets begin anew, the deduplication
// tokens made of them must not match the old ones.
func TestARecreatedTopicIsAnotherTopic(t *testing.T) {
	addr, database := enginetest.ClickHouse(t)
	for round := range 2 {
		s := newSiteOn(t, enginetest.Log{Addr: enginetest.EmbeddedLog(t).Addr, TopicPrefix: "same."}, addr, database)
		s.appended = 1000 * round
		s.appendGood(1000)
		_, stop := s.start(s.conn, projections.Options{})
		s.wantRows(1000 * (round + 1))
		stop()
	}
}
