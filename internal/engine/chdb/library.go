package chdb

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Version is the npm version of libchdb that this package is built for;
// deploy/engines.sh fetches the same one.
const Version = "26.7.3-stable.1"

// LibraryPath returns the libchdb to load: $CHDB_LIB_PATH, else the file that
// `make engines` puts into the user's cache directory. It is an error when
// there is no such file.
func LibraryPath() (string, error) {
	if path := os.Getenv("CHDB_LIB_PATH"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("CHDB_LIB_PATH: %w; correct it, or unset it and run `make engines`", err)
		}
		return path, nil
	}
	// XDG on every system, as deploy/engines.sh does; os.UserCacheDir differs
	// on macOS.
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory of the embedded ClickHouse: %w; set CHDB_LIB_PATH", err)
		}
		cache = filepath.Join(home, ".cache")
	}
	path := filepath.Join(cache, "fleetlog", "chdb", Version, "libchdb.so")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the embedded ClickHouse for %s/%s is not installed: run `make engines`, or use an external ClickHouse: %w",
			runtime.GOOS, runtime.GOARCH, err)
	}
	return path, nil
}
