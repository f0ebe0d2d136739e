package query

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/stretchr/testify/require"
)

// sqlNode has tenants a and b with a view of three rows each.
type sqlNode struct {
	t    testing.TB
	url  string
	db   *clickhouse.Conn
	own  string // a's database
	addr string // ClickHouse's
}

func newSQLNode(t testing.TB, limits sqlLimits) *sqlNode {
	t.Helper()
	addr, database := enginetest.ClickHouse(t)
	db, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Exec(t.Context(), "CREATE TABLE telemetry (tenant String, device String, n Int64, ts DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY (tenant, device)"))
	for _, tenant := range []string{"a", "b"} {
		own := clickhouse.TenantDatabase(database, tenant)
		require.NoError(t, db.Exec(t.Context(), "CREATE DATABASE "+own))
		t.Cleanup(func() { require.NoError(t, db.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+own+" SYNC")) })
		require.NoError(t, db.Exec(t.Context(), fmt.Sprintf(`CREATE VIEW %s.telemetry SQL SECURITY DEFINER AS SELECT device, n, ts FROM telemetry
			WHERE tenant = '%s' AND startsWith(getSetting('log_comment'), '%s')`, own, tenant, clickhouse.TenantComment(own))))
		require.NoError(t, db.Exec(t.Context(), "INSERT INTO telemetry SELECT ?, concat(?, '-', toString(number)), number, toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC') FROM numbers(3)", tenant, tenant))
	}
	deps := Deps{ClickHouse: db, Logger: slog.New(slog.DiscardHandler), Who: access.Any{access.NewAdminToken("secret-a", "a"), access.NewAdminToken("secret-b", "b")}}
	server := httptest.NewServer(hardened(newSQLDoor(deps, newRefusals(nil, deps.Logger), limits)))
	t.Cleanup(server.Close)
	return &sqlNode{t: t, url: server.URL, db: db, own: clickhouse.TenantDatabase(database, "a"), addr: addr}
}

// sqlCall is one request, POST when it has a body.
type sqlCall struct {
	path, body string
	values     url.Values
	header     map[string]string
}

