package chdb

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"unsafe"
)

// parameter is a query parameter: {name:Type} in the statement.
type parameter struct{ name, value string }

// tally is what a statement read and wrote, for X-ClickHouse-Summary.
type tally struct {
	readRows, readBytes, writtenRows, writtenBytes, resultRows, resultBytes uint64
}

// answer is the result of a statement, as chunks of its output format. Chunks
// lie in ClickHouse's memory and are valid until the next call.
type answer struct {
	s      *session
	stream uintptr
	chunk  uintptr
	// ended says that nothing more comes, because the end was reached or failed.
	ended bool
	tally tally
}

// exec runs a statement whose output does not matter.
func (s *session) exec(sql string) error {
	a, err := s.run(sql, "Null", nil)
	if err != nil {
		return err
	}
	a.close()
	return nil
}

// run executes a statement to its end and keeps the whole output.
func (s *session) run(sql, format string, parameters []parameter) (*answer, error) {
	a := &answer{s: s, ended: true}
	a.chunk = s.start(s.lib.query, sql, format, parameters)
	if err := a.failure(a.chunk); err != nil {
		a.close()
		return nil, err
	}
	a.count(a.chunk)
	return a, nil
}

// stream executes a statement and hands its output over chunk by chunk. Only
// for formats without a header or footer: libchdb repeats those in each chunk.
// errNotStreamed means that nothing was executed and run has to do it.
func (s *session) stream(sql, format string, parameters []parameter) (*answer, error) {
	a := &answer{s: s}
	a.stream = s.start(s.lib.streamQuery, sql, format, parameters)
	if err := a.failure(a.stream); err != nil {
		a.ended = true
		a.close()
		if strings.Contains(err.Error(), "Streaming query is not supported") {
			return nil, errNotStreamed
		}
		return nil, err
	}
	return a, nil
}

var errNotStreamed = errors.New("libchdb streams only queries, not this kind of statement")

type queryFunction = func(conn uintptr, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr,
	names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr

func (s *session) start(function queryFunction, sql, format string, parameters []parameter) uintptr {
	names, values := make([]string, len(parameters)), make([]string, len(parameters))
	for i, p := range parameters {
		names[i], values[i] = p.name, p.value
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	n, v := pinStrings(&pin, names), pinStrings(&pin, values)
	return function(s.connection(), pinString(&pin, sql), uintptr(len(sql)), pinString(&pin, format), uintptr(len(format)),
		n.array(), n.lengthArray(), v.array(), v.lengthArray(), uintptr(len(parameters)))
}

// next returns the next chunk, io.EOF after the last.
func (a *answer) next() ([]byte, error) {
	if a.stream == 0 {
		return a.whole()
	}
	if a.ended {
		return nil, io.EOF
	}
	a.dropChunk()
	a.chunk = a.s.lib.streamFetch(a.s.connection(), a.stream)
	if err := a.failure(a.chunk); err != nil {
		a.ended = true
		return nil, err
	}
	a.count(a.chunk)
	chunk := a.bytes()
	if len(chunk) == 0 {
		a.ended = true
		return nil, io.EOF
	}
	return chunk, nil
}

// whole returns the complete output once.
func (a *answer) whole() ([]byte, error) {
	if !a.ended {
		return nil, io.EOF
	}
	a.ended = false
	if chunk := a.bytes(); len(chunk) > 0 {
		return chunk, nil
	}
	return nil, io.EOF
}

// close ends a statement that is still running and frees the output.
func (a *answer) close() {
	a.dropChunk()
	if a.stream == 0 {
		return
	}
	if !a.ended {
		a.s.lib.streamCancel(a.s.connection(), a.stream)
	}
	a.s.lib.resultDestroy(a.stream)
	a.stream, a.ended = 0, false
}

func (a *answer) dropChunk() {
	if a.chunk != 0 {
		a.s.lib.resultDestroy(a.chunk)
		a.chunk = 0
	}
}

func (a *answer) bytes() []byte {
	length := a.s.lib.resultLength(a.chunk)
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(a.s.lib.resultBuffer(a.chunk)), length)
}

func (a *answer) failure(result uintptr) error {
	if result == 0 {
		return &Error{Code: codeUnknown, Name: "UNKNOWN_EXCEPTION", Message: "libchdb returned nothing"}
	}
	if text := a.s.lib.resultError(result); text != "" {
		return parseError(text)
	}
	return nil
}

func (a *answer) count(result uintptr) {
	lib := a.s.lib
	a.tally.resultRows += lib.resultRows(result)
	a.tally.resultBytes += lib.resultBytes(result)
	a.tally.readRows += lib.resultStorageRows(result)
	a.tally.readBytes += lib.resultStorageBytes(result)
	a.tally.writtenRows += lib.resultRowsWritten(result)
	a.tally.writtenBytes += lib.resultBytesWritten(result)
}

// insertChunk is how much of an insert's body is handed over at once. libchdb
// queues up to 16 chunks ahead of its parser and then blocks.
const insertChunk = 256 << 10

// insert streams rows into a table. The statement is INSERT without FORMAT and
// rows. A reading error cancels the insert and is returned as it is.
func (s *session) insert(statement, format string, parameters []parameter, rows io.Reader) (tally, error) {
	stream := s.start(s.lib.insertBegin, statement, format, parameters)
	defer s.lib.insertDestroy(stream)
	if text := s.lib.insertError(stream); text != "" {
		return tally{}, parseError(text)
	}
	if err := s.append(stream, rows); err != nil {
		s.lib.insertCancel(stream)
		return tally{}, err
	}
	a := &answer{s: s, chunk: s.lib.insertDone(stream)}
	defer a.dropChunk()
	if err := a.failure(a.chunk); err != nil {
		return tally{}, err
	}
	a.count(a.chunk)
	return a.tally, nil
}

func (s *session) append(stream uintptr, rows io.Reader) error {
	buffer := make([]byte, insertChunk)
	for {
		n, err := fill(rows, buffer)
		if n > 0 && s.lib.insertAppend(stream, unsafe.Pointer(&buffer[0]), uintptr(n)) != 0 {
			// The parser has given up; insertDone has the reason.
			return nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// fill reads until the buffer is full. Unlike io.ReadFull it returns the
// reader's own error, so that io.EOF (all there) and io.ErrUnexpectedEOF (the
// client went away) stay apart.
func fill(from io.Reader, buffer []byte) (int, error) {
	total := 0
	for total < len(buffer) {
		n, err := from.Read(buffer[total:])
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
