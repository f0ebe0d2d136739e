package projections_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/projections"
	"github.com/fleetlog/fleetlog/projections/schema"
)

// TestRowsBeyondRetentionHoldUpNothing: they are gone when the projection looks for
// them after a lost answer, and what comes behind them arrives.
func TestRowsBeyondRetentionHoldUpNothing(t *testing.T) {
	eachSite(t, func(s *site) {
		now := s.began
		s.began = now.Add(-48 * time.Hour)
		s.appendGood(100)
		s.began = now
		s.appendGood(100)
		f := s.faulty()
		var n atomic.Int64
		f.set(func(f *faulty, w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%5 == 1 {
				lostAnswer(f, w, r)
				return
			}
			f.forward.ServeHTTP(w, r)
		})
		s.start(s.connect(f.URL), projections.Options{BlockRows: 25, Retention: schema.Retention{"telemetry": {Default: time.Hour}}})
		require.Eventually(t, func() bool {
			return s.number("SELECT count() FROM telemetry WHERE enqueued_at > now() - toIntervalHour(1)") == 100
		}, patience, 10*time.Millisecond)
		require.EqualValues(t, 100, s.number("SELECT uniqExact(id) FROM telemetry WHERE enqueued_at > now() - toIntervalHour(1)"), "none twice")
	})
}
