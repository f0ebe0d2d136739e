package chdb

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// startEngine opens an engine on its own directory and serves it.
func startEngine(t testing.TB) (*Engine, *httptest.Server) {
	t.Helper()
	engine, err := Open(Config{Dir: t.TempDir(), MemoryBytes: 4 << 30})
	require.NoError(t, err)
	server := httptest.NewServer(engine.Handler())
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, engine.Close())
	})
	return engine, server
}
