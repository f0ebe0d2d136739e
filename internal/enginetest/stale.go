package enginetest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const storagePrefix = "fleetlog-test-clickhouse-"

// removeStale deletes the storage directories of test processes that are no
// more: a test process has no last moment of its own to do it in.
func removeStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), storagePrefix+"*"))
	if err != nil {
		return // the pattern is constant
	}
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), storagePrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		_ = os.RemoveAll(dir) // the next process tries again
	}
}
