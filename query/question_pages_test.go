package query

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// meters is an API on the tables of the migrations, with a device for each of the
// numbers, without a template. They have sent n, which is a number or a text.
func meters(t testing.TB, devices int) *api {
	a := newAPI(t)
	require.NoError(t, a.db.Exec(t.Context(), "DROP TABLE telemetry"))
	for _, file := range []string{"0001_telemetry", "0003_devices", "0005_telemetry_module", "0006_telemetry_1m", "0007_telemetry_1h", "0008_telemetry_latest", "0009_device_versions", "*_telemetry_10m"} {
		found, err := filepath.Glob("../projections/schema/migrations/" + file + ".sql")
		require.NoError(t, err)
		require.Len(t, found, 1)
		ddl, err := os.ReadFile(found[0])
		require.NoError(t, err)
		require.NoError(t, a.db.Exec(t.Context(), strings.ReplaceAll(string(ddl), "{database}", a.db.Database())))
	}
	a.putMeters(0, devices)
	a.sends(0, devices, "now64(3) - INTERVAL 1 HOUR")
	return a
}

// putMeters adds devices.
func (a *api) putMeters(from, to int) {
	a.t.Helper()
	require.NoError(a.t, a.db.Exec(a.t.Context(), fmt.Sprintf(`INSERT INTO devices (tenant, device, display_name, enabled, tags, properties, revision)
		SELECT 'default', concat('m-', leftPad(toString(number), 4, '0')), concat('Meter ', toString(number %% 3)), number %% 2 = 0, '{}'::JSON,
			concat('{"floor":', if(number %% 4 = 0, '"cellar"', toString(number %% 5)), '}')::JSON, 1 FROM numbers(%d, %d)`, from, to-from)))
}

// sends has each of the meters send three messages, which the log has taken then.
func (a *api) sends(from, to int, then string) {
	a.t.Helper()
	require.NoError(a.t, a.db.Exec(a.t.Context(), fmt.Sprintf(`INSERT INTO telemetry (tenant, device, ts, body, enqueued_at, partition, offset)
		SELECT 'default', concat('m-', leftPad(toString(number %% 1000), 4, '0')), toDateTime64('2026-11-23 12:00:00', 3, 'UTC') + INTERVAL (number %% 7) * 10 SECOND,
			concat('{"n":', multiIf(number %% 5 = 0, '"hot"', number %% 5 = 1, '1e3', toString(number %% 11)), '}')::JSON, %s, number %% 2, number + %d
		FROM (SELECT arrayJoin(range(%d, %d)) + 1000 * arrayJoin([0, 1, 2]) AS number)`, then, from*10_000, from, to)))
}

