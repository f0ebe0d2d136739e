package chdb

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	// holdBack is how much of a result is collected before the first byte is
	// sent, so that most errors still get their HTTP status.
	holdBack = 256 << 10
	// holdBackWhole is the same with wait_end_of_query=1.
	holdBackWhole = 64 << 20
	// maxWholeResult bounds results in formats that cannot be streamed, in
	// bytes of ClickHouse's columns.
	maxWholeResult = 256 << 20
)

// streamed are the formats without header, footer or state between rows: the
// chunks of a result, one behind the other, are the result.
var streamed = map[string]bool{
	"tabseparated": true, "tsv": true, "tabseparatedraw": true, "tsvraw": true, "raw": true, "tskv": true, "csv": true,
	"jsoneachrow": true, "jsonlines": true, "ndjson": true, "jsonstringseachrow": true, "jsoncompacteachrow": true,
	"jsoncompactstringseachrow": true, "rowbinary": true, "native": true, "lineasstring": true, "rawblob": true, "null": true,
}

var contentTypes = map[string]string{
	"csv": "text/csv; charset=UTF-8; header=absent", "csvwithnames": "text/csv; charset=UTF-8; header=present",
	"csvwithnamesandtypes": "text/csv; charset=UTF-8; header=present",
	"tabseparated":         "text/tab-separated-values; charset=UTF-8", "tsv": "text/tab-separated-values; charset=UTF-8",
	"json": "application/json; charset=UTF-8", "jsoncompact": "application/json; charset=UTF-8",
	"jsonstrings": "application/json; charset=UTF-8", "jsoncompactstrings": "application/json; charset=UTF-8",
	"jsoncolumns": "application/json; charset=UTF-8", "jsoneachrow": "application/x-ndjson; charset=UTF-8",
	"jsonlines": "application/x-ndjson; charset=UTF-8", "ndjson": "application/x-ndjson; charset=UTF-8",
	"jsoncompacteachrow": "application/x-ndjson; charset=UTF-8", "jsonstringseachrow": "application/x-ndjson; charset=UTF-8",
	"native": "application/octet-stream", "rowbinary": "application/octet-stream", "parquet": "application/octet-stream",
	"arrow": "application/octet-stream", "arrowstream": "application/octet-stream", "xml": "application/xml; charset=UTF-8",
	"rowbinarywithnames": "application/octet-stream", "rowbinarywithnamesandtypes": "application/octet-stream",
	"orc": "application/octet-stream", "avro": "application/octet-stream", "msgpack": "application/octet-stream",
}

func contentType(format string) string {
	format = strings.ToLower(format)
	if known, ok := contentTypes[format]; ok {
		return known
	}
	if strings.HasPrefix(format, "tabseparated") || strings.HasPrefix(format, "tsv") {
		return contentTypes["tsv"]
	}
	return "text/plain; charset=UTF-8"
}

// summary is the value of X-ClickHouse-Summary.
func (t tally) summary() string {
	return fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","result_rows":"%d","result_bytes":"%d"}`,
		t.readRows, t.readBytes, t.writtenRows, t.writtenBytes, t.resultRows, t.resultBytes)
}

// fail answers with an exception, when nothing has been sent yet.
func fail(w http.ResponseWriter, err error) {
	exception := &Error{Code: codeUnknown, Name: "UNKNOWN_EXCEPTION", Message: err.Error()}
	_ = errors.As(err, &exception)
	w.Header().Del("Content-Encoding")
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(exception.Code))
	w.WriteHeader(exception.status())
	_, _ = io.WriteString(w, exception.Error()+"\n")
}

// respond runs a statement and sends its result.
func respond(w http.ResponseWriter, s *session, q *request) {
	format := q.outputFormat()
	result, err := s.begin(q, format)
	if err != nil {
		fail(w, err)
		return
	}
	defer result.close()

	var source chunks = result
	if q.revision > 0 && strings.EqualFold(format, "Native") {
		source = newNativeChunks(result, q.revision)
	}
	limit := holdBack
	if q.whole {
		limit = holdBackWhole
	}
	held, ended, err := collect(source, limit)
	if err != nil {
		fail(w, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", contentType(format))
	header.Set("X-ClickHouse-Format", format)
	if ended {
		header.Set("X-ClickHouse-Summary", result.tally.summary())
	}
	if ended && !q.compress {
		header.Set("Content-Length", strconv.Itoa(len(held)))
	}
	send(w, q, held, ended, source)
}

func (q *request) outputFormat() string {
	switch {
	case q.text.format != "":
		return q.text.format
	case q.format != "":
		return q.format
	default:
		return "TabSeparated"
	}
}

// begin starts a statement, streaming its result where that is possible.
func (s *session) begin(q *request, format string) (*answer, error) {
	if !q.query || streamed[strings.ToLower(format)] {
		result, err := s.stream(q.statement, format, q.parameters)
		if !errors.Is(err, errNotStreamed) {
			return result, err
		}
	} else if !q.sets("max_result_bytes") {
		if err := s.exec("SET max_result_bytes = " + strconv.Itoa(maxWholeResult)); err != nil {
			return nil, err
		}
	}
	return s.run(q.statement, format, q.parameters)
}

func (q *request) sets(setting string) bool {
	return slices.ContainsFunc(q.settings, func(p parameter) bool { return p.name == setting })
}

// chunks is a result in pieces; a piece is valid until the next call. It ends
// with io.EOF.
type chunks interface{ next() ([]byte, error) }

// collect reads pieces until there are limit bytes or no more.
func collect(source chunks, limit int) (held []byte, ended bool, err error) {
	for len(held) < limit {
		chunk, err := source.next()
		if errors.Is(err, io.EOF) {
			return held, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		held = append(held, chunk...)
	}
	return held, false, nil
}

// send writes the held pieces and then the rest of the source. An error that
// comes up after the first byte is written into the body the way ClickHouse
// does, and the connection is broken off, so that no client takes the part for
// the whole.
func send(w http.ResponseWriter, q *request, held []byte, ended bool, source chunks) {
	tag := strings.ToLower(rand.Text())[:16]
	if !ended {
		w.Header().Set("X-ClickHouse-Exception-Tag", tag)
	}
	var body io.Writer = w
	if q.compress {
		w.Header().Set("Content-Encoding", "gzip")
		zipped := gzip.NewWriter(w)
		body = zipped
		defer func() {
			// A body that was broken off must not end well-formed.
			if ended {
				_ = zipped.Close()
			}
		}()
	}
	w.WriteHeader(http.StatusOK)
	if _, err := body.Write(held); err != nil {
		return
	}
	for !ended {
		chunk, err := source.next()
		switch {
		case errors.Is(err, io.EOF):
			ended = true
		case err != nil:
			breakOff(w, body, tag, err)
		default:
			if _, err := body.Write(chunk); err != nil {
				// The client is gone; close cancels the statement.
				return
			}
		}
	}
}

// breakOff ends a response in the middle: the exception in the frame that
// ClickHouse 25.11 and later use, then no proper end.
func breakOff(w http.ResponseWriter, body io.Writer, tag string, err error) {
	message := err.Error() + "\n"
	var frame bytes.Buffer
	fmt.Fprintf(&frame, "\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n", tag, message, len(message), tag)
	_, _ = body.Write(frame.Bytes())
	if flusher, ok := body.(interface{ Flush() error }); ok {
		_ = flusher.Flush()
	}
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
