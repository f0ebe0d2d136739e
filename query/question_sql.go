package query

import (
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetlog/fleetlog/query/fleetql"
)

// answerPlan is how a question is answered.
type answerPlan struct {
	plan

	// keys are the names of the answer's columns, in their order.
	keys  []string
	table string
	notes []string
}

// answer makes the statement.
func (q *question) answer() (answerPlan, error) {
	if err := q.settle(); err != nil {
		return answerPlan{}, err
	}
	var statement func() (string, string, error)
	switch {
	case !q.telemetry:
		statement = q.ofDevices
	case q.aggregated():
		statement = q.ofSums
	default:
		statement = q.ofMessages
	}
	sql, table, err := statement()
	if err != nil {
		return answerPlan{}, err
	}
	p := answerPlan{plan: plan{sql: sql, parameters: q.parameters}, table: table, notes: q.notes}
	if q.windowed() {
		p.keys = append(p.keys, "$ts")
	}
	for _, it := range q.Items {
		p.keys = append(p.keys, it.Key())
	}
	if q.page != nil {
		p.sql, err = q.ofPage(sql, p.keys)
	}
	return p, err
}

// windowed reports whether the answer begins with the beginnings of windows that
// nobody has selected.
func (q *question) windowed() bool {
	return q.Window > 0 && !slices.ContainsFunc(q.Items, func(it fleetql.Item) bool { return it.Of.Name == "$ts" && it.Function == fleetql.None })
}

// key is a name of the answer as SQL. No name holds a backtick.
func key(name string) string { return "`" + name + "`" }

// devicesTable is the devices as they are, or as they were.
func (q *question) devicesTable() string {
	return "(SELECT * FROM " + q.devicesAt(q.AsOf) + ")"
}

// ofTemplates is true for devices of the templates.
func (q *question) ofTemplates() string {
	if len(q.From) == 0 {
		return ""
	}
	ids := make([]string, len(q.From))
	for i, s := range q.From {
		ids[i] = s.Template
	}
	return " AND " + q.equal("template", "String", ids)
}

// ofDevices answers from the devices alone.
func (q *question) ofDevices() (sql, table string, err error) {
	where, err := q.condition(q.Where)
	if err != nil {
		return "", "", err
	}
	from := q.devicesTable()
	rest, err := q.rest("device")
	if err != nil {
		return "", "", err
	}
	items, err := q.selected(q.aggregate)
	if err != nil {
		return "", "", err
	}
	table = "devices"
	if q.AsOf != nil {
		table = "device_versions"
	}
	q.note("only devices are asked for: %s", table)
	return "SELECT " + items + " FROM " + from + " WHERE tenant = {tenant:String}" + q.ofTemplates() + " AND " + where + rest, table, nil
}

// ofMessages answers with a row for each message.
func (q *question) ofMessages() (sql, table string, err error) {
	where, err := q.condition(q.Where)
	if err != nil {
		return "", "", err
	}
	items, err := q.selected(q.aggregate)
	if err != nil {
		return "", "", err
	}
	rest, err := q.rest("ts DESC, device, partition DESC, offset DESC")
	if err != nil {
		return "", "", err
	}
	q.note("values as they were sent are asked for: telemetry")
	return "SELECT " + items + q.fromTelemetry() + q.pinned() + " AND " + where + q.sentAny() + rest, "telemetry", nil
}

// fromTelemetry is where messages come from, with what is needed of their devices.
func (q *question) fromTelemetry() string {
	from, mine := " FROM telemetry AS t", q.ofScope("enqueued_at")
	switch {
	case len(q.joined) > 0 || q.AsOf != nil:
		return from + q.join() + " WHERE tenant = {tenant:String}" + mine
	case len(q.From) > 0:
		// Whoever has the devices now: the messages say whose they were.
		every := filterSQL{parameters: q.parameters, scope: access.WholeTenant()}
		return from + " WHERE tenant = {tenant:String} AND device IN (SELECT device FROM (SELECT * FROM " + every.devicesAt(nil) + ") WHERE true" + q.ofTemplates() + ")" + mine
	}
	return from + " WHERE tenant = {tenant:String}" + mine
}

func (q *question) join() string {
	columns := ""
	for i, column := range q.joined {
		columns += fmt.Sprintf(", %s AS d%d", column, i)
	}
	return " INNER JOIN (SELECT device" + columns + " FROM " + q.devicesTable() + " WHERE true" + q.ofTemplates() + ") AS d USING (device)"
}

// pinned keeps what came to the log after the first page out of the others.
func (q *question) pinned() string {
	if q.page == nil {
		return ""
	}
	return " AND enqueued_at <= fromUnixTimestamp64Milli(" + q.parameter("Int64", strconv.FormatInt(q.page.pinned.UnixMilli(), 10)) + ", 'UTC')"
}

