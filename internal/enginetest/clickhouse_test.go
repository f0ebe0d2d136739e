package enginetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClickHouseGivesEachTestItsDatabase(t *testing.T) {
	addr, first := ClickHouse(t)
	t.Run("another test", func(t *testing.T) {
		again, second := ClickHouse(t)
		require.Equal(t, addr, again, "one engine a process")
		require.NotEqual(t, first, second)
		for _, db := range []string{first, second} {
			statement(t, addr, "CREATE TABLE "+db+".readings (n UInt64) ENGINE = MergeTree ORDER BY n")
		}
	})
	statement(t, addr, "INSERT INTO "+first+".readings VALUES (1)")
}

func TestRemoveStaleSparesTheLiving(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	gone := exec.CommandContext(t.Context(), "true")
	require.NoError(t, gone.Run())
	stale := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-1", storagePrefix, gone.Process.Pid))
	living := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-1", storagePrefix, os.Getpid()))
	others := filepath.Join(os.TempDir(), "others")
	for _, dir := range []string{stale, living, others} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	removeStale()
	require.NoDirExists(t, stale)
	require.DirExists(t, living)
	require.DirExists(t, others)
}
