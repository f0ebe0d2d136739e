package query

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
)

// BenchmarkQueries asks a table of 1,000,000 messages of 100 devices. "statement" is
// the same SQL sent straight to ClickHouse, with the same settings.
func BenchmarkQueries(b *testing.B) {
	a := meters(b, 100)
	a.fillMeters(1_000_000)
	s := newQueryService(Deps{ClickHouse: a.db, Catalog: a.catalog, Registry: a.devices, Templates: template.New(a.catalog, slog.New(slog.DiscardHandler))}, questionLimits)
	const hour = "WITHIN_WINDOW('2026-11-23T12:00:00Z/2026-11-23T13:00:00Z')"
	for name, query := range map[string]string{
		"newest of one device": "SELECT TOP 10 $id, $ts, $telemetry.level FROM devices WHERE $id = 'm-0042' ORDER BY $ts DESC",
		"hour of one device":   "SELECT $ts, $telemetry.level, $telemetry.count FROM devices WHERE $id = 'm-0042' AND " + hour,
		"windows":              "SELECT AVG($telemetry.level), MAX($telemetry.count) FROM devices WHERE " + hour + " GROUP BY WINDOW(PT1M)",
		"by device":            "SELECT $id, AVG($telemetry.level) FROM devices GROUP BY $id",
		"by property":          "SELECT floor, COUNT($telemetry.level) FROM devices GROUP BY floor",
		"devices":              "SELECT $id, $displayName, floor FROM devices WHERE floor > 1",
		"ten thousand values":  "SELECT TOP 10000 $id, $ts, $telemetry.level FROM devices WHERE $telemetry.level > 50",
	} {
		read := func(b *testing.B, resp *http.Response) {
			b.Helper()
			n, err := io.Copy(io.Discard, resp.Body)
			require.NoError(b, err)
			require.NoError(b, resp.Body.Close())
			require.Equal(b, http.StatusOK, resp.StatusCode)
			require.Positive(b, n)
		}
		p, _, err := s.plan(access.WithCaller(b.Context(), access.Principal{Tenant: "default"}, access.WholeTenant(), access.WholeTenant()), &apiv1.QueryRequest{Query: query}, "json")
		require.NoError(b, err)
		address := "http://" + a.engine + "/?" + s.values(p, "JSONEachRow").Encode()
		b.Run(name+"/statement", func(b *testing.B) {
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, address, strings.NewReader(p.sql))
				require.NoError(b, err)
				resp, err := http.DefaultTransport.RoundTrip(req)
				require.NoError(b, err)
				read(b, resp)
			}
		})
		b.Run(name+"/query", func(b *testing.B) {
			body := fmt.Sprintf(`{"query":%q}`, query)
			for b.Loop() {
				read(b, a.post(b.Context(), body))
			}
		})
	}
}
