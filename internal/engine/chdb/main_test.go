package chdb

import (
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(insertUntilKilledDir); dir != "" {
		insertUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// startEngine opens an engine on its own directory and serves it.
func startEngine(t testing.TB) (*Engine, string) {
	t.Helper()
	return startEngineIn(t, t.TempDir())
}

func startEngineIn(t testing.TB, dir string) (*Engine, string) {
	t.Helper()
	engine, err := Open(Config{Dir: dir, MemoryBytes: 4 << 30})
	require.NoError(t, err)
	server := httptest.NewServer(engine.Handler())
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, engine.Close())
	})
	return engine, server.URL
}
