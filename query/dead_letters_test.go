package query

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDeadLettersOfATenant: page by page, newest first, each once, and no other
// tenant's.
func TestDeadLettersOfATenant(t *testing.T) {
	a := newAPI(t)
	ddl, err := os.ReadFile("../projections/schema/migrations/0010_dead_letter.sql")
	require.NoError(t, err)
	require.NoError(t, a.db.Exec(t.Context(), strings.ReplaceAll(string(ddl), "{database}", a.db.Database())))
	insert := func(tenant, stage string, n int, seconds int) {
		require.NoError(t, a.db.Exec(t.Context(), fmt.Sprintf(`INSERT INTO dead_letter (tenant, key, stage, reason, source_topic, source_partition, source_offset, headers, payload, payload_bytes, logged_at)
			SELECT '%s', concat('%s/d', unhex('ff')), '%s', 'why', 'fleetlog.telemetry', number %% 3, number, map('ce_id', unhex('ff00')), repeat('x', 5000), 5000, fromUnixTimestamp64Milli(%d) FROM numbers(%d)`,
			tenant, tenant, stage, noon.Add(time.Duration(seconds)*time.Second).UnixMilli(), n)))
	}
	insert("default", "project-telemetry", 10, 0)
	insert("default", "project-telemetry", 10, 0) // put aside twice
	insert("default", "fold", 5, 60)
	insert("other", "fold", 5, 60)
	read := func(path string) (stages []string) {
		seen := map[string]bool{}
		for path != "" {
			page := a.ok(http.MethodGet, path, "")
			letters, _ := page["value"].([]any)
			for _, l := range letters {
				letter := l.(map[string]any)
				stages = append(stages, letter["stage"].(string))
				at := fmt.Sprint(letter["stage"], letter["partition"], letter["offset"])
				require.False(t, seen[at], at)
				seen[at] = true
				require.Equal(t, "default/d\uFFFD", letter["key"])
				require.Equal(t, map[string]any{"ce_id": "\uFFFD\u0000"}, letter["headers"])
				require.EqualValues(t, 5000, letter["payloadBytes"])
				require.Len(t, letter["payload"], (4096+2)/3*4)
			}
			path, _ = page["nextLink"].(string)
		}
		return stages
	}
	all := read("/api/deadLetters?maxpagesize=4")
	require.Equal(t, strings.Repeat("fold ", 5)+strings.Repeat("project-telemetry ", 10), strings.Join(all, " ")+" ")
	require.Equal(t, all, read("/api/deadLetters"))
	require.Len(t, read("/api/deadLetters?maxpagesize=3&stage=fold"), 5)
	require.Len(t, read("/api/deadLetters?to="+noon.Add(time.Minute).Format(time.RFC3339)), 10)
	require.Len(t, read("/api/deadLetters?from="+noon.Add(time.Minute).Format(time.RFC3339)), 5)
	for path, says := range map[string]string{
		"/api/deadLetters?maxpagesize=101": "100", "/api/deadLetters?pageToken=x": "pageToken", "/api/deadLetters?stage=" + strings.Repeat("x", 300): "256",
	} {
		status, answer, _ := a.call(http.MethodGet, path, "")
		require.Equal(t, http.StatusBadRequest, status, path)
		require.Contains(t, message(answer), says)
	}
}
