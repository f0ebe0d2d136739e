package query

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/query/fleetql"
)

// condition is true or false for every row, never NULL.
func (q *question) condition(c fleetql.Condition) (string, error) {
	switch c := c.(type) {
	case nil:
		return "true", nil
	case fleetql.And:
		return q.all(c, " AND ")
	case fleetql.Or:
		return q.all(c, " OR ")
	case fleetql.Not:
		inner, err := q.condition(c.Condition)
		return "NOT " + inner, err
	case fleetql.Within:
		return q.within(c)
	case fleetql.InGroup:
		filter, err := q.group(c.Group)
		if err != nil {
			return "", err
		}
		return "device IN (SELECT device FROM " + q.devicesTable() + " WHERE " + q.filterSQL.condition(filter) + ")", nil
	case fleetql.IsNull:
		m, err := q.mean(c.Ref)
		return "(NOT " + q.there(m) + ")", err
	case fleetql.Match:
		return q.match(c)
	case fleetql.Compare:
		return q.compare(c)
	case fleetql.In:
		return q.in(c)
	}
	return "", fmt.Errorf("no SQL for a condition of type %T", c)
}

func (q *question) all(parts []fleetql.Condition, with string) (string, error) {
	if len(parts) == 0 {
		return "true", nil
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		text, err := q.condition(part)
		if err != nil {
			return "", err
		}
		texts[i] = text
	}
	return "(" + strings.Join(texts, with) + ")", nil
}

func (q *question) millis(at time.Time) string {
	return "fromUnixTimestamp64Milli(" + q.parameter("Int64", strconv.FormatInt(storable(at.UnixMilli()), 10)) + ", 'UTC')"
}

func (q *question) within(w fleetql.Within) (string, error) {
	if w.Last > 0 {
		return "(ts >= " + q.millis(q.now.Add(-w.Last)) + " AND ts < " + q.millis(q.now.Add(time.Millisecond)) + ")", nil
	}
	return "(ts >= " + q.millis(w.From) + " AND ts < " + q.millis(w.To) + ")", nil
}

// text is a name's value if it is a text, else NULL or empty.
func (q *question) textOf(m meaning) string {
	switch m.kind {
	case telemetryName:
		return "if(component = " + q.parameterText(m.component) + ", body." + path(m.path) + ".:String, NULL)"
	case dynamicName:
		return "dynamicElement(" + q.ofDevice(m) + ", 'String')"
	case idName:
		return "device"
	default:
		return q.ofDevice(m)
	}
}

func (q *question) flagOf(m meaning) string {
	switch m.kind {
	case telemetryName:
		return "if(component = " + q.parameterText(m.component) + ", body." + path(m.path) + ".:Bool, NULL)"
	case dynamicName:
		return "dynamicElement(" + q.ofDevice(m) + ", 'Bool')"
	default:
		return q.ofDevice(m)
	}
}

func (q *question) match(c fleetql.Match) (string, error) {
	m, err := q.mean(c.Ref)
	if err != nil {
		return "", err
	}
	if m.flag || m.kind == timeName {
		return "", q.errorAt(c.Pos, "%s is no text: %s needs one", c.Name, c.Op)
	}
	if escapes := len(c.Text) - len(strings.TrimRight(c.Text, `\`)); c.Op == "LIKE" && escapes%2 == 1 {
		return "", q.errorAt(c.Pos, `the pattern for %s ends with a \, which takes the meaning from what is behind it: write \\ for the character itself`, c.Name)
	}
	f := map[string]string{"LIKE": "like(%s, %s)", "CONTAINS": "position(%s, %s) > 0", "STARTS_WITH": "startsWith(%s, %s)"}[c.Op]
	return "ifNull(" + fmt.Sprintf(f, "ifNull("+q.textOf(m)+", '')", q.parameterText(c.Text)) + " AND " + q.there(m) + ", false)", nil
}

func (q *question) compare(c fleetql.Compare) (string, error) {
	m, err := q.mean(c.Ref)
	if err != nil {
		return "", err
	}
	if m.kind == timeName {
		at, err := q.timeValue(c.Name, c.Value)
		return "(" + q.value(m) + " " + c.Op + " " + at + ")", err
	}
	if err := q.suits(m, c.Name, c.Value); err != nil {
		return "", err
	}
	switch v := c.Value.Of.(type) {
	case float64:
		return "ifNull(" + q.number(m) + " " + c.Op + " " + q.parameter("Float64", strconv.FormatFloat(v, 'g', -1, 64)) + ", false)", nil
	case bool:
		if c.Op != "=" && c.Op != "!=" {
			return "", q.errorAt(c.Value.Pos, "true and false have no order: use = or !=")
		}
		return "ifNull(" + q.flagOf(m) + " " + c.Op + " " + strconv.FormatBool(v) + ", false)", nil
	case string:
		return "ifNull(" + q.textOf(m) + " " + c.Op + " " + q.parameterText(v) + ", false)", nil
	}
	return "", fmt.Errorf("no SQL for a value of type %T", c.Value.Of)
}

// suits refuses values that can never be those of a column.
func (q *question) suits(m meaning, name string, v fleetql.Value) error {
	switch _, flag := v.Of.(bool); {
	case m.kind == deviceName && m.flag && !flag:
		return q.errorAt(v.Pos, "%s is true or false: write %s = true", name, name)
	case (m.kind == deviceName && !m.flag || m.kind == idName):
		if _, text := v.Of.(string); !text {
			return q.errorAt(v.Pos, "%s is a text: put the value in quotes", name)
		}
	}
	return nil
}

func (q *question) timeValue(name string, v fleetql.Value) (string, error) {
	text, _ := v.Of.(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return "", q.errorAt(v.Pos, "%s is a time: write it like '2026-01-31T12:00:00Z'", name)
	}
	return q.millis(at), nil
}

func (q *question) in(c fleetql.In) (string, error) {
	m, err := q.mean(c.Ref)
	if err != nil {
		return "", err
	}
	if m.kind == timeName {
		return "", q.errorAt(c.Pos, "IN is not for times: use >= and <, or WITHIN_WINDOW")
	}
	var texts, numbers []string
	var some []string
	for _, v := range c.Values {
		if err := q.suits(m, c.Name, v); err != nil {
			return "", err
		}
		switch v := v.Of.(type) {
		case string:
			texts = append(texts, v)
		case float64:
			numbers = append(numbers, strconv.FormatFloat(v, 'g', -1, 64))
		case bool:
			some = append(some, "ifNull("+q.flagOf(m)+" = "+strconv.FormatBool(v)+", false)")
		}
	}
	if len(texts) > 0 {
		some = append(some, "ifNull("+q.textOf(m)+" IN "+q.parameter("Array(String)", textsParameter(texts))+", false)")
	}
	if len(numbers) > 0 {
		some = append(some, "ifNull("+q.number(m)+" IN "+q.parameter("Array(Float64)", "["+strings.Join(numbers, ",")+"]")+", false)")
	}
	return "(" + strings.Join(some, " OR ") + ")", nil
}
