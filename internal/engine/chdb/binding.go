package chdb

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library holds the entry points of libchdb that this package uses (chdb.h of
// chdb-core 26.7). Handles are C pointers and are kept as uintptr, because
// they never point into Go memory.
type library struct {
	version                  func() string
	setSignalHandlersEnabled func(enabled int32)
	connect                  func(argc int32, argv unsafe.Pointer) uintptr
	closeConn                func(conn uintptr)

	query        func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	streamQuery  func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	streamFetch  func(conn, result uintptr) uintptr
	streamCancel func(conn, result uintptr)

	insertBegin   func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	insertAppend  func(stream uintptr, rows unsafe.Pointer, length uintptr) int32
	insertDone    func(stream uintptr) uintptr
	insertCancel  func(stream uintptr)
	insertError   func(stream uintptr) string
	insertDestroy func(stream uintptr)

	resultBuffer       func(result uintptr) unsafe.Pointer
	resultLength       func(result uintptr) uintptr
	resultError        func(result uintptr) string
	resultRows         func(result uintptr) uint64
	resultBytes        func(result uintptr) uint64
	resultStorageRows  func(result uintptr) uint64
	resultStorageBytes func(result uintptr) uint64
	resultRowsWritten  func(result uintptr) uint64
	resultBytesWritten func(result uintptr) uint64
	resultDestroy      func(result uintptr)
}

// loadLibrary maps libchdb into the process. It is never unmapped: the library
// starts threads that outlive every connection.
func loadLibrary(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load ClickHouse library %s: %w; run `make engines` to fetch it again", path, err)
	}
	lib := &library{}
	for name, function := range map[string]any{
		"chdb_version":                     &lib.version,
		"chdb_set_signal_handlers_enabled": &lib.setSignalHandlersEnabled,
		"chdb_connect":                     &lib.connect,
		"chdb_close_conn":                  &lib.closeConn,
		"chdb_query_with_params_n":         &lib.query,
		"chdb_stream_query_with_params_n":  &lib.streamQuery,
		"chdb_stream_fetch_result":         &lib.streamFetch,
		"chdb_stream_cancel_query":         &lib.streamCancel,
		"chdb_stream_insert_with_params_n": &lib.insertBegin,
		"chdb_stream_append":               &lib.insertAppend,
		"chdb_stream_done":                 &lib.insertDone,
		"chdb_stream_cancel_insert":        &lib.insertCancel,
		"chdb_stream_insert_error":         &lib.insertError,
		"chdb_destroy_insert_stream":       &lib.insertDestroy,
		"chdb_result_buffer":               &lib.resultBuffer,
		"chdb_result_length":               &lib.resultLength,
		"chdb_result_error":                &lib.resultError,
		"chdb_result_rows_read":            &lib.resultRows,
		"chdb_result_bytes_read":           &lib.resultBytes,
		"chdb_result_storage_rows_read":    &lib.resultStorageRows,
		"chdb_result_storage_bytes_read":   &lib.resultStorageBytes,
		"chdb_result_rows_written":         &lib.resultRowsWritten,
		"chdb_result_bytes_written":        &lib.resultBytesWritten,
		"chdb_destroy_query_result":        &lib.resultDestroy,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("%s is not the ClickHouse library this build needs (%s is missing); run `make engines`: %w", path, name, err)
		}
		purego.RegisterFunc(function, symbol)
	}
	return lib, nil
}

// cStrings lays strings out as C expects arrays of them: a pointer array and a
// length array. The memory is pinned until the pinner is released.
type cStrings struct {
	pointers []unsafe.Pointer
	lengths  []uintptr
}

func pinStrings(pin *runtime.Pinner, values []string) cStrings {
	c := cStrings{pointers: make([]unsafe.Pointer, len(values)+1), lengths: make([]uintptr, len(values)+1)}
	for i, value := range values {
		c.pointers[i] = pinString(pin, value)
		c.lengths[i] = uintptr(len(value))
	}
	pin.Pin(&c.pointers[0])
	pin.Pin(&c.lengths[0])
	return c
}

// pinString copies a string to NUL-terminated, pinned memory.
func pinString(pin *runtime.Pinner, value string) unsafe.Pointer {
	memory := make([]byte, len(value)+1)
	copy(memory, value)
	pin.Pin(&memory[0])
	return unsafe.Pointer(&memory[0])
}

func (c cStrings) array() unsafe.Pointer       { return unsafe.Pointer(&c.pointers[0]) }
func (c cStrings) lengthArray() unsafe.Pointer { return unsafe.Pointer(&c.lengths[0]) }
