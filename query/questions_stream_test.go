package query

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fillMeters writes messages of 100 meters, one a second each.
func (a *api) fillMeters(messages int) {
	a.t.Helper()
	require.NoError(a.t, a.db.Exec(a.t.Context(), fmt.Sprintf(`INSERT INTO telemetry (tenant, device, ts, body, enqueued_at, partition, offset)
		SELECT 'default', concat('m-', leftPad(toString(number %% 100), 4, '0')), fromUnixTimestamp64Milli(1795435200000 + intDiv(number, 100) * 1000, 'UTC'),
			concat('{"level":', toString(number %% 1000 / 10), ',"count":', toString(number), '}')::JSON, now64(3), 0, number FROM numbers(%d)`, messages)))
}

// post sends a query; the caller closes the answer's body.
func (a *api) post(ctx context.Context, body string) *http.Response {
	a.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/api/query", strings.NewReader(body))
	require.NoError(a.t, err)
	req.Header.Set("Authorization", a.token)
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(a.t, err)
	return resp
}

// TestClickHouseStopsWhenTheCallerGoesAway: a statement of many seconds is there,
// and ends with its caller.
func TestClickHouseStopsWhenTheCallerGoesAway(t *testing.T) {
	a := meters(t, 1)
	running := func() (n uint64) {
		require.NoError(t, a.db.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number) = 9%' AND query NOT LIKE '%system.processes%'").Scan(&n))
		return n
	}
	s := &queryService{db: a.db, limits: questionLimits, gate: newTurnstile(1)}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	ended := make(chan error, 1)
	go func() {
		p := answerPlan{plan: plan{sql: "SELECT count() FROM numbers(9000000000) WHERE sipHash64(number) = 9"}}
		ended <- s.stream(ctx, p, "JSONEachRow", func(rows io.Reader) error { _, err := io.Copy(io.Discard, rows); return err })
	}()
	require.Eventually(t, func() bool { return running() == 1 }, 10*time.Second, 10*time.Millisecond)
	leave()
	require.Equal(t, codes.Canceled, status.Code(<-ended))
	require.Eventually(t, func() bool { return running() == 0 }, 10*time.Second, 10*time.Millisecond)
	require.Empty(t, s.gate.running)
}

func TestOneQueryTooManyIsToldWhenToTryAgain(t *testing.T) {
	s := &queryService{gate: newTurnstile(0)}
	err := s.stream(t.Context(), answerPlan{}, "JSONEachRow", nil)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	answer := httptest.NewRecorder()
	writeError(t.Context(), nil, nil, answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/query", nil), err)
	require.Equal(t, http.StatusTooManyRequests, answer.Code)
	require.Equal(t, "1", answer.Header().Get("Retry-After"))
}
