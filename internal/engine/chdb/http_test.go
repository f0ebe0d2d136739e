package chdb

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type reply struct {
	status int
	body   string
	header http.Header
	err    error
}

type call struct {
	method, query, body string
	params              map[string]string
	header              map[string]string
	host                string
}

func post(t testing.TB, base string, c call) reply {
	t.Helper()
	if c.method == "" {
		c.method = http.MethodPost
	}
	values := url.Values{}
	if c.query != "" {
		values.Set("query", c.query)
	}
	for name, value := range c.params {
		values.Set(name, value)
	}
	r, err := http.NewRequest(c.method, base+"/?"+values.Encode(), strings.NewReader(c.body))
	require.NoError(t, err)
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	if c.host != "" {
		r.Host = c.host
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}).Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, string(body), response.Header, err}
}

func ask(t testing.TB, base, statement string) string {
	t.Helper()
	got := post(t, base, call{body: statement})
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.NoError(t, got.err)
	return got.body
}

func TestAnswersLikeClickHouse(t *testing.T) {
	_, base := startEngine(t)
	ask(t, base, "CREATE TABLE x (a Int64, b String) ENGINE = MergeTree ORDER BY a")
	for _, test := range []struct {
		name string
		call call
		code int
		body string
	}{
		{"health", call{method: "GET"}, 200, "Ok.\n"},
		{"query in the body", call{body: "SELECT 1"}, 200, "1\n"},
		{"query in the URL", call{method: "GET", query: "SELECT 1 FORMAT CSV"}, 200, "1\n"},
		{"query in both", call{query: "SELECT 1 +", body: "2"}, 200, "3\n"},
		{"default format", call{body: "SELECT 'a' AS x", params: map[string]string{"default_format": "JSONEachRow"}}, 200, "{\"x\":\"a\"}\n"},
		{"format header", call{body: "SELECT 'a' AS x", header: map[string]string{"X-ClickHouse-Format": "JSONEachRow"}}, 200, "{\"x\":\"a\"}\n"},
		{"parameters", call{body: "SELECT {a:Int32} + 1, {s:String}", params: map[string]string{"param_a": "3", "param_s": "x' OR 1"}}, 200, "4\tx\\' OR 1\n"},
		{"setting", call{body: "SELECT getSetting('max_threads')", params: map[string]string{"max_threads": "1"}}, 200, "1\n"},
		{"setting with quotes", call{body: "SELECT getSetting('format_csv_null_representation')", params: map[string]string{"format_csv_null_representation": `a'b\`}}, 200, "a\\'b\\\\\n"},
		{"unknown setting", call{body: "SELECT 1", params: map[string]string{"nope": "1"}}, 404, "Code: 115."},
		{"setting that is SQL", call{body: "SELECT 1", params: map[string]string{"a=1, b": "1"}}, 404, "Code: 115."},
		{"database", call{body: "SELECT currentDatabase()", params: map[string]string{"database": "system"}}, 200, "system\n"},
		{"database header", call{body: "SELECT currentDatabase()", header: map[string]string{"X-ClickHouse-Database": "system"}}, 200, "system\n"},
		{"unknown database", call{body: "SELECT 1", params: map[string]string{"database": "no`pe"}}, 404, "Code: 81."},
		{"unknown table", call{body: "SELECT * FROM nope"}, 404, "Code: 60."},
		{"syntax", call{body: "SELEC 1"}, 400, "Code: 62."},
		{"nothing", call{}, 400, "Code: 62. DB::Exception: Empty query"},
		{"two statements", call{body: "DROP TABLE x; SELECT 1"}, 400, "Code: 62. DB::Exception: Multi-statements"},
		{"a statement behind rows is not run", call{body: "INSERT INTO x VALUES (1,''); DROP TABLE x"}, 200, ""},
		{"GET writes nothing", call{method: "GET", query: "DROP TABLE x"}, 403, "Code: 164."},
		{"GET inserts nothing", call{method: "GET", query: "INSERT INTO x VALUES (1,'')"}, 403, "Code: 164."},
		{"GET cannot become writing", call{method: "GET", query: "DROP TABLE x", params: map[string]string{"readonly": "0"}}, 403, "Code: 164."},
		{"readonly", call{body: "DROP TABLE x", params: map[string]string{"readonly": "1"}}, 403, "Code: 164."},
		{"session", call{body: "SELECT 1", params: map[string]string{"session_id": "a"}}, 400, "use an external ClickHouse server"},
		{"native compression", call{body: "SELECT 1", params: map[string]string{"compress": "1"}}, 400, "turn compression off"},
		{"external table", call{body: "x", header: map[string]string{"Content-Type": "multipart/form-data; boundary=x"}}, 501, "external tables"},
		{"other content encoding", call{body: "x", header: map[string]string{"Content-Encoding": "br"}}, 400, "use gzip, lz4 or none"},
		{"broken lz4", call{body: "not lz4", header: map[string]string{"Content-Encoding": "lz4"}}, 400, "Code: 36."},
		{"broken gzip", call{body: "x", header: map[string]string{"Content-Encoding": "gzip"}}, 400, "not gzip"},
		{"rows of the wrong type", call{body: "INSERT INTO x FORMAT CSV\nabc,1"}, 400, "Code: 27."},
		{"input()", call{body: "INSERT INTO x SELECT * FROM input('a Int64, b String') FORMAT CSV\n1,a"}, 501, "input()"},
		{"outfile", call{body: "SELECT 1 INTO OUTFILE '/tmp/fleetlog-never'"}, 400, "INTO OUTFILE"},
		{"time limit", call{body: "SELECT sleep(3)", params: map[string]string{"max_execution_time": "0.2"}}, 408, "Code: 159."},
		{"memory limit", call{body: "SELECT groupArray(number) FROM numbers(10000000)", params: map[string]string{"max_memory_usage": "10000000"}}, 500, "Code: 241."},
		{"whole result too large", call{body: "SELECT number FROM numbers(100) FORMAT JSON", params: map[string]string{"max_result_rows": "10"}}, 500, "Code: 396."},
		{"early error of a stream", call{body: "SELECT throwIf(number = 3) FROM numbers(10)"}, 500, "Code: 395."},
		{"web page", call{body: "SELECT 1", header: map[string]string{"Origin": "http://evil.example"}}, 403, "Code: 497."},
		{"web page without origin", call{body: "SELECT 1", header: map[string]string{"Sec-Fetch-Site": "cross-site"}}, 403, "Code: 497."},
		{"rebound name", call{body: "SELECT 1", host: "evil.example:8123"}, 403, "not a loopback name"},
		{"loopback name", call{body: "SELECT 1", host: "localhost:8123"}, 200, "1\n"},
		{"loopback address", call{body: "SELECT 1", host: "[::1]:8123"}, 200, "1\n"},
		{"put", call{method: "PUT", body: "SELECT 1"}, 501, "use GET"},
		{"table is still there", call{body: "SHOW TABLES"}, 200, "x\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := post(t, base, test.call)
			require.NoError(t, got.err)
			require.Equal(t, test.code, got.status, got.body)
			if test.code == 200 {
				require.Equal(t, test.body, got.body)
				return
			}
			require.Contains(t, got.body, test.body)
			require.NotEmpty(t, got.header.Get("X-ClickHouse-Exception-Code"))
		})
	}
}

func TestInsertsInEveryForm(t *testing.T) {
	_, base := startEngine(t)
	zipped := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
		return b.String()
	}
	for _, test := range []struct {
		name string
		call call
	}{
		{"values", call{body: "INSERT INTO x VALUES (1, 'a'), (2, 'b');"}},
		{"values behind the statement", call{query: "INSERT INTO x VALUES", body: "(1, 'a'), (2, 'b')"}},
		{"format", call{body: "INSERT INTO x FORMAT CSV\n1,a\n2,b\n"}},
		{"format, rows as the body", call{query: "INSERT INTO x (a, b) FORMAT TSV", body: "1\ta\n2\tb\n"}},
		{"settings", call{query: "INSERT INTO x SETTINGS format_csv_delimiter='|' FORMAT CSV", body: "1|a\n2|b"}},
		{"settings behind", call{query: "INSERT INTO x FORMAT CSV SETTINGS format_csv_delimiter='|'", body: "1|a\n2|b"}},
		{"setting in the URL", call{query: "INSERT INTO x FORMAT CSV", body: "1|a\n2|b", params: map[string]string{"format_csv_delimiter": "|"}}},
		{"gzip", call{query: "INSERT INTO x FORMAT CSV", body: zipped("1,a\n2,b\n"), header: map[string]string{"Content-Encoding": "gzip"}}},
		{"select", call{body: "INSERT INTO x SELECT number + 1, char(97 + number) FROM numbers(2)"}},
		{"parameter", call{query: "INSERT INTO {t:Identifier} FORMAT CSV", body: "1,a\n2,b\n", params: map[string]string{"param_t": "x"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ask(t, base, "CREATE OR REPLACE TABLE x (a Int64, b String) ENGINE = MergeTree ORDER BY a")
			got := post(t, base, test.call)
			require.Equal(t, 200, got.status, got.body)
			require.Contains(t, got.header.Get("X-ClickHouse-Summary"), `"written_rows":"2"`)
			require.Equal(t, "1\ta\n2\tb\n", ask(t, base, "SELECT * FROM x ORDER BY a"))
		})
	}
}

func TestNothingLeaksToTheNextRequest(t *testing.T) {
	_, base := startEngine(t)
	before := ask(t, base, "SELECT currentDatabase(), getSetting('max_threads'), getSetting('max_block_size')")
	post(t, base, call{body: "SELECT 1", params: map[string]string{"database": "system", "max_threads": "1"}})
	ask(t, base, "SET max_block_size = 7")
	ask(t, base, "USE system")
	ask(t, base, "CREATE TEMPORARY TABLE tmp (a Int8)")
	require.Equal(t, before, ask(t, base, "SELECT currentDatabase(), getSetting('max_threads'), getSetting('max_block_size')"))
	require.Equal(t, 404, post(t, base, call{body: "SELECT * FROM tmp"}).status)
}

func TestLargeResultsStream(t *testing.T) {
	_, base := startEngine(t)
	got := post(t, base, call{body: "SELECT number FROM numbers(1000000)"})
	require.NoError(t, got.err)
	require.Equal(t, 1_000_000, strings.Count(got.body, "\n"))
	require.True(t, strings.HasSuffix(got.body, "\n999999\n"))

	got = post(t, base, call{body: "SELECT number FROM numbers(1000000)", params: map[string]string{"enable_http_compression": "1"},
		header: map[string]string{"Accept-Encoding": "gzip"}})
	unzipped, err := gzip.NewReader(strings.NewReader(got.body))
	require.NoError(t, err)
	text, err := io.ReadAll(unzipped)
	require.NoError(t, err)
	require.Equal(t, 1_000_000, bytes.Count(text, []byte("\n")))
}

func TestErrorInMidStreamIsNoProperEnd(t *testing.T) {
	_, base := startEngine(t)
	for _, zip := range []string{"", "gzip"} {
		got := post(t, base, call{body: "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 65536",
			params: map[string]string{"enable_http_compression": "1"}, header: map[string]string{"Accept-Encoding": zip}})
		require.Equal(t, 200, got.status)
		require.ErrorIs(t, got.err, io.ErrUnexpectedEOF)
		if zip == "" {
			require.Contains(t, got.body, "__exception__\r\n"+got.header.Get("X-ClickHouse-Exception-Tag"))
			require.Contains(t, got.body, "Code: 395.")
		}
	}
}

func TestClientThatLeavesEndsItsQuery(t *testing.T) {
	_, base := startEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base,
		strings.NewReader("SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 7"))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		done <- err
	}()
	running := "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number) = 7%' AND query NOT LIKE '%processes%'"
	require.Eventually(t, func() bool { return ask(t, base, running) == "1\n" }, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool { return ask(t, base, running) == "0\n" }, 10*time.Second, 5*time.Millisecond)
}

