// Package chdb is ClickHouse inside this process: libchdb opened on a storage
// directory and served on loopback as a ClickHouse HTTP endpoint, so that the
// rest of the code talks to it as to any ClickHouse.
//
// In goes a storage directory; out comes an http.Handler that clickhouse-go
// (Protocol HTTP), curl and other ClickHouse HTTP clients can use.
//
// It guarantees that one request never sees another's settings, database or
// temporary tables; that memory per request is bounded by chunk sizes, not by
// the size of an insert or a result; that an insert whose body breaks off is
// cancelled, not committed; and that the storage directory survives kill -9.
//
// It must never serve anything but loopback: it has no users and no passwords.
package chdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Config says how to open an engine. Only Dir is required.
type Config struct {
	// LibraryPath is the libchdb to load. Default: LibraryPath().
	LibraryPath string
	// Dir holds everything the engine stores. It is created if missing. One
	// process at a time can have it open.
	Dir string
	// MemoryBytes bounds the memory of all queries, merges and caches together;
	// half of the machine's memory is the most it counts for. A query that
	// would exceed it fails with MEMORY_LIMIT_EXCEEDED. Default: 4 GiB.
	MemoryBytes int64
	// MaxStatements bounds the statements running at once; others wait.
	// Default: 2 x GOMAXPROCS, at least 8.
	MaxStatements int
}

// Engine is an open ClickHouse. A process can have one at a time.
type Engine struct {
	lib   *library
	dir   string
	lock  *os.File
	slots chan struct{}
	// ids number the sessions, to tell their statements apart in
	// system.processes.
	ids    atomic.Uint64
	closed atomic.Bool

	// control keeps the engine running between requests and carries KILL QUERY.
	controlMu sync.Mutex
	control   *session
}

// Open loads the library and opens the storage directory, creating it when
// needed. Errors: no library (run `make engines`), the directory is in use by
// another process, or ClickHouse cannot read what is in it.
func Open(config Config) (*Engine, error) {
	if config.LibraryPath == "" {
		path, err := LibraryPath()
		if err != nil {
			return nil, err
		}
		config.LibraryPath = path
	}
	if config.MaxStatements <= 0 {
		config.MaxStatements = max(8, 2*runtime.GOMAXPROCS(0))
	}
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse storage %s: %w", config.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create ClickHouse storage: %w", err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	if err := repairDeduplicationLogs(dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	e := &Engine{dir: dir, lock: lock, slots: make(chan struct{}, config.MaxStatements)}
	if err := e.boot(config); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return e, nil
}

func (e *Engine) boot(config Config) error {
	signals, err := saveSignalHandlers()
	if err != nil {
		return err
	}
	defer signals.restore()
	if e.lib, err = loadLibrary(config.LibraryPath); err != nil {
		return err
	}
	e.lib.setSignalHandlersEnabled(0)
	signals.restore()

	configFile, err := writeConfig(e.dir)
	if err != nil {
		return err
	}
	if e.control, err = e.connect(e.serverArguments(config, configFile)...); err != nil {
		return fmt.Errorf("open ClickHouse storage %s: %w", e.dir, err)
	}
	return nil
}

// defaultMemory is enough to insert a hundred thousand rows/s with merges, and
// leaves a small machine room for the rest of the process.
const defaultMemory = 4 << 30

// serverArguments are ClickHouse's server settings, which only the first
// connection can give. libchdb sizes its thread pools by the machine (2 merge
// threads on 2 cores), so they need nothing here.
func (e *Engine) serverArguments(config Config, configFile string) []string {
	memory := config.MemoryBytes
	if memory <= 0 {
		memory = defaultMemory
	}
	arguments := []string{
		"--config-file=" + configFile,
		"--logger.log=" + e.logFile(), "--log-level=warning", "--logger.size=10M", "--logger.count=2",
		"--max_server_memory_usage_to_ram_ratio=0.5",
	}
	// The caches' own defaults, 5 GiB each, could fill the whole bound.
	for setting, bytes := range map[string]int64{
		"max_server_memory_usage":                  memory,
		"merges_mutations_memory_usage_soft_limit": memory / 2,
		"mark_cache_size":                          memory / 8,
		"primary_index_cache_size":                 memory / 8,
		"index_mark_cache_size":                    memory / 16,
		"query_condition_cache_size":               memory / 64,
	} {
		arguments = append(arguments, "--"+setting+"="+strconv.FormatInt(bytes, 10))
	}
	return arguments
}

// logFile is where ClickHouse writes its warnings and errors.
func (e *Engine) logFile() string { return filepath.Join(e.dir, "clickhouse.log") }

// Close waits for running statements, closes the storage and lets another
// Engine be opened. Statements that come later wait for their context's end.
// The library stays loaded. A second Close does nothing.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	for range cap(e.slots) {
		e.slots <- struct{}{}
	}
	e.controlMu.Lock()
	defer e.controlMu.Unlock()
	e.control.close()
	if err := e.lock.Close(); err != nil {
		return fmt.Errorf("unlock ClickHouse storage: %w", err)
	}
	return nil
}

// session is one connection to the engine: its own settings, current database
// and temporary tables, one statement at a time. Opening one takes about
// 0.2 ms, so each request gets its own and nothing can leak to the next.
type session struct {
	lib    *library
	handle uintptr
	tag    string
}

func (e *Engine) connect(arguments ...string) (*session, error) {
	tag := "fleetlog-" + strconv.FormatUint(e.ids.Add(1), 10)
	argv := append([]string{"chdb", "--path=" + e.dir, "--log_comment=" + tag}, arguments...)
	var pin runtime.Pinner
	defer pin.Unpin()
	handle := e.lib.connect(int32(len(argv)), pinStrings(&pin, argv).array())
	if handle == 0 {
		return nil, fmt.Errorf("libchdb refused the connection; its reason may be in %s, and a process can have only one storage open", e.logFile())
	}
	return &session{lib: e.lib, handle: handle, tag: tag}, nil
}

// open waits for a free slot and returns a new session.
func (e *Engine) open(ctx context.Context) (*session, error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, &Error{Code: codeTooManyQueries, Name: "TOO_MANY_SIMULTANEOUS_QUERIES",
			Message: "gave up waiting for a running statement to end; send fewer at once"}
	}
	s, err := e.connect()
	if err != nil {
		<-e.slots
		return nil, err
	}
	return s, nil
}

func (e *Engine) release(s *session) {
	s.close()
	<-e.slots
}

// kill stops the statement a session is running, if any.
func (e *Engine) kill(s *session) {
	e.controlMu.Lock()
	defer e.controlMu.Unlock()
	// Failing to kill leaves the statement to end by itself; there is no one
	// to tell, the client is gone.
	_ = e.control.exec("KILL QUERY WHERE endsWith(concat(' ', Settings['log_comment']), ' " + s.tag + "') ASYNC")
}

func (s *session) close() { s.lib.closeConn(s.handle) }

// connection is the chdb_connection behind the chdb_connection* handle.
func (s *session) connection() uintptr {
	return **(**uintptr)(unsafe.Pointer(&s.handle))
}
