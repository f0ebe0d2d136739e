package query

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"strings"
	"time"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/fleetlog/fleetlog/query/fleetql"
)

// questionPage is which rows of an answer are wanted: so many behind a place in their
// order, of what was on the log at a moment. A place does not move when rows come in
// before it, or are deleted, as a number of rows to skip would.
type questionPage struct {
	size int
	// seen is how many rows the pages before have had, for TOP.
	seen int
	// after is the place, a value for each key; empty on the first page.
	after []string
	// pinned is the time up to which the log counts.
	pinned time.Time

	keys []pageKey
	// columns are what the statement within must have for the keys.
	columns []string
}

// pageKey is one of the values that together say where a row stands. They are of one
// type and never NULL, as what is compared must be.
type pageKey struct {
	sql, kind  string
	descending bool
}

// questionToken is where a page begins.
type questionToken struct {
	After  []string `json:"a"`
	Seen   int      `json:"s"`
	Pinned int64    `json:"p"` // Unix milliseconds
	Of     uint32   `json:"o"`
}

// paged finds out which page is asked for.
func (q *question) paged(req *apiv1.QueryRequest, format string) error {
	if req.GetMaxpagesize() == 0 && req.GetPageToken() == "" {
		return nil
	}
	if format != "json" {
		return badField("maxpagesize", "pages are of JSON only: leave maxpagesize out, and the answer comes as a stream")
	}
	size, err := pageSize(req.GetMaxpagesize(), 1000, maxAnswer)
	if err != nil {
		return err
	}
	at, err := decodeToken[questionToken](req.GetPageToken())
	if err != nil {
		return err
	}
	if req.GetPageToken() == "" {
		at.Pinned = q.now.UnixMilli()
	} else if at.Of != q.hash() || len(at.After) == 0 || at.Seen < 0 || at.Seen > maxSeen {
		return otherQuery()
	}
	q.page = &questionPage{size: size, seen: at.Seen, after: at.After, pinned: time.UnixMilli(storable(at.Pinned))}
	q.now = q.page.pinned
	return nil
}

// maxSeen bounds the rows of all pages of an answer.
const maxSeen = 1_000_000_000

func otherQuery() error {
	return badField("pageToken", "pageToken is of another query: send the query of the first page, or no token")
}

func (q *question) hash() uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(q.text)) // never fails
	return h.Sum32()
}

// place notes what rows are ordered by, before their groups are made. Behind what the
// query orders by comes what no two rows have in common.
func (q *question) place() error {
	for _, o := range q.Order {
		if err := q.placeBy(o); err != nil {
			return err
		}
	}
	switch {
	case q.aggregated():
		if q.Window > 0 {
			q.placeColumn(q.window(), meaning{kind: timeName}, false)
		}
		for _, g := range q.Group {
			m := q.meanings[g.Name]
			q.placeColumn(q.value(m), m, false)
		}
	case q.telemetry:
		q.placeColumn("ts", meaning{kind: timeName}, true)
		q.placeColumn("device", meaning{kind: idName}, false)
		for _, column := range []string{"partition", "offset"} {
			q.page.keys = append(q.page.keys, pageKey{sql: q.pageColumn("toInt64(t." + column + ")"), kind: "Int64", descending: true})
		}
	default:
		q.placeColumn("device", meaning{kind: idName}, false)
	}
	return nil
}

// placeBy notes one thing that the query orders by.
func (q *question) placeBy(o fleetql.Order) error {
	of := o.Ref
	for _, it := range q.Items {
		named := it.Alias == o.Name && o.Function == fleetql.None
		if !named && (it.Of.Name != o.Name || it.Function != o.Function) {
			continue
		}
		if it.Function != fleetql.None { // its value is known only in the answer
			q.placeValue(key(it.Key()), o.Descending)
			return nil
		}
		of = it.Of
	}
	if o.Function != fleetql.None {
		return q.errorAt(o.Pos, "%s(%s) is not selected: select it to order by it", o.Function, o.Name)
	}
	m, err := q.mean(of)
	switch {
	case err != nil:
		return err
	case m.kind == timeName && q.Window > 0:
		q.placeColumn(q.window(), m, o.Descending)
	case q.aggregated() && !q.grouped(of):
		return q.errorAt(o.Pos, "%s is not grouped by: order by what is selected or grouped by", o.Name)
	default:
		q.placeColumn(q.value(m), m, o.Descending)
	}
	return nil
}

// pageColumn is a column that the statement within has for a key only. No name holds
// a #.
func (q *question) pageColumn(sql string) string {
	name := key("#" + strconv.Itoa(len(q.page.columns)))
	q.page.columns = append(q.page.columns, sql+" AS "+name)
	return name
}

func (q *question) placeColumn(sql string, m meaning, descending bool) {
	column := q.pageColumn(sql)
	switch {
	case m.kind == timeName:
		q.page.keys = append(q.page.keys, pageKey{"toUnixTimestamp64Milli(" + column + ")", "Int64", descending})
	case m.kind == idName || m.kind == deviceName && !m.flag:
		q.page.keys = append(q.page.keys, pageKey{"toString(" + column + ")", "String", descending})
	case m.kind == deviceName:
		q.page.keys = append(q.page.keys, pageKey{"toInt64(" + column + ")", "Int64", descending})
	default:
		q.placeValue(column, descending)
	}
}

// placeText is how many characters of a text say where it stands: they go into the
// token.
const placeText = 256