// A body that breaks off is not the whole body.
func TestInsertThatBreaksOffInsertsNothing(t *testing.T) {
	_, base := startEngine(t)
	ask(t, base, "CREATE TABLE x (a Int64) ENGINE = MergeTree ORDER BY a")
	address := strings.TrimPrefix(base, "http://")
	connection, err := net.Dial("tcp", address)
	require.NoError(t, err)
	_, err = fmt.Fprintf(connection, "POST /?query=INSERT+INTO+x+FORMAT+TSV HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000\r\n\r\n1\n2\n", address)
	require.NoError(t, err)
	require.NoError(t, connection.(*net.TCPConn).CloseWrite())
	reply, err := io.ReadAll(connection)
	require.NoError(t, err)
	require.Contains(t, string(reply), " 400 ")
	require.NoError(t, connection.Close())
	require.Equal(t, "0\n", ask(t, base, "SELECT count() FROM x"))

	// The same behind the first part that is read to find the statement.
	connection, err = net.Dial("tcp", address)
	require.NoError(t, err)
	_, err = fmt.Fprintf(connection, "POST /?query=INSERT+INTO+x+FORMAT+TSV HTTP/1.1\r\nHost: %s\r\nContent-Length: 10000000\r\n\r\n%s",
		address, strings.Repeat("1\n", maxHead))
	require.NoError(t, err)
	require.NoError(t, connection.(*net.TCPConn).CloseWrite())
	_, err = io.ReadAll(connection)
	require.NoError(t, err)
	require.NoError(t, connection.Close())
	require.Equal(t, "0\n", ask(t, base, "SELECT count() FROM x"))
}

