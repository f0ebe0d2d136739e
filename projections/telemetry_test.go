package projections_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
)

// site is a log and a ClickHouse to project between.
type site struct {
	t        *testing.T
	broker   enginetest.Log
	log      *eventlog.Log
	addr     string // of ClickHouse
	database string
	conn     *clickhouse.Conn
	appended int
	// began is the time of the first message. It is of today, so that the log's
	// retention does not delete what a test still wants to read.
	began time.Time
}

const patience = 60 * time.Second

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func eachSite(t *testing.T, run func(*site)) {
	t.Helper()
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) { run(newSite(t, broker)) })
}

func newSite(t *testing.T, broker enginetest.Log) *site {
	t.Helper()
	addr, database := enginetest.ClickHouse(t)
	return newSiteOn(t, broker, addr, database)
}

func newSiteOn(t *testing.T, broker enginetest.Log, addr, database string) *site {
	t.Helper()
	s := &site{t: t, broker: broker, addr: addr, database: database, began: time.Now().Truncate(time.Millisecond)}
	var err error
	s.log, err = eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Partitions: 3, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(s.log.Close)
	s.conn = s.connect(s.addr)
	return s
}

func (s *site) connect(addr string) *clickhouse.Conn {
	s.t.Helper()
	conn, err := clickhouse.Open(s.t.Context(), clickhouse.Config{Addr: addr, Database: s.database})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, conn.Close()) })
	return conn
}

// event is the n-th message.
func (s *site) event(n int, body string) *kgo.Record {
	r := eventlog.CloudEvent(s.log.Name(eventlog.Telemetry), fmt.Sprint(n), "/test", eventlog.TypeTelemetry,
		s.began.Add(time.Duration(n)*time.Millisecond), eventlog.ContentTypeJSON, eventlog.Key("default", fmt.Sprintf("d%d", n%17)), []byte(body))
	return r
}

// appendGood appends n good messages.
func (s *site) appendGood(n int) {
	s.t.Helper()
	for range n {
		s.append(fmt.Sprintf(`{"n":%d}`, s.appended))
	}
	s.flush()
}

func (s *site) append(body string) {
	s.log.Append(s.t.Context(), s.event(s.appended, body), func(_ *kgo.Record, err error) {
		if err != nil {
			s.t.Error(err)
		}
	})
	s.appended++
}

func (s *site) flush() { require.NoError(s.t, s.log.Flush(s.t.Context())) }

// start runs the projection of telemetry until the returned function is called, or
// the test ends.
func (s *site) start(conn *clickhouse.Conn, options projections.Options) (*projections.Projection, func()) {
	s.t.Helper()
	return s.startOf(projections.NewTelemetry, conn, options)
}

// constructor is one of the package's.
type constructor func(*eventlog.Log, *clickhouse.Conn, projections.Options) (*projections.Projection, error)

// startOf is start for any projection.
func (s *site) startOf(construct constructor, conn *clickhouse.Conn, options projections.Options) (*projections.Projection, func()) {
	s.t.Helper()
	if options.Logger == nil {
		options.Logger = quiet()
	}
	if options.Linger == 0 {
		options.Linger = 20 * time.Millisecond
	}
	projection, err := construct(s.log, conn, options)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- projection.Run(ctx) }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(s.t, <-done)
		}
	}
	s.t.Cleanup(stop)
	return projection, stop
}

// count is the number of rows, and of different messages among them.
func (s *site) count() (rows, messages uint64) {
	err := s.conn.QueryRow(context.Background(), "SELECT count(), uniqExact(id) FROM telemetry WHERE tenant != 'nobody'").Scan(&rows, &messages)
	if err != nil {
		return 0, 0
	}
	return rows, messages
}

// wantRows waits until n messages have arrived and wants each to be there once.
func (s *site) wantRows(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { _, messages := s.count(); return messages >= uint64(n) }, patience, 10*time.Millisecond)
	rows, messages := s.count()
	require.EqualValues(s.t, n, messages)
	require.Equal(s.t, messages, rows, "none twice")
}

func TestRowsArrive(t *testing.T) {
	eachSite(t, func(s *site) {
		telemetry, _ := s.start(s.conn, projections.Options{})
		require.Eventually(t, func() bool { return telemetry.Ready() == nil }, patience, time.Millisecond)
		r := s.event(0, `{"temperature":21.5,"deep":{"a":[1,2]}}`)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: eventlog.HeaderSubject, Value: []byte("thermostat1")},
			kgo.RecordHeader{Key: eventlog.HeaderProperties, Value: []byte("a=1&b=x%20y")})
		require.NoError(t, s.log.AppendSync(t.Context(), r))
		s.appended++
		s.wantRows(1)

		var tenant, device, component, id, body string
		var ts, enqueued time.Time
		var properties map[string]string
		var temperature float64
		var partition int32
		var offset int64
		require.NoError(t, s.conn.QueryRow(t.Context(), `SELECT tenant, device, ts, component, toString(body), body.temperature::Float64, properties, id, enqueued_at, partition, offset FROM telemetry`).
			Scan(&tenant, &device, &ts, &component, &body, &temperature, &properties, &id, &enqueued, &partition, &offset))
		require.Equal(t, []any{"default", "d0", "thermostat1", "0", `{"deep":{"a":[1,2]},"temperature":21.5}`, 21.5},
			[]any{tenant, device, component, id, body, temperature})
		require.Equal(t, map[string]string{"a": "1", "b": "x y"}, properties)
		require.Equal(t, r.Timestamp.UTC(), ts.UTC())
		require.Equal(t, r.Timestamp.UTC(), enqueued.UTC())
		require.Equal(t, r.Partition, partition)
		require.Equal(t, r.Offset, offset)

		s.appendGood(5000)
		s.wantRows(5001)
	})
}

// TestAStopConfirmsWhatIsDone: nothing is left to be checked by who comes next,
// and the group has no member that others would wait for.
func TestAStopConfirmsWhatIsDone(t *testing.T) {
	eachSite(t, func(s *site) {
		for _, node := range []string{"", "node-1"} {
			s.appendGood(1000)
			telemetry, stop := s.start(s.conn, projections.Options{Node: node})
			s.wantRows(s.appended)
			stop()
			require.Error(t, telemetry.Ready())
			committed, err := s.log.Admin().FetchOffsets(t.Context(), s.log.Group("project-telemetry"))
			require.NoError(t, err)
			total := int64(0)
			committed.Each(func(o kadm.OffsetResponse) {
				require.Empty(t, o.Metadata)
				total += o.At
			})
			require.EqualValues(t, s.appended, total)
			groups, err := s.log.Admin().DescribeGroups(t.Context(), s.log.Group("project-telemetry"))
			require.NoError(t, err)
			require.Empty(t, groups[s.log.Group("project-telemetry")].Members, node)
		}
	})
}

func TestRestartGoesOn(t *testing.T) {
	eachSite(t, func(s *site) {
		for round := range 3 {
			s.appendGood(1000)
			_, stop := s.start(s.conn, projections.Options{BlockRows: 100})
			s.wantRows(1000 * (round + 1))
			stop()
		}
	})
}