// placeValue notes a value that may be a number, a text or nothing: numbers come
// first, then texts, and nothing at the end.
func (q *question) placeValue(column string, descending bool) {
	text := "leftUTF8(ifNull(toString(" + column + "), ''), " + strconv.Itoa(placeText) + ")"
	number := "toFloat64OrZero(" + text + ")" // NaN and infinities are texts here
	isNumber := "(isFinite(" + number + ") AND isNotNull(toFloat64OrNull(" + text + ")))"
	q.page.keys = append(q.page.keys,
		pageKey{"toInt64(multiIf(isNull(" + column + "), 2, " + isNumber + ", 0, 1))", "Int64", false},
		pageKey{"if(" + isNumber + ", " + number + ", 0)", "Float64", descending},
		pageKey{text, "String", descending})
}

// ofPage is the statement of one page of the rows of a statement, each with its place
// before its values.
func (q *question) ofPage(rows string, keys []string) (string, error) {
	p := q.page
	if len(p.after) > 0 && len(p.after) != len(p.keys) {
		return "", otherQuery()
	}
	var columns, place, order []string
	for i, k := range p.keys {
		name := key("#k" + strconv.Itoa(i))
		columns = append(columns, k.sql+" AS "+name)
		place = append(place, "toString("+name+")")
		order = append(order, name+map[bool]string{true: " DESC", false: ""}[k.descending])
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = key(k)
	}
	behind, err := q.behindPlace()
	if err != nil {
		return "", err
	}
	if len(place) == 0 { // one row
		return fmt.Sprintf("SELECT []::Array(String) AS %s, %s FROM (%s) LIMIT 1", key(placeKey), strings.Join(names, ", "), rows), nil
	}
	return fmt.Sprintf("SELECT [%s] AS %s, %s FROM (SELECT *, %s FROM (%s)) WHERE %s ORDER BY %s LIMIT %d",
		strings.Join(place, ", "), key(placeKey), strings.Join(names, ", "), strings.Join(columns, ", "), rows, behind, strings.Join(order, ", "), q.pageBound()), nil
}

// placeKey is the name of a row's place in the answer; nobody can select it.
const placeKey = "#"

// pageBound is how many rows to ask for: one more than the page has, if there may be
// another page.
func (q *question) pageBound() int {
	n := q.page.size + 1
	if q.Top > 0 {
		n = min(n, max(q.Top-q.page.seen, 0))
	}
	return n
}

// behindPlace is true for the rows behind the page's place.
func (q *question) behindPlace() (string, error) {
	if len(q.page.after) == 0 {
		return "true", nil
	}
	var some []string
	same := ""
	for i, k := range q.page.keys {
		after := q.page.after[i]
		if !k.takes(after) {
			return "", otherQuery()
		}
		if k.kind == "String" {
			after = escapeText.Replace(after)
		}
		name, value, sign := key("#k"+strconv.Itoa(i)), q.parameter(k.kind, after), ">"
		if k.descending {
			sign = "<"
		}
		some = append(some, fmt.Sprintf("(%s%s %s %s)", same, name, sign, value))
		same += fmt.Sprintf("%s = %s AND ", name, value)
	}
	return "(" + strings.Join(some, " OR ") + ")", nil
}

// takes reports whether a text can be a value of the key.
func (k pageKey) takes(value string) bool {
	var err error
	switch k.kind {
	case "Int64":
		_, err = strconv.ParseInt(value, 10, 64)
	case "Float64":
		_, err = strconv.ParseFloat(value, 64)
	}
	return err == nil
}

// writePage makes IoT Central's answer of a page's rows, each of which begins with its
// place. One row more than a page has says that there is another page.
func writePage(out io.Writer, rows io.Reader, q *question) error {
	in, part := bufio.NewReaderSize(rows, partBytes), append(make([]byte, 0, partBytes), `{"results":[`...)
	var last []byte // the place of the page's last row
	for n := 0; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == q.page.size {
			token, err := q.next(last)
			if err != nil {
				return err
			}
			part = append(append(part, `],"nextPageToken":`...), token...)
			_, err = out.Write(append(part, '}'))
			return err
		}
		var row []byte
		if last, row, err = cutPlace(line); err != nil {
			return err
		}
		if n > 0 {
			part = append(part, ',')
		}
		if part = append(part, row...); len(part) >= partBytes/2 {
			if _, err := out.Write(part); err != nil {
				return err
			}
			part = part[:0]
		}
	}
	_, err := out.Write(append(part, ']', '}'))
	return err
}

// cutPlace parts a row from its place.
func cutPlace(line []byte) (place, row []byte, err error) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"`+placeKey+`":`))
	values := json.NewDecoder(bytes.NewReader(rest))
	var found json.RawMessage
	if err := values.Decode(&found); err != nil || !ok {
		return nil, nil, fmt.Errorf("a row without its place: %.100q", line)
	}
	rest = bytes.TrimPrefix(rest[values.InputOffset():], []byte(","))
	return found, append([]byte{'{'}, bytes.TrimSuffix(rest, []byte("\n"))...), nil
}

// next is the token of the page behind a place, in JSON.
func (q *question) next(place []byte) ([]byte, error) {
	at := questionToken{Seen: q.page.seen + q.page.size, Pinned: q.page.pinned.UnixMilli(), Of: q.hash()}
	if err := json.Unmarshal(place, &at.After); err != nil {
		return nil, fmt.Errorf("place of a row: %w", err)
	}
	token := encodeToken(at)
	if len(token) > maxTokenBytes {
		return nil, badField("query", "the values that rows are ordered by are too long for pages: order by something shorter, or ask for no pages")
	}
	return strconv.AppendQuote(nil, token), nil
}
