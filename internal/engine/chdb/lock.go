package chdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockDirectory takes the storage directory for this process. The lock belongs
// to the open file, so it ends with the process however that ends: a file left
// behind by kill -9 locks nothing.
func lockDirectory(dir string) (*os.File, error) {
	path := filepath.Join(dir, "fleetlog.lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock ClickHouse storage: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another process has it open; stop that one or choose another directory: %w", err)
	}
	return nil, errors.Join(fmt.Errorf("lock ClickHouse storage %s: %w", dir, err), file.Close())
}
