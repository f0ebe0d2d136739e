package clickhouse_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
)

func TestOpenCreatesTheDatabaseOnce(t *testing.T) {
	addr, database := enginetest.ClickHouse(t)
	name := database + "_made"
	for range 2 {
		conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: "http://" + addr, Database: name})
		require.NoError(t, err)
		require.NoError(t, conn.Ping(t.Context()))
		var current string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT currentDatabase()").Scan(&current))
		require.Equal(t, name, current)
		require.Equal(t, name, conn.Database())
		require.NoError(t, conn.Close())
	}
	conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err, "a bare host:port is HTTP")
	require.NoError(t, conn.Exec(t.Context(), "DROP DATABASE "+name))
	require.NoError(t, conn.Close())
}

func TestOpenWaitsForClickHouse(t *testing.T) {
	addr, database := enginetest.ClickHouse(t)
	target, err := url.Parse("http://" + addr)
	require.NoError(t, err)
	var refused atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused.Add(1) <= 3 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: server.URL, Database: database})
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.Greater(t, refused.Load(), int32(3))
}

// TestNoErrorCarriesThePassword has every way to fail that knows the password.
func TestNoErrorCarriesThePassword(t *testing.T) {
	denied := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-ClickHouse-Exception-Code", "516")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "Code: 516. DB::Exception: someone: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)")
	}))
	defer denied.Close()
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	for name, addr := range map[string]string{
		"denied":         "http://someone:topsecret@" + denied.Listener.Addr().String(),
		"nobody there":   "http://someone:topsecret@" + closed.Addr().String(),
		"not a URL":      "http://someone:topsecret%zz@host:1",
		"bad port":       "http://someone:topsecret@host:port",
		"scheme":         "clickhouse://someone:topsecret@host:1",
		"path":           "http://someone:topsecret@host:1/db",
		"no host":        "http://someone:topsecret@",
		"database query": "http://someone:topsecret@host:1?database=x",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			var logged bytes.Buffer
			_, err := clickhouse.Open(ctx, clickhouse.Config{Addr: addr, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			require.Error(t, err)
			require.NotContains(t, err.Error()+logged.String(), "topsecret")
		})
	}
}

func TestOpenRefusesNamesThatAreNoIdentifiers(t *testing.T) {
	for _, name := range []string{"a b", "1a", "a;DROP", "a`", "a.b", "ä"} {
		_, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: "127.0.0.1:1", Database: name})
		require.ErrorContains(t, err, "is not a name", name)
	}
}

func TestErrorCodes(t *testing.T) {
	addr, database := enginetest.ClickHouse(t)
	conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	code, ok := clickhouse.ErrorCode(conn.Exec(t.Context(), "SELECT * FROM nothing_here"))
	require.True(t, ok)
	require.EqualValues(t, 60, code)
	require.NoError(t, conn.Close())
	_, ok = clickhouse.ErrorCode(context.Canceled)
	require.False(t, ok)
}
