package kafka

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// groupSync has on disk (fsync) what the broker has written, once for all who
// wait at a time. kfake's own way is to sync two files for every batch before it
// looks at the next request: a few hundred small producers then leave no time for
// a large one (100 devices at full speed beside 833 single messages/s from two
// other nodes: 249,000/s instead of 430,000/s).
//
// It sees the files, not the broker: what was written before [groupSync.wait] is
// called is on disk when it returns.
type groupSync struct {
	root   string // the broker's own directory
	logger *slog.Logger

	mu     sync.Mutex
	change *sync.Cond
	asked  uint64 // passes that are wanted so far
	done   uint64 // passes that are over
	busy   bool   // somebody makes a pass
	failed error  // for ever: after a failed fsync nobody knows what is on disk

	// Touched by who makes a pass only.
	top  *syncedDir
	all  *syncedDir
	dirs map[string]*syncedDir
}

func newGroupSync(root string, logger *slog.Logger) *groupSync {
	s := &groupSync{
		root: root, logger: logger, dirs: map[string]*syncedDir{},
		top: newSyncedDir(root, isLog),
		all: newSyncedDir(filepath.Join(root, "partitions"), func(string) bool { return false }),
	}
	s.change = sync.NewCond(&s.mu)
	return s
}

// wait returns when all that was written before it is on disk, or the error that
// kept it from being so; after that no wait succeeds. Whoever comes while nobody
// syncs does it for all: on a busy machine handing it to another goroutine costs
// more than the disk.
func (s *groupSync) wait() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	for ticket := s.asked; s.done < ticket && s.failed == nil; {
		if s.busy {
			s.change.Wait()
			continue
		}
		s.sync()
	}
	return s.failed
}

// sync makes one pass for all who have asked so far; s.mu is held around it.
func (s *groupSync) sync() {
	s.busy = true
	asked := s.asked
	s.mu.Unlock()
	err := s.pass()
	s.mu.Lock()
	s.busy, s.done = false, asked
	if err != nil {
		s.failed = fmt.Errorf("embedded Kafka broker: the disk did not take what was written, nothing is acknowledged any more; check the disk of %s and start again: %w", s.root, err)
		s.logger.Error("embedded log cannot be written to disk", "dir", s.root, "error", err)
	}
	s.change.Broadcast()
}

// close syncs a last time, when the broker writes no more; nil has nothing to do.
func (s *groupSync) close() error {
	if s == nil {
		return nil
	}
	err := s.wait()
	for _, d := range s.dirs {
		d.close()
	}
	s.top.close()
	return err
}

// pass syncs every file that has grown since the pass before.
func (s *groupSync) pass() error {
	if err := s.refresh(); err != nil {
		return err
	}
	if err := s.top.sync(); err != nil {
		return err
	}
	for _, d := range s.dirs {
		if err := d.sync(); err != nil {
			return err
		}
		d.retire()
	}
	return nil
}

// refresh looks for new partitions and segments.
func (s *groupSync) refresh() error {
	if _, err := s.top.refresh(); err != nil {
		return err
	}
	partitions, err := s.all.refresh()
	if err != nil {
		return err
	}
	if partitions != nil {
		there := map[string]bool{}
		for _, name := range partitions {
			there[name] = true
			if s.dirs[name] == nil {
				s.dirs[name] = newSyncedDir(filepath.Join(s.all.path, name), isSegment)
			}
		}
		for name, d := range s.dirs {
			if !there[name] {
				d.close()
				delete(s.dirs, name)
			}
		}
	}
	for _, d := range s.dirs {
		if _, err := d.refresh(); err != nil {
			return err
		}
	}
	return nil
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

func isSegment(name string) bool {
	return strings.HasSuffix(name, ".dat") || strings.HasSuffix(name, ".idx")
}

// syncedDir is a directory whose files are synced.
type syncedDir struct {
	path    string
	keep    func(name string) bool
	files   map[string]*syncedFile
	read    bool
	changed time.Time // its modification time when it was read last
	retired int64     // segments before this offset are closed for good
}

func newSyncedDir(path string, keep func(name string) bool) *syncedDir {
	return &syncedDir{path: path, keep: keep, files: map[string]*syncedFile{}}
}

func (d *syncedDir) sync() error {
	for _, f := range d.files {
		if err := f.sync(); err != nil {
			return fmt.Errorf("sync %s: %w", d.path, err)
		}
	}
	return nil
}

// settleTime is longer than the steps of a file system's clock: a directory that
// has changed so recently may change again without its time telling.
const settleTime = 100 * time.Millisecond

// refresh reads the directory if it has changed, and gives the names in it then. A
// new file's entry is synced with it.
func (d *syncedDir) refresh() ([]string, error) {
	stat, err := os.Stat(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if d.read && stat.ModTime().Equal(d.changed) && time.Since(stat.ModTime()) > settleTime {
		return nil, nil
	}
	dir, err := os.Open(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	there, fresh := map[string]bool{}, !d.read || !stat.ModTime().Equal(d.changed)
	for _, name := range names {
		there[name] = true
		if d.files[name] != nil || !d.keep(name) || segmentBase(name) < d.retired {
			continue
		}
		file, err := os.Open(filepath.Join(d.path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d.files[name] = &syncedFile{file: file, size: -1}
	}
	for name, f := range d.files {
		if !there[name] {
			_ = f.file.Close()
			delete(d.files, name)
		}
	}
	if fresh {
		if err := dir.Sync(); err != nil {
			return nil, err
		}
	}
	d.read, d.changed = true, stat.ModTime()
	return names, nil
}

// retire closes the segments before the newest: they are synced and do not change
// any more.
func (d *syncedDir) retire() {
	newest := int64(0)
	for name := range d.files {
		newest = max(newest, segmentBase(name))
	}
	if newest == d.retired {
		return
	}
	for name, f := range d.files {
		if segmentBase(name) < newest {
			_ = f.file.Close()
			delete(d.files, name)
		}
	}
	d.retired = newest
}

func (d *syncedDir) close() {
	for _, f := range d.files {
		_ = f.file.Close()
	}
	clear(d.files)
}

// segmentBase is the offset a segment's file name begins with; 0 for other names.
func segmentBase(name string) int64 {
	digits, _, _ := strings.Cut(name, ".")
	base, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0
	}
	return base
}

// syncedFile is a file that the broker appends to.
type syncedFile struct {
	file *os.File
	size int64 // on disk; -1: not known
}

// sync has the file on disk if its size has changed.
func (f *syncedFile) sync() error {
	stat, err := f.file.Stat()
	if err != nil || stat.Size() == f.size {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	f.size = stat.Size()
	return nil
}