// pagesOf are the rows of all pages of an answer; between is done between two pages.
func (a *api) pagesOf(query string, size int, between func()) (rows []any) {
	a.t.Helper()
	for token := ""; ; between() {
		page := a.ok(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":%q,"maxpagesize":%d,"pageToken":%q}`, query, size, token))
		found := page["results"].([]any)
		require.LessOrEqual(a.t, len(found), size)
		for _, row := range found {
			require.NotContains(a.t, row, "#")
		}
		rows = append(rows, found...)
		next, more := page["nextPageToken"].(string)
		if !more {
			return rows
		}
		require.Len(a.t, found, size, "only the last page has fewer rows")
		token = next
	}
}

// TestPagesHaveEachRowOnce: what there was when the first page was asked for is on one
// page, whatever comes in meanwhile, before and behind it; also what the log had taken
// before but comes to the table only now.
func TestPagesHaveEachRowOnce(t *testing.T) {
	for _, query := range []string{
		"SELECT $id, $ts, $telemetry.n FROM devices",
		"SELECT $id, $ts, $telemetry.n FROM devices ORDER BY $ts",
		"SELECT $id, $ts, $telemetry.n AS v FROM devices ORDER BY v DESC, $id",
		"SELECT $telemetry.n, $id, $ts FROM devices WHERE $enabled = true ORDER BY $displayName DESC, $telemetry.n",
		"SELECT $id FROM devices ORDER BY floor DESC",
		"SELECT $id FROM devices ORDER BY $enabled, $displayName DESC",
		"SELECT COUNT($telemetry.n) AS c, $id FROM devices GROUP BY $id",
		"SELECT $ts, $id, LAST($telemetry.n) FROM devices GROUP BY WINDOW(PT20S), $id",
	} {
		t.Run(query, func(t *testing.T) {
			a := meters(t, 20)
			want := a.pagesOf(query, 1000, func() {})
			require.GreaterOrEqual(t, len(want), 20)
			require.Equal(t, want, a.pagesOf(query, 3, func() {}), "the order of pages is that of the whole")
			n := 20
			got := a.pagesOf(query, 7, func() {
				a.putMeters(n, n+1)
				a.sends(n, n+1, "now64(3) + INTERVAL 1 SECOND")
				if n == 21 { // late, and in the midst of the others
					require.NoError(t, a.db.Exec(t.Context(), `INSERT INTO telemetry (tenant, device, ts, body, enqueued_at, partition, offset)
						SELECT 'default', 'a-late', ts, body, enqueued_at, 3, offset FROM telemetry WHERE device = 'm-0003'`))
				}
				n++
			})
			times := map[string]int{}
			for _, row := range got {
				times[fmt.Sprint(row)]++
			}
			for row, n := range times {
				require.Equal(t, 1, n, "%s comes again", row)
			}
			for _, row := range want {
				require.Equal(t, 1, times[fmt.Sprint(row)], "%s is lost", row)
			}
		})
	}
}

func TestTopBoundsAllPages(t *testing.T) {
	a := meters(t, 20)
	const query = "SELECT TOP 8 $id, $ts FROM devices WHERE WITHIN_WINDOW(P3660D) ORDER BY $ts DESC"
	require.Len(t, a.pagesOf(query, 3, func() {}), 8)
	require.Len(t, a.pagesOf(query, 4, func() {}), 8)
	a.fillMeters(maxAnswer + 100)
	require.Len(t, a.results("SELECT $ts FROM devices WHERE WITHIN_WINDOW(P3660D)"), maxAnswer)
	require.Len(t, a.results("SELECT TOP 10050 $ts FROM devices WHERE WITHIN_WINDOW(P3660D)"), 10_050)
	require.Len(t, a.pagesOf("SELECT COUNT($telemetry.n) FROM devices", 5, func() {}), 1)
}

func TestPageTokensAreOfTheirQuery(t *testing.T) {
	a := meters(t, 5)
	const query = "SELECT $id FROM devices"
	hash := (&question{text: query}).hash()
	for name, token := range map[string]string{
		"another query":     encodeToken(questionToken{After: []string{"m-0001"}, Of: hash + 1}),
		"no place":          encodeToken(questionToken{Of: hash}),
		"too many values":   encodeToken(questionToken{After: []string{"m-0001", "m-0002"}, Of: hash}),
		"no token":          "abc",
		"rows before zero":  encodeToken(questionToken{After: []string{"m-0001"}, Seen: -1, Of: hash}),
		"longer than it is": strings.Repeat("x", maxTokenBytes+1),
	} {
		status, answer, _ := a.call(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":%q,"pageToken":%q}`, query, token))
		require.Equal(t, http.StatusBadRequest, status, name)
		require.Contains(t, message(answer), "pageToken is", name)
	}
	hash = (&question{text: "SELECT $ts FROM devices WHERE WITHIN_WINDOW(P1D)"}).hash()
	status, answer, _ := a.call(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":"SELECT $ts FROM devices WHERE WITHIN_WINDOW(P1D)","pageToken":%q}`,
		encodeToken(questionToken{After: []string{"x' OR 1=1", "m", "0", "0"}, Of: hash})))
	require.Equal(t, http.StatusBadRequest, status, "values have their types: %v", answer)
	status, answer, _ = a.call(http.MethodPost, "/api/query", `{"query":"SELECT $id FROM devices","format":"csv","maxpagesize":3}`)
	require.Equal(t, http.StatusBadRequest, status, answer)
}