func (n *sqlNode) call(c sqlCall) (int, string, http.Header) {
	n.t.Helper()
	method := http.MethodGet
	if c.body != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(n.t.Context(), method, n.url+sqlPath+c.path+"?"+c.values.Encode(), strings.NewReader(c.body))
	require.NoError(n.t, err)
	if c.header == nil {
		c.header = map[string]string{"X-ClickHouse-Key": "secret-a"}
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	answer, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(r)
	require.NoError(n.t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	require.NoError(n.t, err)
	return answer.StatusCode, string(content), answer.Header
}

func (n *sqlNode) ask(statement string) (int, string) {
	n.t.Helper()
	status, text, _ := n.call(sqlCall{body: statement})
	return status, text
}

func one(name, value string) url.Values { return url.Values{name: {value}} }

func TestSQLSpeaksClickHouse(t *testing.T) {
	n := newSQLNode(t, analystLimits)
	for _, test := range []struct {
		name   string
		call   sqlCall
		status int
		want   string
	}{
		{"ping", sqlCall{path: "/ping", header: map[string]string{"X": "y"}}, 200, "Ok.\n"},
		{"query in the URL", sqlCall{values: one("query", "SELECT count() FROM telemetry")}, 200, "3\n"},
		{"query in the body", sqlCall{body: "SELECT count() FROM telemetry"}, 200, "3\n"},
		{"query in both", sqlCall{values: one("query", "SELECT 1 +"), body: "2"}, 200, "3\n"},
		{"database", sqlCall{values: url.Values{"query": {"SELECT currentDatabase()"}, "database": {n.own}}}, 200, n.own + "\n"},
		{"clients' default database", sqlCall{values: url.Values{"query": {"SELECT currentDatabase()"}, "database": {"default"}}}, 200, n.own + "\n"},
		{"format", sqlCall{values: one("default_format", "JSONEachRow"), body: "SELECT 1 AS x"}, 200, "{\"x\":1}\n"},
		{"format by header", sqlCall{header: map[string]string{"X-ClickHouse-Key": "secret-a", "X-ClickHouse-Format": "CSV"}, body: "SELECT 'x'"}, 200, "\"x\"\n"},
		{"format in the statement", sqlCall{body: "SELECT 1 AS x FORMAT JSONEachRow"}, 200, "{\"x\":1}\n"},
		{"parameter", sqlCall{values: one("param_x", "a-1"), body: "SELECT n FROM telemetry WHERE device = {x:String}"}, 200, "1\n"},
		{"setting", sqlCall{values: one("date_time_output_format", "iso"), body: "SELECT max(ts) FROM telemetry"}, 200, "2026-01-02T03:04:05.678Z\n"},
		{"what clients send of themselves", sqlCall{values: url.Values{"session_id": {"x"}, "send_progress_in_http_headers": {"1"}, "readonly": {"0"}, "role": {"fleetlog_node"}, "log_comment": {"tenant_b "}}, body: "SELECT count() FROM telemetry"}, 200, "3\n"},
		{"basic", sqlCall{header: map[string]string{"Authorization": "Basic YW55Ym9keTpzZWNyZXQtYg=="}, body: "SELECT min(device) FROM telemetry"}, 200, "b-0\n"},
		{"bearer", sqlCall{header: map[string]string{"Authorization": "Bearer secret-b"}, body: "SELECT min(device) FROM telemetry"}, 200, "b-0\n"},
		{"no token", sqlCall{header: map[string]string{"X": "y"}, body: "SELECT 1"}, 401, "Code: 516."},
		{"wrong token", sqlCall{header: map[string]string{"X-ClickHouse-Key": "x"}, body: "SELECT 1"}, 401, "Code: 516."},
		{"token in the URL", sqlCall{header: map[string]string{"X": "y"}, values: one("password", "secret-a"), body: "SELECT 1"}, 401, "Code: 516."},
		{"another database", sqlCall{values: one("database", "system"), body: "SELECT 1"}, 404, "Code: 81."},
		{"another setting", sqlCall{values: one("final", "1"), body: "SELECT 1"}, 403, "Code: 452."},
		{"a setting that writes a file", sqlCall{values: one("output_format_schema", "/tmp/fleetlog-never"), body: "SELECT 1 FORMAT Protobuf"}, 403, "Code: 452."},
		{"a setting that is SQL", sqlCall{values: one("output_format_x = 1, readonly", "0"), body: "SELECT 1"}, 404, "Code: 115."},
		{"several", sqlCall{body: "SELECT 1; SELECT 2"}, 403, "Code: 497."},
		{"writing", sqlCall{body: "INSERT INTO telemetry VALUES (1)"}, 403, "Code: 497."},
		{"unknown table", sqlCall{body: "SELECT * FROM telemetri"}, 404, "Code: 60."},
		{"syntax", sqlCall{body: "SELECT 1 +"}, 400, "Code: 62."},
		{"empty", sqlCall{body: " "}, 400, "Code: 36."},
		{"settings in the statement", sqlCall{body: "SELECT 1 SETTINGS max_threads = 1"}, 403, "Code: 164."},
		{"Fleetlog's tables", sqlCall{body: "SELECT * FROM " + n.db.Database() + ".telemetry"}, 403, "Code: 497."},
		{"multipart", sqlCall{header: map[string]string{"X-ClickHouse-Key": "secret-a", "Content-Type": "multipart/form-data; boundary=x"}, body: "x"}, 400, "Code: 36."},
		{"large", sqlCall{body: "SELECT '" + strings.Repeat("x", maxSQL) + "'"}, 413, "Code: 307."},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, text, header := n.call(test.call)
			require.Equal(t, test.status, status, text)
			if test.status == http.StatusOK {
				require.Equal(t, test.want, text)
				return
			}
			require.True(t, strings.HasPrefix(text, test.want), text)
			require.Equal(t, strings.Trim(test.want, "Code: ."), header.Get("X-ClickHouse-Exception-Code"))
			require.NotContains(t, text, n.addr)
			require.NotContains(t, text, "tenant_b")
		})
	}
}

