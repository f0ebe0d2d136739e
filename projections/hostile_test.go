package projections_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/projections"
)

// TestADeviceThatInventsFieldsHarmsNobody: message after message of new fields
// costs neither the file descriptors, which everything in the process shares, nor
// others' rows.
func TestADeviceThatInventsFieldsHarmsNobody(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t))
	s.start(s.conn, projections.Options{})
	before, most := openFiles(t), 0
	field := 0
	for range 500 {
		var body strings.Builder
		body.WriteString(`{"x":1`)
		for range 1000 {
			field++
			fmt.Fprintf(&body, `,"k%d":%d`, field, field)
		}
		s.append(body.String() + "}")
		for range 10 {
			s.append(`{"a":1}`)
		}
	}
	s.flush()
	require.Eventually(t, func() bool {
		most = max(most, openFiles(t)-before)
		_, messages := s.count()
		return messages == 5500
	}, patience, time.Millisecond)
	t.Log("open files at most", most)
	require.Less(t, most, 5000, "open files")
	var kept uint64
	require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT sum(length(JSONAllPaths(body))) FROM telemetry").Scan(&kept))
	require.EqualValues(t, 500*1001+5000, kept, "every field is kept")
}

// openFiles is how many files this process has open, ClickHouse's among them.
func openFiles(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if os.IsNotExist(err) {
		t.Log("no /proc here: open files are not counted")
		return 0
	}
	require.NoError(t, err)
	return len(open)
}
