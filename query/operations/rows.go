package operations

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/device"
)

// MaxInputBytes bounds a file to import.
const MaxInputBytes = 16 << 20

const (
	maxRows    = 100_000
	maxColumns = 256
	// maxHeaderBytes is where the separator of columns is looked for.
	maxHeaderBytes = 4 << 10
)

// The columns that count. A tag's name follows columnTag.
const (
	columnID   = "IOTC_DEVICEID"
	columnName = "IOTC_DEVICENAME"
	columnTag  = "TAG_"
)

// row is a device of a file to import.
type row struct {
	line     int
	id, name string
	tags     []byte // a JSON object; nil when there are none
}

// problem is a row of the error report: what kept a row of the file from being done.
type problem struct {
	line                  int
	device, code, message string
}

// Error makes a problem with the header an error.
func (p *problem) Error() string { return p.message }

// The codes of problems, for programs.
const (
	codeHeader   = "InvalidHeader"
	codeCSV      = "InvalidCsv"
	codeColumns  = "WrongColumnCount"
	codeText     = "InvalidText"
	codeID       = "InvalidId"
	codeName     = "InvalidName"
	codeTwice    = "DuplicateId"
	codeExists   = "AlreadyExists"
	codeMissing  = "NotFound"
	codeRejected = "Rejected"
)

// rowReader reads the rows of a file to import. The same file gives the same rows
// and problems each time.
type rowReader struct {
	csv     *csv.Reader
	columns int
	id      int
	name    int            // -1: none
	tags    map[int]string // names by column
	lines   map[string]int // of the ids so far
}

// newRowReader reads the header; a header that does not do is a *problem. Columns
// are separated by commas, or by semicolons as spreadsheets in many countries do.
func newRowReader(from io.Reader) (*rowReader, error) {
	buffered := bufio.NewReaderSize(from, maxHeaderBytes)
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = buffered.Discard(len(mark)) // it is in the buffer
	}
	r := &rowReader{csv: csv.NewReader(buffered), id: -1, name: -1, tags: map[int]string{}, lines: map[string]int{}}
	start, err := buffered.Peek(maxHeaderBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read CSV: %w", err)
	}
	first, _, _ := bytes.Cut(start, []byte("\n"))
	if bytes.Count(first, []byte(";")) > bytes.Count(first, []byte(",")) {
		r.csv.Comma = ';'
	}
	r.csv.FieldsPerRecord, r.csv.ReuseRecord = -1, true
	header, err := r.csv.Read()
	var malformed *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil, badHeader("the file is empty: its first row must name the columns, %s and %s", columnID, columnName)
	case errors.As(err, &malformed):
		return nil, badHeader("the first row is not CSV: %s", malformed.Err)
	case err != nil:
		return nil, fmt.Errorf("read CSV: %w", err)
	}
	if err := r.readHeader(header); err != nil {
		return nil, err
	}
	return r, nil
}

func badHeader(format string, args ...any) *problem {
	return &problem{line: 1, code: codeHeader, message: fmt.Sprintf(format, args...)}
}

func (r *rowReader) readHeader(header []string) error {
	if r.columns = len(header); r.columns > maxColumns {
		return badHeader("the first row has %d columns: use at most %d", r.columns, maxColumns)
	}
	seen := map[string]bool{}
	for i, cell := range header {
		if !utf8.ValidString(cell) || strings.ContainsRune(cell, 0) {
			return badHeader("the file is not UTF-8: save it as CSV UTF-8")
		}
		name := strings.TrimSpace(cell)
		upper := strings.ToUpper(name)
		switch tag, isTag := strings.CutPrefix(upper, columnTag); {
		case upper == columnID:
			r.id = i
		case upper == columnName:
			r.name = i
		case isTag && tag != "":
			name = name[len(columnTag):] // tags are told apart by case
			r.tags[i], upper = name, columnTag+name
		default:
			continue // not ours
		}
		if seen[upper] {
			return badHeader("the column %s is there twice", upper)
		}
		seen[upper] = true
	}
	if r.id < 0 {
		return badHeader("the column %s is missing: the first row must name the columns", columnID)
	}
	return nil
}

// next is the next row, or the problem with it; io.EOF after the last one. Rows
// without any content are left out.
func (r *rowReader) next() (row, *problem, error) {
	for {
		cells, err := r.csv.Read()
		var malformed *csv.ParseError
		switch {
		case errors.As(err, &malformed):
			return row{}, &problem{line: malformed.StartLine, code: codeCSV, message: malformation(malformed)}, nil
		case errors.Is(err, io.EOF):
			return row{}, nil, io.EOF
		case err != nil:
			return row{}, nil, fmt.Errorf("read CSV: %w", err)
		}
		if strings.TrimSpace(strings.Join(cells, "")) == "" {
			continue
		}
		line, _ := r.csv.FieldPos(0)
		one, bad := r.row(line, cells)
		return one, bad, nil
	}
}

func malformation(e *csv.ParseError) string {
	if e.Line > e.StartLine {
		return fmt.Sprintf("a quote is not closed: lines %d to %d were taken for one row", e.StartLine, e.Line)
	}
	return "a quote is in the wrong place: write \"\" for a quote within quotes"
}

func (r *rowReader) row(line int, cells []string) (row, *problem) {
	bad := func(id, code, format string, args ...any) (row, *problem) {
		return row{}, &problem{line: line, device: strings.ToValidUTF8(clip(id), "\ufffd"), code: code, message: fmt.Sprintf(format, args...)}
	}
	id := ""
	if r.id < len(cells) {
		id = plain(strings.TrimSpace(cells[r.id]))
	}
	if len(cells) != r.columns {
		return bad(id, codeColumns, "the row has %d columns, the header %d", len(cells), r.columns)
	}
	if err := device.ValidateID(id); err != nil {
		return bad(id, codeID, "%s", err)
	}
	if earlier, twice := r.lines[id]; twice {
		return bad(id, codeTwice, "the device is in line %d already", earlier)
	}
	one := row{line: line, id: id}
	if r.name >= 0 {
		one.name = plain(strings.TrimSpace(cells[r.name]))
	}
	tags, fine := r.readTags(cells)
	switch n := utf8.RuneCountInString(one.name); {
	case !fine || !utf8.ValidString(one.name):
		return bad(id, codeText, "the row is not UTF-8: save the file as CSV UTF-8")
	case n > device.MaxDisplayNameLength:
		return bad(id, codeName, "the name has %d characters: use at most %d", n, device.MaxDisplayNameLength)
	}
	one.tags = tags
	r.lines[strings.Clone(id)] = line
	return one, nil
}

// readTags are the tags of a row as JSON; not fine when they are not text.
func (r *rowReader) readTags(cells []string) (tags []byte, fine bool) {
	given := map[string]string{}
	for i, name := range r.tags {
		value := plain(strings.TrimSpace(cells[i]))
		if !utf8.ValidString(value) {
			return nil, false
		}
		if value != "" {
			given[name] = value
		}
	}
	if len(given) == 0 {
		return nil, true
	}
	tags, err := json.Marshal(given) // of strings: it always does
	return tags, err == nil
}

// clip shortens what is quoted back.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