func TestSQLLimitsHold(t *testing.T) {
	limits := analystLimits
	limits.resultRows, limits.readRows, limits.time, limits.memory = 1000, 100_000, time.Second, 100<<20
	n := newSQLNode(t, limits)
	for statement, code := range map[string]string{
		"SELECT number FROM system.numbers LIMIT 5000":                                           "396",
		"SELECT number FROM numbers(5000) FORMAT JSON":                                           "396",
		"SELECT count() FROM numbers(10000000) WHERE NOT ignore(number)":                         "158",
		"SELECT groupArray(randomString(1000)) FROM numbers(99999) FORMAT Null":                  "241",
		"WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r": "",
	} {
		began := time.Now()
		status, text, header := n.call(sqlCall{body: statement})
		require.NotEqual(t, http.StatusOK, status, statement)
		if code != "" {
			require.Equal(t, code, header.Get("X-ClickHouse-Exception-Code"), text)
		}
		require.Less(t, time.Since(began), 10*time.Second)
	}
	raised := url.Values{"max_result_rows": {"0"}, "max_rows_to_read": {"1e9"}}
	_, _, header := n.call(sqlCall{values: raised, body: "SELECT number FROM numbers(5000)"})
	require.Equal(t, "396", header.Get("X-ClickHouse-Exception-Code"), "a client cannot raise a limit")
	_, _, header = n.call(sqlCall{values: one("max_result_rows", "2"), body: "SELECT number FROM numbers(5)"})
	require.Equal(t, "396", header.Get("X-ClickHouse-Exception-Code"), "a client can lower a limit")
}

func TestSQLRunsSoManyAtOnceAndStopsWhenTheClientLeaves(t *testing.T) {
	limits := analystLimits
	limits.running, limits.wait = 1, 20*time.Millisecond
	n := newSQLNode(t, limits)
	status, _ := n.ask("SELECT 1")
	require.Equal(t, http.StatusOK, status)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+sqlPath, strings.NewReader("SELECT count() FROM numbers(1000000000) WHERE sipHash64(number) = 8"))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer secret-a")
	done := make(chan error, 1)
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = answer.Body.Close()
		}
		done <- err
	}()
	running := func() (count uint64) {
		require.NoError(t, n.db.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number) = 8' AND query NOT LIKE '%processes%'").Scan(&count))
		return count
	}
	require.Eventually(t, func() bool { return running() == 1 }, 10*time.Second, 5*time.Millisecond)
	status, text := n.ask("SELECT 1")
	require.Equal(t, http.StatusTooManyRequests, status, text)
	status, _, _ = n.call(sqlCall{header: map[string]string{"Authorization": "Bearer secret-b"}, body: "SELECT 1"})
	require.Equal(t, http.StatusOK, status, "other tenants go on")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool { return running() == 0 }, 10*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool { status, _ := n.ask("SELECT 1"); return status == http.StatusOK }, 10*time.Second, 5*time.Millisecond)
}

func TestSQLStreamsAndZips(t *testing.T) {
	n := newSQLNode(t, analystLimits)
	status, text := n.ask("SELECT number FROM numbers(1000000)")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, 1_000_000, strings.Count(text, "\n"))
	_, zipped, header := n.call(sqlCall{values: one("enable_http_compression", "1"), header: map[string]string{"X-ClickHouse-Key": "secret-a", "Accept-Encoding": "gzip"}, body: "SELECT number FROM numbers(1000000)"})
	require.Equal(t, "gzip", header.Get("Content-Encoding"))
	reader, err := gzip.NewReader(strings.NewReader(zipped))
	require.NoError(t, err)
	content, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.Equal(t, text, string(content))

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+sqlPath, strings.NewReader("SELECT throwIf(number = 900000) FROM numbers(1000000)"))
	require.NoError(t, err)
	r.Header.Set("X-ClickHouse-Key", "secret-a")
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		_, err = io.Copy(io.Discard, answer.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "half an answer is none")
	}
}

