package query

import (
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/query/fleetql"
)

// ofSums answers with what messages add up to: from the tables of sums, or of latest
// values, if they have all that is asked for, else from the messages.
func (q *question) ofSums() (sql, table string, err error) {
	if q.Fill != nil {
		return q.filled()
	}
	return q.gathered()
}

func (q *question) gathered() (sql, table string, err error) {
	ways := []func() (string, string, error){q.fromLatest, q.fromSums}
	if !q.scope.Everywhere() {
		q.note("sums do not know which organization had a device: the messages themselves are read")
		ways = nil
	}
	for _, way := range ways {
		if sql, table, err = way(); sql != "" || err != nil {
			return sql, table, err
		}
	}
	where, err := q.condition(q.Where)
	if err != nil {
		return "", "", err
	}
	items, err := q.selected(q.aggregate)
	if err != nil {
		return "", "", err
	}
	rest, err := q.rest("")
	if err != nil {
		return "", "", err
	}
	return "SELECT " + items + q.fromTelemetry() + q.pinned() + " AND " + where + q.sentAny() + rest, "telemetry", nil
}

// sumsTables are the tables of sums, the coarsest first, with the functions they have.
var sumsTables = []struct {
	name  string
	width time.Duration
	ends  bool // first and last values
}{{"telemetry_1h", time.Hour, true}, {"telemetry_10m", 10 * time.Minute, true}, {"telemetry_1m", time.Minute, false}}

// times are the conditions on time and the others, of conditions that must all be
// true. ok is false when time is asked for in another way.
func times(c fleetql.Condition) (windows []fleetql.Within, others fleetql.And, ok bool) {
	parts, several := c.(fleetql.And)
	if !several && c != nil {
		parts = fleetql.And{c}
	}
	for _, part := range parts {
		if w, is := part.(fleetql.Within); is {
			windows = append(windows, w)
			continue
		}
		found := false
		_ = visit(part, func(c fleetql.Condition) error {
			_, within := c.(fleetql.Within)
			compare, _ := c.(fleetql.Compare)
			found = found || within || compare.Name == "$ts"
			return nil
		})
		if found {
			return nil, nil, false
		}
		others = append(others, part)
	}
	return windows, others, true
}

// ofDevicesOnly reports whether the conditions are on devices, not on values.
func (q *question) ofDevicesOnly(all fleetql.And) bool {
	only := true
	_ = visit(all, func(c fleetql.Condition) error {
		r := fleetql.Ref{}
		switch c := c.(type) {
		case fleetql.Compare:
			r = c.Ref
		case fleetql.In:
			r = c.Ref
		case fleetql.Match:
			r = c.Ref
		case fleetql.IsNull:
			r = c.Ref
		}
		if m, err := q.mean(r); r.Name != "" && (err != nil || m.kind == telemetryName || m.kind == timeName) {
			only = false
		}
		return nil
	})
	return only
}

// fromSums answers from a table of sums; sql is empty when none has what is asked for.
func (q *question) fromSums() (sql, table string, err error) {
	windows, others, ok := times(q.Where)
	if !ok || !q.ofDevicesOnly(others) {
		q.note("conditions on values or in other ways on time: the messages themselves are read")
		return "", "", nil
	}
	if q.page != nil {
		q.note("pages of an answer are of one moment, which sums do not know: the messages themselves are read")
		return "", "", nil
	}
	ends, ok := q.addable()
	if !ok {
		return "", "", nil
	}
	for _, t := range sumsTables {
		if q.Window%t.width != 0 || ends && !t.ends || !aligned(windows, t.width) {
			continue
		}
		sql, err = q.addUp(t.name, t.width, windows, others)
		q.note("whole windows of numbers: the sums in %s, which are ten seconds behind", t.name)
		return sql, t.name, err
	}
	q.note("no table of sums has windows of this length or these ends: the messages themselves are read")
	return "", "", nil
}

// addable reports whether the tables of sums have all that the items ask for, and
// whether first or last values are among that.
func (q *question) addable() (ends, ok bool) {
	for _, it := range q.Items {
		m := q.meanings[it.Of.Name]
		switch it.Function {
		case fleetql.Stddev, fleetql.Percentile:
			q.note("%s needs every value: the messages themselves are read", it.Function)
			return false, false
		case fleetql.First, fleetql.Last:
			if !m.number {
				q.note("%s(%s) is no number: the messages themselves are read", it.Function, it.Of.Name)
				return false, false
			}
			ends = true
		case fleetql.None:
			continue
		}
		if m.kind != telemetryName || !m.numeric || len(q.From) == 0 {
			q.note("%s may have values that are no numbers: the messages themselves are read", it.Of.Name)
			return false, false
		}
	}
	for _, g := range q.Group {
		if q.meanings[g.Name].kind == telemetryName || q.meanings[g.Name].kind == timeName {
			return false, false
		}
	}
	return ends, true
}

