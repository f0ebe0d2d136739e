package query

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/query/fleetql"
)

// maxFilled bounds the windows that one series is filled up to.
const maxFilled = 100_000

// filled answers with a row for every window of a series, those without values among
// them: ClickHouse adds the rows, and window functions put values into them.
func (q *question) filled() (sql, table string, err error) {
	at := q.Fill.Pos
	from, to, err := q.filledSpan()
	if err != nil {
		return "", "", err
	}
	if len(q.Order) > 0 || q.Top > 0 || q.page != nil {
		return "", "", q.errorAt(at, "FILL gives all windows in their order: leave out TOP and ORDER BY, and ask for no pages")
	}
	for _, it := range q.Items {
		if it.Function == fleetql.None && !q.grouped(it.Of) && q.meanings[it.Of.Name].kind != timeName {
			return "", "", q.errorAt(it.Pos, "%s is not grouped by", it.Of.Name)
		}
	}
	limit := q.limit
	q.limit = 1_000_000 // of what is filled; the answer's own bound comes last
	inner, table, err := q.gathered()
	q.limit = limit
	if err != nil {
		return "", "", err
	}
	keys := []string{}
	for _, g := range q.Group {
		name := q.keyOf(g)
		if name == "" {
			return "", "", q.errorAt(g.Pos, "%s is grouped by but not selected: select it to have its windows filled", g.Name)
		}
		keys = append(keys, key(name))
	}
	start := key(q.startKey())
	width := strconv.FormatInt(q.Window.Milliseconds(), 10)
	series := ""
	if len(keys) > 0 {
		series = strings.Join(keys, ", ") + ", "
	}
	rows := fmt.Sprintf("SELECT * FROM (%s) ORDER BY %s%s WITH FILL FROM %s TO %s STEP INTERVAL %s MILLISECOND", inner, series, start, q.millis(from), q.millis(to), width)
	var columns []string
	if q.windowed() {
		columns = append(columns, start)
	}
	for _, it := range q.Items {
		columns = append(columns, q.fill(it, start, keys)+" AS "+key(it.Key()))
	}
	q.note("windows without values are added, and filled with %s", strings.ToLower(q.Fill.How))
	return "SELECT " + strings.Join(columns, ", ") + " FROM (" + rows + ") ORDER BY " + series + start + q.bound(), table, nil
}

// filledSpan is the time to fill.
func (q *question) filledSpan() (from, to time.Time, err error) {
	windows, _, ok := times(q.Where)
	if q.Window == 0 || !ok || len(windows) != 1 {
		return from, to, q.errorAt(q.Fill.Pos, "FILL needs GROUP BY WINDOW(…) and one WITHIN_WINDOW(…), which say what to fill")
	}
	from, to = windows[0].From, windows[0].To
	if windows[0].Last > 0 {
		from, to = q.now.Add(-windows[0].Last), q.now
	}
	if to.Sub(from)/q.Window > maxFilled {
		return from, to, q.errorAt(q.Fill.Pos, "FILL would make more than %d windows: widen them, or shorten the time", maxFilled)
	}
	return windowStart(from, q.Window), to, nil
}

// windowStart is the beginning of the window that the time is in.
func windowStart(at time.Time, width time.Duration) time.Time {
	millis, w := at.UnixMilli(), width.Milliseconds()
	return time.UnixMilli(millis - (millis%w+w)%w)
}

// keyOf is the name in the answer of what is grouped by; empty when it is not
// selected.
func (q *question) keyOf(g fleetql.Ref) string {
	for _, it := range q.Items {
		if it.Function == fleetql.None && q.meanings[it.Of.Name] == q.meanings[g.Name] {
			return it.Key()
		}
	}
	return ""
}

func (q *question) startKey() string {
	for _, it := range q.Items {
		if it.Function == fleetql.None && q.meanings[it.Of.Name].kind == timeName {
			return it.Key()
		}
	}
	return "$ts"
}

// fill is a column of the filled rows.
func (q *question) fill(it fleetql.Item, start string, keys []string) string {
	column := key(it.Key())
	if it.Function == fleetql.None || q.Fill.How == "NULL" {
		return column
	}
	over := "ORDER BY " + start
	if len(keys) > 0 {
		over = "PARTITION BY " + strings.Join(keys, ", ") + " " + over
	}
	before, after := "("+over+" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)", "("+over+" ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)"
	moment := "if(isNull(" + column + "), NULL, toUnixTimestamp64Milli(" + start + "))"
	switch q.Fill.How {
	case "VALUE":
		return "ifNull(" + column + ", " + strconv.FormatFloat(q.Fill.Value, 'g', -1, 64) + ")"
	case "PREVIOUS":
		return "anyLast(" + column + ") OVER " + before
	}
	v0, t0 := "anyLast("+column+") OVER "+before, "anyLast("+moment+") OVER "+before
	v1, t1 := "any("+column+") OVER "+after, "any("+moment+") OVER "+after
	return fmt.Sprintf("if(isNotNull(%s), toFloat64(%s), %s + (%s - %s) * (toUnixTimestamp64Milli(%s) - %s) / (%s - %s))",
		column, column, v0, v1, v0, start, t0, t1, t0)
}