func TestClickHouseGoAsksAsAnalyst(t *testing.T) {
	n := newSQLNode(t, analystLimits)
	conn, err := driver.Open(&driver.Options{
		Addr: []string{strings.TrimPrefix(n.url, "http://")}, Protocol: driver.HTTP, HttpUrlPath: sqlPath,
		Auth: driver.Auth{Database: "default", Username: "analyst", Password: "secret-a"}, Settings: driver.Settings{"max_execution_time": 30},
	})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Ping(t.Context()))
	version, err := conn.ServerVersion()
	require.NoError(t, err)
	require.Equal(t, "fleetlog", version.DisplayName)
	rows, err := conn.Query(t.Context(), "SELECT device, n, ts FROM telemetry WHERE n >= $1 ORDER BY n", 1)
	require.NoError(t, err)
	var devices []string
	for rows.Next() {
		var device string
		var number int64
		var at time.Time
		require.NoError(t, rows.Scan(&device, &number, &at))
		require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), at.UTC())
		devices = append(devices, device)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, []string{"a-1", "a-2"}, devices)
	var exception *driver.Exception
	require.True(t, errors.As(conn.Exec(t.Context(), "DROP TABLE telemetry"), &exception))
	require.Equal(t, int32(497), exception.Code)
}

// A ClickHouse that has no roles, or whose role may read Fleetlog's tables, is shut.
func TestSQLStaysShutWithoutItsRole(t *testing.T) {
	n := newSQLNode(t, analystLimits)
	target, err := url.Parse("http://" + n.addr)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	for _, test := range []struct{ name, role string }{{"no role", ""}, {"a role that may read all", "fleetlog_node"}} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				values := r.URL.Query()
				if values.Has("role") {
					values.Del("role")
					if test.role != "" {
						values.Set("role", test.role)
					}
				}
				r.URL.RawQuery = values.Encode()
				proxy.ServeHTTP(w, r)
			}))
			defer server.Close()
			db, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: server.URL, Database: n.db.Database()})
			require.NoError(t, err)
			defer db.Close()
			door := newSQLDoor(Deps{ClickHouse: db, Logger: slog.New(slog.DiscardHandler), Who: access.NewAdminToken("x", "a")}, newRefusals(nil, nil), analystLimits)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, sqlPath, strings.NewReader("SELECT 1"))
			r.Header.Set("X-ClickHouse-Key", "x")
			w := httptest.NewRecorder()
			door.ServeHTTP(w, r)
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Contains(t, w.Body.String(), "not set up here")
		})
	}
}

func TestErrorsTellNothingOfOthers(t *testing.T) {
	for text, want := range map[string]string{
		"Code: 81. DB::Exception: Database tenant_c does not exist. Maybe you meant tenant_b?. (UNKNOWN_DATABASE)": "Code: 81. DB::Exception: Database … does not exist (UNKNOWN_DATABASE)",
		"Code: 60. DB::Exception: Unknown table 'x'. Maybe you meant: tenant_b.secret. (UNKNOWN_TABLE)":            "Code: 60. DB::Exception: Unknown table 'x' (UNKNOWN_TABLE)",
		"Code: 210. DB::Exception: Connection refused (10.0.0.5:9000). (NETWORK_ERROR)":                            "Code: 210. DB::Exception: Connection refused …. (NETWORK_ERROR)",
		"Code: 62. DB::Exception: Syntax error (line 1, col 5) (SYNTAX_ERROR)":                                     "Code: 62. DB::Exception: Syntax error (line 1, col 5) (SYNTAX_ERROR)",
		"Code: 47. DB::Exception: In tenant_a.v (UNKNOWN_IDENTIFIER)":                                              "Code: 47. DB::Exception: In tenant_a.v (UNKNOWN_IDENTIFIER)",
	} {
		require.Equal(t, want, told(500, text, "tenant_a").Error())
	}
}

func FuzzSQLError(f *testing.F) {
	f.Add("Code: 81. DB::Exception: tenant_b (X)")
	f.Add("(")
	f.Fuzz(func(t *testing.T, text string) {
		require.NotRegexp(t, `tenant_b\b`, told(500, text, "tenant_a").Error())
	})
}