// sentAny leaves out messages without any of the telemetry that is selected.
func (q *question) sentAny() string {
	var some []string
	for _, it := range q.Items {
		m := q.meanings[it.Of.Name]
		if m.kind != telemetryName {
			continue
		}
		if it.Function != fleetql.None {
			some = append(some, q.counts(m))
		} else {
			some = append(some, q.sent(m))
		}
	}
	if len(some) == 0 {
		return ""
	}
	return " AND (" + strings.Join(some, " OR ") + ")"
}

// sent is true for messages that have a value of the telemetry.
func (q *question) sent(m meaning) string {
	return "(component = " + q.parameterText(m.component) + " AND " + has(m.path) + ")"
}

// selected are the items as SQL, each under its name.
func (q *question) selected(aggregate func(fleetql.Item) (string, error)) (string, error) {
	var columns []string
	if q.windowed() {
		columns = append(columns, q.window()+" AS "+key("$ts"))
	}
	for _, it := range q.Items {
		var sql string
		var err error
		switch m := q.meanings[it.Of.Name]; {
		case it.Function != fleetql.None:
			sql, err = aggregate(it)
		case q.aggregated() && m.kind == timeName && q.Window > 0:
			sql = q.window()
		case q.aggregated() && !q.grouped(it.Of):
			err = q.errorAt(it.Pos, "%s is neither made of many values by a function nor grouped by: write AVG(%s), or add it to GROUP BY", it.Of.Name, it.Of.Name)
		default:
			sql = q.value(m)
		}
		if err != nil {
			return "", err
		}
		columns = append(columns, q.ofOneType(it, sql)+" AS "+key(it.Key()))
	}
	if q.page != nil {
		if err := q.place(); err != nil {
			return "", err
		}
		columns = append(columns, q.page.columns...)
	}
	return strings.Join(columns, ", "), nil
}

// ofOneType is a value of many types as a number, if it should be one, or as a text.
func (q *question) ofOneType(it fleetql.Item, sql string) string {
	m := q.meanings[it.Of.Name]
	several := m.kind == dynamicName || m.kind == telemetryName
	switch {
	case !q.typed || !several || it.Function != fleetql.None && it.Function != fleetql.First && it.Function != fleetql.Last:
		return sql
	case m.number:
		return "toFloat64OrNull(toString(" + sql + "))"
	}
	return "CAST(toString(" + sql + "), 'Nullable(String)')"
}

func (q *question) grouped(r fleetql.Ref) bool {
	m := q.meanings[r.Name]
	return slices.ContainsFunc(q.Group, func(g fleetql.Ref) bool { return q.meanings[g.Name] == m })
}

// window is the beginning of the window that a message is in. Windows are counted
// from 1970.
func (q *question) window() string {
	width := strconv.FormatInt(q.Window.Milliseconds(), 10)
	millis := "toUnixTimestamp64Milli(toDateTime64(ts, 3, 'UTC'))"
	return "fromUnixTimestamp64Milli(" + millis + " - positiveModulo(" + millis + ", " + width + "), 'UTC')"
}

// value is what a name means, in a row.
func (q *question) value(m meaning) string {
	switch m.kind {
	case idName:
		return "device"
	case timeName:
		if !q.telemetry {
			return "updated_at"
		}
		return "ts"
	case deviceName, dynamicName:
		return q.ofDevice(m)
	case telemetryName:
	}
	value := "body." + path(m.path)
	if m.complex {
		object := "body.^" + path(m.path)
		value = "if(notEmpty(JSONAllPaths(" + object + ")), " + object + "::Dynamic, " + value + ")"
	}
	return "if(component = " + q.parameterText(m.component) + ", " + value + ", NULL)"
}

// ofDevice is a column of the devices, which messages are joined with.
func (q *question) ofDevice(m meaning) string {
	if !q.telemetry {
		return m.column
	}
	i := slices.Index(q.joined, m.column)
	if i < 0 {
		i = len(q.joined)
		q.joined = append(q.joined, m.column)
	}
	return "d" + strconv.Itoa(i)
}

// number is a name's value if it is a number, else NULL.
func (q *question) number(m meaning) string {
	switch m.kind {
	case telemetryName:
		number := numberOf(m.path)
		if m.numeric && !m.number { // true and false are 1 and 0
			number = "coalesce(" + number + ", toFloat64(body." + path(m.path) + ".:Bool))"
		}
		return "if(component = " + q.parameterText(m.component) + ", " + number + ", NULL)"
	case dynamicName:
		v := q.ofDevice(m)
		return fmt.Sprintf("coalesce(dynamicElement(%[1]s, 'Float64'), toFloat64(dynamicElement(%[1]s, 'Int64')), toFloat64(dynamicElement(%[1]s, 'UInt64')))", v)
	default:
		return "CAST(NULL, 'Nullable(Float64)')"
	}
}

// there is true when a name has a value.
func (q *question) there(m meaning) string {
	switch m.kind {
	case telemetryName:
		return q.sent(m)
	case dynamicName:
		return "isNotNull(" + q.ofDevice(m) + ")"
	case deviceName:
		if !m.flag {
			return "notEmpty(" + q.ofDevice(m) + ")"
		}
	case timeName, idName:
	}
	return "true"
}