// aligned reports whether times begin and end where rows of a table begin. The last
// so long may begin a little earlier: its first window is then a whole one.
func aligned(windows []fleetql.Within, width time.Duration) bool {
	for _, w := range windows {
		if w.Last > 0 && w.Last < 10*width {
			return false
		}
		if w.Last == 0 && (!w.From.Equal(w.From.Truncate(width)) || !w.To.Equal(w.To.Truncate(width))) {
			return false
		}
	}
	return true
}

// addUp is the statement over a table of sums.
func (q *question) addUp(table string, width time.Duration, windows []fleetql.Within, others fleetql.And) (string, error) {
	where, err := q.condition(others)
	if err != nil {
		return "", err
	}
	for _, w := range windows {
		if w.Last > 0 {
			w.From, w.To, w.Last = q.now.Add(-w.Last).Truncate(width), q.now.Add(width).Truncate(width), 0
		}
		inside, _ := q.within(w) // fails for nothing
		where += " AND " + inside
	}
	items, err := q.selected(q.added)
	if err != nil {
		return "", err
	}
	rest, err := q.rest("")
	if err != nil {
		return "", err
	}
	from := strings.Replace(q.fromTelemetry(), "FROM telemetry AS t", "FROM "+table+" AS t", 1)
	return "SELECT " + items + from + " AND " + q.atPaths() + " AND " + where + rest, nil
}

// atPaths is true for the rows of the telemetry that is selected.
func (q *question) atPaths() string {
	var some []string
	for _, it := range q.Items {
		if m := q.meanings[it.Of.Name]; m.kind == telemetryName {
			some = append(some, q.at(m))
		}
	}
	if len(some) == 0 {
		return "true"
	}
	return "(" + strings.Join(some, " OR ") + ")"
}

// at is true for the rows of one telemetry in a table of sums or of latest values.
func (q *question) at(m meaning) string {
	return "(path = " + q.parameterText(m.path) + " AND component = " + q.parameterText(m.component) + ")"
}

// added is a function over rows of a table of sums.
func (q *question) added(it fleetql.Item) (string, error) {
	at := q.at(q.meanings[it.Of.Name])
	switch it.Function {
	case fleetql.Count:
		return "sumIf(t.count, " + at + ")", nil
	case fleetql.Sum:
		return "sumOrNullIf(t.sum, " + at + ")", nil
	case fleetql.Avg:
		return "sumOrNullIf(t.sum, " + at + ") / sumIf(t.count, " + at + ")", nil
	case fleetql.Min:
		return "minOrNullIf(t.min, " + at + ")", nil
	case fleetql.Max:
		return "maxOrNullIf(t.max, " + at + ")", nil
	case fleetql.First:
		return "if(countIf(" + at + ") = 0, NULL, minIf(t.first, " + at + ").value)", nil
	default: // addable lets nothing else come here
		return "if(countIf(" + at + ") = 0, NULL, maxIf(t.last, " + at + ").value)", nil
	}
}

// fromLatest answers the last values of devices from the table that has them; sql is
// empty when something else is asked for.
func (q *question) fromLatest() (sql, table string, err error) {
	if q.Where != nil && !q.ofDevicesOnly(fleetql.And{q.Where}) || q.Window > 0 || q.page != nil {
		return "", "", nil
	}
	for _, g := range q.Group {
		if kind := q.meanings[g.Name].kind; kind == telemetryName || kind == timeName {
			return "", "", nil
		}
	}
	within := false
	_ = visit(q.Where, func(c fleetql.Condition) error {
		_, is := c.(fleetql.Within)
		within = within || is
		return nil
	})
	for _, it := range q.Items {
		m := q.meanings[it.Of.Name]
		if within || it.Function != fleetql.Last && it.Function != fleetql.None || it.Function == fleetql.Last && (m.complex || m.kind != telemetryName || len(q.From) == 0) {
			return "", "", nil
		}
	}
	where, err := q.condition(q.Where)
	if err != nil {
		return "", "", err
	}
	items, err := q.selected(func(it fleetql.Item) (string, error) {
		at := q.at(q.meanings[it.Of.Name])
		last := "maxIf(t.last, " + at + ")"
		if q.meanings[it.Of.Name].number {
			return "if(countIf(" + at + ") = 0 OR " + last + ".kind != 'number', NULL, " + last + ".number)", nil
		}
		return "multiIf(countIf(" + at + ") = 0, NULL, " + last + ".kind = 'number', " + last + ".number::Dynamic, " + last + ".kind = 'boolean', (" + last + ".number = 1)::Bool::Dynamic, JSONExtractString(" + last + ".value)::Dynamic)", nil
	})
	if err != nil {
		return "", "", err
	}
	rest, err := q.rest("")
	if err != nil {
		return "", "", err
	}
	q.note("only last values: telemetry_latest, which is ten seconds behind")
	from := strings.Replace(q.fromTelemetry(), "FROM telemetry AS t", "FROM telemetry_latest AS t", 1)
	return "SELECT " + items + from + " AND " + q.atPaths() + " AND " + where + rest, "telemetry_latest", nil
}
