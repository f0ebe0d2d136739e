package kafka

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// kfake compacts a partition by deleting its segments and writing new ones, and
// takes records of transactions that are still open for settled. So compaction
// runs at start only, before the first client is let in, and over a backup of
// hard links: a process killed half way finds the backup at its next start and
// begins again from it.

const (
	partitionsDir = "partitions"        // kfake's, in logDir
	backupDir     = "before-compaction" // exists only while a compaction is under way
	sizeFile      = "compacted-bytes"   // the log's size after the last compaction
)

// compact compacts when the log has grown by opts.CompactAfter bytes since it
// was last compacted.
func compact(opts Options, cluster *kfake.Cluster) error {
	parts := filepath.Join(opts.DataDir, logDir, partitionsDir)
	before, err := segmentBytes(parts)
	if err != nil {
		return fmt.Errorf("measure log: %w", err)
	}
	if before-compactedBytes(opts.DataDir) < opts.CompactAfter {
		return nil
	}
	began := time.Now()
	if err := linkTree(parts, filepath.Join(opts.DataDir, backupDir)); err != nil {
		return fmt.Errorf("back up log before compaction: %w", err)
	}
	cluster.Compact()
	if err := dropBackup(opts.DataDir); err != nil {
		return fmt.Errorf("finish compaction: %w", err)
	}
	after, err := segmentBytes(parts)
	if err != nil {
		return fmt.Errorf("measure compacted log: %w", err)
	}
	if err := os.WriteFile(filepath.Join(opts.DataDir, sizeFile), strconv.AppendInt(nil, after, 10), 0o600); err != nil {
		return fmt.Errorf("note size of compacted log: %w", err)
	}
	opts.Logger.Info("compacted the embedded log", "bytes_before", before, "bytes_after", after, "took", time.Since(began))
	return nil
}

// recoverCompaction puts the log back to what it was before a compaction that
// was interrupted. No client was let in since, so nothing is lost.
func recoverCompaction(dir string) error {
	// A backup that was not complete, or was done with.
	for _, half := range []string{backupDir + ".new", backupDir + ".old"} {
		if err := os.RemoveAll(filepath.Join(dir, half)); err != nil {
			return fmt.Errorf("remove leftover of a compaction: %w", err)
		}
	}
	backup := filepath.Join(dir, backupDir)
	if _, err := os.Stat(backup); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for an interrupted compaction: %w", err)
	}
	parts := filepath.Join(dir, logDir, partitionsDir)
	if err := os.RemoveAll(parts); err != nil {
		return fmt.Errorf("undo interrupted compaction: %w", err)
	}
	if err := linkTree(backup, parts); err != nil {
		return fmt.Errorf("undo interrupted compaction: %w", err)
	}
	if err := dropBackup(dir); err != nil {
		return fmt.Errorf("undo interrupted compaction: %w", err)
	}
	return nil
}

// dropBackup removes the backup. The rename decides: a backup that is only
// partly removed is never taken for a whole one.
func dropBackup(dir string) error {
	old := filepath.Join(dir, backupDir+".old")
	if err := os.Rename(filepath.Join(dir, backupDir), old); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// linkTree makes the tree at to share its files with the one at from. It is
// there whole or not at all.
func linkTree(from, to string) error {
	staging := to + ".new"
	if err := os.RemoveAll(staging); err != nil {
		return err
	}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(staging, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o750)
		}
		return os.Link(path, target)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(staging, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// segmentBytes is the size of the files below dir, 0 when it is not there.
func segmentBytes(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n += info.Size()
		return nil
	})
	return n, err
}

// compactedBytes is the noted size, 0 when there is none: that only makes the
// next compaction come early.
func compactedBytes(dir string) int64 {
	text, err := os.ReadFile(filepath.Join(dir, sizeFile))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
