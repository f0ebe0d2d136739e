package projections_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
)

// wantSums waits until as many numbers were added up as the rows have, and wants the
// sums and the latest values to be those of the rows.
func (s *site) wantSums() {
	s.t.Helper()
	counted := func(table string) (n uint64) {
		require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT sum(count) FROM "+table+" WHERE tenant != ''").Scan(&n))
		return n
	}
	var numbers uint64
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT countIf(isNotNull(body.n.:Int64)) + countIf(isNotNull(body.n.:Float64)) FROM telemetry").Scan(&numbers))
	for _, table := range []string{"telemetry_1m", "telemetry_10m", "telemetry_1h"} {
		require.Eventually(s.t, func() bool {
			var n uint64
			return s.conn.QueryRow(s.t.Context(), "SELECT sum(count) FROM "+table+" WHERE tenant != '' AND path = 'n'").Scan(&n) == nil && n >= numbers
		}, patience, 10*time.Millisecond)
		for _, unit := range map[string][]string{"telemetry_1m": {"Minute", "Hour"}, "telemetry_10m": {"TenMinutes", "Hour"}, "telemetry_1h": {"Hour"}}[table] {
			wanted, ends := "", ""
			if table != "telemetry_1m" {
				wanted, ends = ", argMin(v, (ts, offset)), argMax(v, (ts, offset))", ", min(first).value, max(last).value"
			}
			require.Zero(s.t, s.differences(fmt.Sprintf(`
				SELECT tenant, device, component, module, toStartOf%s(ts) AS t, count(), countIf(v != 0), sum(v), min(v), max(v)%s
				FROM (SELECT *, ifNull(body.n.:Int64::Nullable(Float64), body.n.:Float64) AS v FROM telemetry) WHERE isNotNull(v) GROUP BY ALL`, unit, wanted), fmt.Sprintf(`
				SELECT tenant, device, component, module, toStartOf%s(ts) AS t, sum(count), sum(nonzero), sum(r.sum), min(r.min), max(r.max)%s
				FROM %s AS r WHERE tenant != '' AND path = 'n' GROUP BY ALL`, unit, ends, table)), "%s by %s", table, unit)
		}
	}
	require.Positive(s.t, counted("telemetry_1m"))
	require.Eventually(s.t, func() bool {
		return s.differences(`
		SELECT tenant, device, component, module, argMax(v, (ts, offset)), argMax(ts, (ts, offset))
		FROM (SELECT *, ifNull(body.n.:Int64::Nullable(Float64), body.n.:Float64) AS v FROM telemetry) WHERE isNotNull(v) GROUP BY ALL`, `
		SELECT tenant, device, component, module, max(last).number, max(last).ts
		FROM telemetry_latest WHERE path = 'n' GROUP BY ALL`) == 0
	}, patience, 10*time.Millisecond, "latest")
}

// differences counts the rows that one of the queries has and the other has not.
func (s *site) differences(a, b string) (n uint64) {
	s.t.Helper()
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), fmt.Sprintf("SELECT count() FROM ((%s) EXCEPT (%s) UNION ALL ((%[2]s) EXCEPT (%[1]s)))", a, b)).Scan(&n))
	return n
}

// TestSumsOfAnyOrder has devices send late, out of order, twice, from any year, from
// modules and components, in blocks of any size, with one of the tenants of another:
// the sums are those of the rows.
func TestSumsOfAnyOrder(t *testing.T) {
	eachSite(t, func(s *site) {
		random := rand.New(rand.NewPCG(1, 2))
		s.start(s.conn, projections.Options{})
		_, stop := s.startOf(projections.NewTelemetrySums, s.conn, projections.Options{BlockRows: 700, Linger: time.Millisecond})
		for range 6000 {
			n := s.appended
			at := s.began.Add(-time.Duration(random.IntN(3*3600)) * time.Second)
			switch {
			case random.IntN(3) == 0: // late
				at = at.Add(-time.Duration(random.IntN(48*3600)) * time.Second)
			case random.IntN(200) == 0: // or anything
				at = time.Date(1900+random.IntN(399), 5, 1, 0, 0, 0, 1e6, time.UTC)
			}
			source := fmt.Sprintf("/devices/d%d", n%5)
			if n%7 == 0 {
				source += "/modules/m"
			}
			r := eventlog.CloudEvent(s.log.Name(eventlog.Telemetry), fmt.Sprint(n), source, eventlog.TypeTelemetry, at,
				eventlog.ContentTypeJSON, eventlog.Key(fmt.Sprint("tenant", n%2), fmt.Sprint("d", n%5)), fmt.Appendf(nil, `{"n":%d.5,"text":"x","n":7}`, random.IntN(100)-50))
			r.Timestamp = time.Now() // the log's time; brokers want no other
			if n%3 == 0 {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: eventlog.HeaderSubject, Value: []byte("c")})
			}
			s.log.Append(t.Context(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			s.appended++
		}
		s.flush()
		s.wantRows(s.appended)
		s.wantSums()
		stop()
		require.NoError(t, s.conn.Exec(t.Context(), "OPTIMIZE TABLE telemetry_1m FINAL"))
		s.wantSums()
	})
}

// TestEveryFaultOfAnInsertAddsUpOnce lets every third insert of sums fail in one way.
func TestEveryFaultOfAnInsertAddsUpOnce(t *testing.T) {
	eachSite(t, func(s *site) {
		f := s.faulty()
		s.start(s.conn, projections.Options{})
		s.startOf(projections.NewTelemetrySums, s.connect(f.URL), projections.Options{BlockRows: 300, Linger: time.Millisecond})
		for name, fault := range s.faults() {
			n := f.everyThirdBy(fault)
			s.appendGood(3000)
			s.wantRows(s.appended)
			s.wantSums()
			require.Greater(t, n.Load(), int64(3), name)
		}
	})
}

// TestEveryCrashPointAddsUpOnce stops the projection of sums, as hard as a process can
// be stopped from inside, while an insert is in each of its states.
func TestEveryCrashPointAddsUpOnce(t *testing.T) {
	for name, fault := range map[string]func(*faulty, http.ResponseWriter, *http.Request){
		"announced, not inserted": hang, "inserted, not confirmed": hangAfter, "inserted, answer lost": lostAnswer, "ClickHouse is away": unavailable,
	} {
		t.Run(name, func(t *testing.T) {
			eachSite(t, func(s *site) {
				s.start(s.conn, projections.Options{})
				f := s.faulty()
				n := f.everyThirdBy(fault)
				for range 3 {
					s.appendGood(1000)
					before := n.Load()
					sums, stop := s.startOf(projections.NewTelemetrySums, s.connect(f.URL), projections.Options{BlockRows: 100, Linger: time.Millisecond})
					sums.SetGrace(0)
					require.Eventually(t, func() bool { return n.Load() > before+3 }, patience, time.Millisecond)
					stop()
				}
				_, stop := s.startOf(projections.NewTelemetrySums, s.conn, projections.Options{Linger: time.Millisecond})
				s.wantRows(s.appended)
				s.wantSums()
				stop()
			})
		})
	}
}