func TestServeStopsWithItsContext(t *testing.T) {
	engine, _ := startEngine(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Serve(ctx, listener) }()
	require.Equal(t, "1\n", ask(t, "http://"+listener.Addr().String(), "SELECT 1"))
	cancel()
	require.NoError(t, <-done)
}

func TestServeRefusesOtherThanLoopback(t *testing.T) {
	engine, _ := startEngine(t)
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	require.NoError(t, err)
	require.ErrorContains(t, engine.Serve(t.Context(), listener), "must listen on loopback")
}

// A streamed result is the same as one made at once: this is what puts a format
// on the list.
func TestStreamedFormatsNeedNoFrame(t *testing.T) {
	engine, _ := startEngine(t)
	const statement = "SELECT number, toString(number) AS s, number % 3 = 0 AS f FROM numbers(200000)"
	read := func(result *answer, err error) string {
		require.NoError(t, err)
		defer result.close()
		var text strings.Builder
		for {
			chunk, err := result.next()
			if errors.Is(err, io.EOF) {
				return text.String()
			}
			require.NoError(t, err)
			text.Write(chunk)
		}
	}
	for format := range streamed {
		t.Run(format, func(t *testing.T) {
			s, err := engine.open(t.Context())
			require.NoError(t, err)
			defer engine.release(s)
			query := statement
			if format == "rawblob" || format == "lineasstring" {
				query = "SELECT toString(number) FROM numbers(200000)"
			}
			formats := map[string]string{}
			whole, err := s.run("SELECT name, lower(name) FROM system.formats FORMAT TSV", "TSV", nil)
			for _, line := range strings.Split(strings.TrimSpace(read(whole, err)), "\n") {
				name, lower, _ := strings.Cut(line, "\t")
				formats[lower] = name
			}
			name := formats[format]
			require.NotEmpty(t, name, "a format of this ClickHouse")
			want, err := s.run(query, name, nil)
			expected := read(want, err)
			got, err := s.stream(query, name, nil)
			require.True(t, expected == read(got, err))
		})
	}
}
