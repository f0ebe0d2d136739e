package enginetest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/engine/chdb"
)

// clickHouseMemory bounds what the embedded ClickHouse of one test process
// takes; several processes test at once.
const clickHouseMemory = 2 << 30

// clickHouse is the one engine of this test process, opened by the first test
// that asks for it. libchdb can open one storage directory per process and takes
// a second to do so. It ends with the process.
var clickHouse = sync.OnceValues(func() (string, error) {
	// No test owns the directory, so it cannot be a t.TempDir; unlinked at once
	// it would be gone for ClickHouse too. removeStale deletes those of
	// processes that have ended.
	removeStale()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-*", storagePrefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("create directory of the embedded ClickHouse: %w", err)
	}
	engine, err := chdb.Open(chdb.Config{Dir: dir, MemoryBytes: clickHouseMemory})
	if err != nil {
		return "", err
	}
	return httptest.NewServer(engine.Handler()).Listener.Addr().String(), nil
})

// ClickHouse gives the address (host:port of its HTTP endpoint) of an embedded
// ClickHouse and an empty database on it, which is dropped after the test.
func ClickHouse(t testing.TB) (addr, database string) {
	t.Helper()
	addr, err := clickHouse()
	require.NoError(t, err, "the embedded ClickHouse does not start; `make engines` installs its library")
	database = randomName()
	statement(t, addr, "CREATE DATABASE "+database)
	t.Cleanup(func() { statement(t, addr, "DROP DATABASE IF EXISTS "+database+" SYNC") })
	return addr, database
}

// statement runs one statement and wants it to succeed.
func statement(t testing.TB, addr, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", strings.NewReader(sql))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", sql, answer)
}
