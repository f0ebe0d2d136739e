package projections_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
)

// faulty is a proxy before ClickHouse that does to inserts what it is told.
type faulty struct {
	*httptest.Server
	forward http.Handler
	// onInsert does what is to happen to an insert instead of forwarding it.
	mu       sync.Mutex
	onInsert func(f *faulty, w http.ResponseWriter, r *http.Request)
	inserts  atomic.Int64
}

func (s *site) faulty() *faulty {
	target, err := url.Parse("http://" + s.addr)
	require.NoError(s.t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	f := &faulty{forward: proxy}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		statement := r.URL.Query().Get("query")
		if !strings.HasPrefix(statement, "INSERT INTO ") || strings.Contains(statement, "schema_migrations") {
			proxy.ServeHTTP(w, r)
			return
		}
		f.inserts.Add(1)
		f.mu.Lock()
		do := f.onInsert
		f.mu.Unlock()
		if do == nil {
			proxy.ServeHTTP(w, r)
			return
		}
		do(f, w, r)
	}))
	s.t.Cleanup(f.Close)
	return f
}

func (f *faulty) set(do func(f *faulty, w http.ResponseWriter, r *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onInsert = do
}

// Faults of an insert.

// lostAnswer has the insert done and the connection broken.
func lostAnswer(f *faulty, _ http.ResponseWriter, r *http.Request) {
	f.forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// brokenBefore breaks the connection without the insert being done.
func brokenBefore(_ *faulty, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

func unavailable(_ *faulty, w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	http.Error(w, "bad gateway", http.StatusBadGateway)
}

// doneButFailed has the insert done and says it was not.
func doneButFailed(f *faulty, w http.ResponseWriter, r *http.Request) {
	f.forward.ServeHTTP(httptest.NewRecorder(), r)
	http.Error(w, "Code: 159. DB::Exception: Timeout exceeded. (TIMEOUT_EXCEEDED)", http.StatusInternalServerError)
}

// hang reads the insert and answers nothing until the client has gone.
func hang(_ *faulty, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// hangAfter has the insert done and answers nothing until the client has gone.
func hangAfter(f *faulty, _ http.ResponseWriter, r *http.Request) {
	f.forward.ServeHTTP(httptest.NewRecorder(), r)
	<-r.Context().Done()
}

var intoTable = regexp.MustCompile(`INSERT INTO (\w+)`)

// tokenOnly leaves ClickHouse as kill -9 between the token and the rows would:
// the token known, the rows not there. An insert of one other row does it.
func (s *site) tokenOnly(_ *faulty, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	insert := func(sql, token string) {
		query := url.Values{"database": {s.database}, "insert_deduplication_token": {token}, "query": {sql}}
		if resp, err := http.Post("http://"+s.addr+"/?"+query.Encode(), "", nil); err == nil {
			_ = resp.Body.Close()
		}
	}
	table := intoTable.FindStringSubmatch(r.URL.Query().Get("query"))[1]
	time := "enqueued_at"
	if table != "telemetry" {
		time = "ts"
	}
	insert(fmt.Sprintf("INSERT INTO %s (tenant, %s) SELECT 'nobody', fromUnixTimestamp64Milli(%d)", table, time, s.began.UnixMilli()), r.URL.Query().Get("insert_deduplication_token"))
	insert("DELETE FROM "+table+" WHERE tenant = 'nobody'", "")
	panic(http.ErrAbortHandler)
}

func (s *site) faults() map[string]func(*faulty, http.ResponseWriter, *http.Request) {
	return map[string]func(*faulty, http.ResponseWriter, *http.Request){
		"lost answer": lostAnswer, "broken before": brokenBefore, "unavailable": unavailable, "done but failed": doneButFailed, "token only": s.tokenOnly,
	}
}

// everyThirdBy has every third insert fail in one way, and counts them all.
func (f *faulty) everyThirdBy(fault func(*faulty, http.ResponseWriter, *http.Request)) *atomic.Int64 {
	n := new(atomic.Int64)
	f.set(func(f *faulty, w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 == 1 {
			fault(f, w, r)
			return
		}
		f.forward.ServeHTTP(w, r)
	})
	return n
}

// TestEveryFaultOfAnInsertGivesEachRowOnce lets every third insert fail in one way.
func TestEveryFaultOfAnInsertGivesEachRowOnce(t *testing.T) {
	eachSite(t, func(s *site) {
		f := s.faulty()
		metrics := prometheus.NewRegistry()
		_, stop := s.start(s.connect(f.URL), projections.Options{BlockRows: 500, Registerer: metrics})
		for name, fault := range s.faults() {
			n := f.everyThirdBy(fault)
			s.appendGood(3000)
			s.wantRows(s.appended)
			require.Greater(t, n.Load(), int64(3), name)
		}
		stop()
		require.Positive(t, counter(t, metrics, "fleetlog_projection_repaired_rows_total"), "rows whose token alone was there")
		require.Positive(t, counter(t, metrics, "fleetlog_projection_retries_total"))
		require.EqualValues(t, s.appended, counter(t, metrics, "fleetlog_projection_rows_total"))
	})
}

// counter is the value of a counter without labels of its own.
func counter(t *testing.T, metrics *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestEveryCrashPointGivesEachRowOnce stops a projection, as hard as a process
// can be stopped from inside, while an insert is in each of its states, and lets
// the next one go on.
func TestEveryCrashPointGivesEachRowOnce(t *testing.T) {
	for name, fault := range map[string]func(*faulty, http.ResponseWriter, *http.Request){
		"announced, not inserted":       hang,
		"inserted, not confirmed":       hangAfter,
		"inserted, answer lost":         lostAnswer,
		"announced, ClickHouse is away": unavailable,
	} {
		t.Run(name, func(t *testing.T) {
			eachSite(t, func(s *site) {
				f := s.faulty()
				f.set(fault)
				s.appendGood(2000)
				telemetry, stop := s.start(s.connect(f.URL), projections.Options{BlockRows: 300})
				telemetry.SetGrace(0)
				require.Eventually(t, func() bool { return f.inserts.Load() >= 3 }, patience, time.Millisecond)
				stop()
				s.appendGood(500)
				s.start(s.conn, projections.Options{BlockRows: 1000})
				s.wantRows(2500)
			})
		})
	}
}

func TestClickHouseAwayThenBack(t *testing.T) {
	eachSite(t, func(s *site) {
		f := s.faulty()
		s.start(s.connect(f.URL), projections.Options{BlockRows: 1000})
		s.appendGood(1000)
		s.wantRows(1000)
		f.set(unavailable)
		tried := f.inserts.Load()
		s.appendGood(20_000)
		require.Eventually(t, func() bool { return f.inserts.Load() > tried+5 }, patience, time.Millisecond)
		f.set(nil)
		s.wantRows(21_000)
	})
}

func (s *site) deadLetters() map[int64]string {
	reasons := map[int64]string{}
	for p := range s.log.Partitions(eventlog.DeadLetter) {
		require.NoError(s.t, s.log.ReadPartition(s.t.Context(), eventlog.DeadLetter, p, func(r *kgo.Record) {
			require.Equal(s.t, "project-telemetry", string(eventlog.Header(r, eventlog.HeaderDeadStage)))
			var n int64
			_, err := fmt.Sscan(string(eventlog.Header(r, eventlog.HeaderID)), &n)
			require.NoError(s.t, err)
			reasons[n] = string(eventlog.Header(r, eventlog.HeaderDeadReason))
		}))
	}
	return reasons
}

// TestPoisonAmongGoodRows: payloads that are no row go to the dead letter, also
// those that only ClickHouse finds bad, and hold nothing up.
func TestPoisonAmongGoodRows(t *testing.T) {
	eachSite(t, func(s *site) {
		// A rule of ClickHouse's own, which our check knows nothing of.
		_, stop := s.start(s.conn, projections.Options{})
		s.appendGood(1)
		s.wantRows(1)
		stop()
		require.NoError(t, s.conn.Exec(t.Context(), "ALTER TABLE telemetry ADD CONSTRAINT no_poison CHECK ifNull(body.poison::Nullable(String), '') = ''"))

		want := map[int64]string{}
		good := 1
		for n := 1; n < 3000; n++ {
			switch {
			case n%500 == 1:
				want[int64(n)] = "payload is not JSON at byte 1"
				s.append(`{x}`)
			case n%700 == 2:
				want[int64(n)] = "ClickHouse refuses the row"
				s.append(`{"poison":"yes"}`)
			default:
				good++
				s.append(`{"n":1}`)
			}
		}
		s.flush()
		s.start(s.conn, projections.Options{})
		s.wantRows(good)
		require.Eventually(t, func() bool { return len(s.deadLetters()) == len(want) }, patience, 20*time.Millisecond)
		for n, reason := range s.deadLetters() {
			require.Contains(t, reason, want[n], n)
			require.NotEmpty(t, want[n], n)
		}
		// Every record was decided on; the projection goes on.
		s.appendGood(100)
		s.wantRows(good + 100)
	})
}