// counts is true when a name has a value that functions count: of telemetry that the
// template has as a number, a number.
func (q *question) counts(m meaning) string {
	if m.kind == telemetryName && m.numeric {
		return "isNotNull(" + q.number(m) + ")"
	}
	return q.there(m)
}

// aggregate is a function over the rows of a group.
func (q *question) aggregate(it fleetql.Item) (string, error) {
	m := q.meanings[it.Of.Name]
	if m.kind != telemetryName && m.kind != dynamicName && it.Function != fleetql.Count {
		return "", q.errorAt(it.Pos, "%s needs numbers: %s is none", it.Function, it.Of.Name)
	}
	switch it.Function {
	case fleetql.Count:
		return "countIf(" + q.counts(m) + ")", nil
	case fleetql.Sum:
		return "sum(" + q.number(m) + ")", nil
	case fleetql.Avg:
		return "avg(" + q.number(m) + ")", nil
	case fleetql.Min:
		return "min(" + q.number(m) + ")", nil
	case fleetql.Max:
		return "max(" + q.number(m) + ")", nil
	case fleetql.Stddev:
		return "stddevSamp(" + q.number(m) + ")", nil
	case fleetql.Percentile:
		return "quantile(" + strconv.FormatFloat(it.Parameter/100, 'f', -1, 64) + ")(" + q.number(m) + ")", nil
	case fleetql.First, fleetql.Last:
		if !q.telemetry {
			return "", q.errorAt(it.Pos, "%s is of telemetry: a property has one value", it.Function)
		}
		f := map[fleetql.Function]string{fleetql.First: "argMinIf", fleetql.Last: "argMaxIf"}[it.Function]
		return f + "(" + q.value(m) + ", (ts, partition, offset), " + q.counts(m) + ")", nil
	case fleetql.None:
	}
	return "", q.errorAt(it.Pos, "there is no function %s", it.Function)
}

// rest is GROUP BY, ORDER BY and LIMIT. Without an order rows come as usual says.
func (q *question) rest(usual string) (string, error) {
	sql := ""
	if q.aggregated() {
		keys := q.groupKeys()
		if len(keys) > 0 {
			sql = " GROUP BY " + strings.Join(keys, ", ")
		}
		usual = strings.Join(keys, ", ")
	}
	if q.page != nil { // which has an order and a bound of its own
		return sql, nil
	}
	order, err := q.ordered()
	if err != nil {
		return "", err
	}
	if usual != "" {
		order = append(order, usual)
	}
	if len(order) > 0 {
		sql += " ORDER BY " + strings.Join(order, ", ")
	}
	return sql + q.bound(), nil
}

func (q *question) groupKeys() (keys []string) {
	if q.Window > 0 {
		keys = append(keys, q.window())
	}
	for _, g := range q.Group {
		keys = append(keys, q.value(q.meanings[g.Name]))
	}
	return keys
}

// ordered are the things to order by, as SQL.
func (q *question) ordered() (terms []string, err error) {
	for _, o := range q.Order {
		term, err := q.orderedBy(o)
		if err != nil {
			return nil, err
		}
		for _, t := range term {
			if o.Descending {
				t += " DESC"
			}
			terms = append(terms, t)
		}
	}
	return terms, nil
}

// orderedBy is one thing to order by. Values of many types are in the order of their
// numbers, then of their texts.
func (q *question) orderedBy(o fleetql.Order) ([]string, error) {
	of := o.Ref
	for _, it := range q.Items {
		if it.Alias == o.Name && o.Function == fleetql.None || it.Of.Name == o.Name && it.Function == o.Function && o.Function != fleetql.None {
			if it.Function != fleetql.None {
				return []string{key(it.Key())}, nil
			}
			of = it.Of
		}
	}
	if o.Function != fleetql.None {
		return nil, q.errorAt(o.Pos, "%s(%s) is not selected: select it to order by it", o.Function, o.Name)
	}
	m, err := q.mean(of)
	switch {
	case err != nil:
		return nil, err
	case m.kind == timeName && q.Window > 0:
		return []string{q.window()}, nil
	case q.aggregated() && !q.grouped(of):
		return nil, q.errorAt(o.Pos, "%s is not grouped by: order by what is selected or grouped by", o.Name)
	case q.aggregated() && m.kind == telemetryName: // of the group's key only itself is known
		text := "toString(" + q.value(m) + ")"
		return []string{"toFloat64OrNull(" + text + ")", text}, nil
	case m.kind == telemetryName || m.kind == dynamicName:
		return []string{q.number(m), "toString(" + q.value(m) + ")"}, nil
	}
	return []string{q.value(m)}, nil
}

func (q *question) bound() string {
	n := q.limit
	if q.Top > 0 {
		n = min(n, q.Top)
	}
	return " LIMIT " + strconv.Itoa(n)
}
