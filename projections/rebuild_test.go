package projections_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/fleetlog/fleetlog/projections"
)

func (s *site) rebuild(ctx context.Context, change func(*projections.Rebuild)) error {
	r := &projections.Rebuild{Log: s.log, Conn: s.conn, Table: "telemetry", Logger: quiet()}
	if change != nil {
		change(r)
	}
	return r.Run(ctx)
}

// wantConfirmed waits until the projection of telemetry has committed all there is.
func (s *site) wantConfirmed() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		committed, err := s.log.Admin().FetchOffsets(s.t.Context(), s.log.Group("project-telemetry"))
		require.NoError(s.t, err)
		total := int64(0)
		committed.Each(func(o kadm.OffsetResponse) { total += o.At })
		return total >= int64(s.appended)
	}, patience, 10*time.Millisecond)
}

// TestARebuiltTableIsWhatTheLogHas breaks the table, and has it rebuilt while messages
// come and some inserts are lost.
func TestARebuiltTableIsWhatTheLogHas(t *testing.T) {
	eachSite(t, func(s *site) {
		f := s.faulty()
		_, stop := s.start(s.connect(f.URL), projections.Options{BlockRows: 200})
		s.appendGood(5000)
		s.wantRows(5000)
		s.wantConfirmed() // the rest is not the rebuild's to mend
		for round := range 2 {
			require.NoError(t, s.conn.Exec(t.Context(), "ALTER TABLE telemetry DELETE WHERE cityHash64(id) % 3 = 0 SETTINGS mutations_sync = 1"))
			require.NoError(t, s.conn.Exec(t.Context(), "INSERT INTO telemetry (tenant, device, id, partition, offset) SELECT 'default', 'made up', 'x', 0, 7"))
			f.everyThirdBy(lostAnswer)
			var live sync.WaitGroup
			live.Go(func() {
				for range 20 {
					s.appendGood(100)
				}
			})
			var done, all int64
			require.NoError(t, s.rebuild(t.Context(), func(r *projections.Rebuild) { r.Progress = func(d, a int64) { done, all = d, a } }))
			require.Equal(t, all, done)
			require.Positive(t, done)
			live.Wait()
			s.wantRows(5000 + 2000*(round+1))
			s.wantConfirmed()
		}
		stop()
		var shadows uint64
		require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name LIKE '%__rebuild'").Scan(&shadows))
		require.Zero(t, shadows)
	})
}

// TestARebuildThatIsBrokenOffChangesNothing stops one in the middle, and the next one
// works. What the log has no more is a reason not to begin, unless it is taken over.
func TestARebuildThatIsBrokenOffChangesNothing(t *testing.T) {
	eachSite(t, func(s *site) {
		s.start(s.conn, projections.Options{})
		s.appendGood(3000)
		s.wantRows(3000)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.rebuild(ctx, nil)
		require.ErrorContains(t, err, "the live table is as it was")
		s.wantRows(3000)
		require.NoError(t, s.conn.Exec(t.Context(), "ALTER TABLE telemetry MODIFY SETTING max_parts_in_total = 1, parts_to_throw_insert = 1, parts_to_delay_insert = 1"), "as a killed one leaves it")
		_, stop := s.start(s.conn, projections.Options{})
		s.appendGood(10)
		s.wantRows(3010)
		stop()
		require.NoError(t, s.conn.Exec(t.Context(), "INSERT INTO telemetry (tenant, device, id, partition, offset) SELECT 'default', 'old', 'old', 0, -1"))
		require.ErrorContains(t, s.rebuild(t.Context(), nil), "--keep-older")
		require.NoError(t, s.rebuild(t.Context(), func(r *projections.Rebuild) { r.KeepOlder = true }))
		require.Eventually(t, func() bool { rows, _ := s.count(); return rows == 3011 }, patience, 10*time.Millisecond)
		require.ErrorContains(t, s.rebuild(t.Context(), func(r *projections.Rebuild) { r.Table = "nothing" }), "use one of telemetry")
	})
}

// TestRebuiltSumsAreThoseOfTheLog breaks the tables of sums, and has them rebuilt while
// messages come.
func TestRebuiltSumsAreThoseOfTheLog(t *testing.T) {
	eachSite(t, func(s *site) {
		s.start(s.conn, projections.Options{})
		s.startOf(projections.NewTelemetrySums, s.conn, projections.Options{BlockRows: 300, Linger: time.Millisecond})
		s.appendGood(4000)
		s.wantRows(4000)
		s.wantSums()
		for round := range 2 {
			for _, table := range []string{"telemetry_1m", "telemetry_10m", "telemetry_1h", "telemetry_latest"} {
				require.NoError(t, s.conn.Exec(t.Context(), "ALTER TABLE "+table+" DELETE WHERE tenant != '' AND cityHash64(device) % 3 = 0 SETTINGS mutations_sync = 1"))
			}
			require.NoError(t, s.conn.Exec(t.Context(), "INSERT INTO telemetry_1h (tenant, path, device, ts, count, sum) SELECT 'default', 'n', 'd1', now(), 5, 5"))
			var live sync.WaitGroup
			live.Go(func() {
				for range 10 {
					s.appendGood(100)
				}
			})
			require.NoError(t, s.rebuild(t.Context(), func(r *projections.Rebuild) { r.Table = projections.SumsTables }))
			live.Wait()
			s.wantRows(4000 + 1000*(round+1))
			s.wantSums()
		}
	})
}
