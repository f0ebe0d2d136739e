package query

import (
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/devicefilter"
)

// filterSQL makes SQL of a device filter that answers as [devicefilter.Match] does.
// No value gets into its text: they are parameters.
type filterSQL struct {
	parameters map[string]string
	// scope is where the caller may look.
	scope access.Scope
}

// parameter is a place for the value, which is in ClickHouse's text form: its
// escapes are those of a field in the TabSeparated format.
func (f *filterSQL) parameter(kind, value string) string {
	name := "f" + strconv.Itoa(len(f.parameters))
	f.parameters[name] = value
	return "{" + name + ":" + kind + "}"
}

// parameterText is a text's parameter.
func (f *filterSQL) parameterText(value string) string {
	return f.parameter("String", escapeText.Replace(value))
}

// escapeText writes a text as ClickHouse reads it in a parameter, an element of an
// array between quotes.
var escapeText = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`)

// condition is the expression as a condition on a row of devices. It is never more
// than NULL for a device that is not meant.
func (f *filterSQL) condition(e devicefilter.Expr) string {
	switch e := e.(type) {
	case devicefilter.And:
		return f.join(e, " AND ", "true")
	case devicefilter.Or:
		return f.join(e, " OR ", "false")
	case devicefilter.Condition:
		switch e.Field.Attribute.Type() {
		case devicefilter.Flag:
			return f.flag(e)
		case devicefilter.Text:
			return f.column(e)
		case devicefilter.Dynamic:
			return f.dynamic(e)
		}
	}
	panic(fmt.Sprintf("device filter: no SQL for %T", e)) // the parser makes no others
}

func (f *filterSQL) join(all []devicefilter.Expr, with, none string) string {
	if len(all) == 0 {
		return none
	}
	parts := make([]string, len(all))
	for i, e := range all {
		parts[i] = f.condition(e)
	}
	return "(" + strings.Join(parts, with) + ")"
}

// deviceColumns are the columns of the attributes that have one of their own.
var deviceColumns = map[devicefilter.Attribute]string{
	devicefilter.ID: "device", devicefilter.DisplayName: "display_name", devicefilter.Template: "template", devicefilter.Organization: "organization",
	devicefilter.EnrollmentGroup: "enrollment_group", devicefilter.ModelID: "model_id", devicefilter.Parent: "parent", devicefilter.Enabled: "enabled",
	devicefilter.Provisioned: "provisioned", devicefilter.Simulated: "simulated", devicefilter.Edge: "edge", devicefilter.Waiting: "waiting",
	devicefilter.Connected: "connected", devicefilter.Property: "properties", devicefilter.Tag: "tags",
}

// flag is a condition on a column of true and false, which always has a value.
func (f *filterSQL) flag(c devicefilter.Condition) string {
	if c.Op == devicefilter.Exists {
		return strconv.FormatBool(!c.Not)
	}
	texts := make([]string, len(c.Values))
	for i, value := range c.Values {
		texts[i] = strconv.FormatBool(value.(bool))
	}
	return fmt.Sprintf("(%s %sIN (%s))", deviceColumns[c.Field.Attribute], not(c), strings.Join(texts, ", "))
}

func not(c devicefilter.Condition) string {
	if c.Not {
		return "NOT "
	}
	return ""
}

// column is a condition on a column of texts. An empty one is no value.
func (f *filterSQL) column(c devicefilter.Condition) string {
	column := deviceColumns[c.Field.Attribute]
	switch c.Op {
	case devicefilter.Exists:
		return fmt.Sprintf("(%s(%s))", map[bool]string{false: "notEmpty", true: "empty"}[c.Not], column)
	case devicefilter.Equal:
		return fmt.Sprintf("(notEmpty(%s) AND %s%s)", column, not(c), f.equal(column, "String", texts(c.Values)))
	}
	return fmt.Sprintf("(notEmpty(%s) AND %s)", column, f.text(column, c))
}

// dynamic is a condition on a path of a JSON column, where each row's value may be
// of another type. The path is of names that the parser has seen: between
// backticks, which no name holds, nothing in them can be SQL.
func (f *filterSQL) dynamic(c devicefilter.Condition) string {
	column, path := deviceColumns[c.Field.Attribute], "`"+strings.Join(c.Field.Path, "`.`")+"`"
	value := column + "." + path
	switch c.Op {
	case devicefilter.Exists:
		return fmt.Sprintf("(%s(isNotNull(%s) OR notEmpty(JSONAllPaths(%s.^%s))))", not(c), value, column, path)
	case devicefilter.Equal:
		equal := f.dynamicEqual(value, c.Values)
		if c.Not {
			return fmt.Sprintf("(isNotNull(%s) AND NOT ifNull(%s, false))", value, equal)
		}
		return equal
	}
	switch wanted := c.Values[0].(type) {
	case float64:
		return fmt.Sprintf("(%s %s %s)", dynamicNumber(value), less(c), f.parameter("Float64", formatNumber(wanted)))
	case time.Time:
		return fmt.Sprintf("(%s %s fromUnixTimestamp64Micro(%s, 'UTC'))", f.dynamicTime(value), less(c), f.parameter("Int64", strconv.FormatInt(wanted.UnixMicro(), 10)))
	}
	return f.text(value+".:String", c)
}

// dynamicNumber is the value when it is a JSON number, else NULL.
func dynamicNumber(value string) string {
	return fmt.Sprintf("coalesce(%s.:Float64, toFloat64(%s.:Int64), toFloat64(%s.:UInt64))", value, value, value)
}

// dynamicTime is the value when it is a time in ISO 8601, else NULL.
func (f *filterSQL) dynamicTime(value string) string {
	return fmt.Sprintf("if(match(%s.:String, %s), parseDateTime64BestEffortOrNull(%s.:String, 6, 'UTC'), NULL)", value, f.parameterText(devicefilter.ISOPattern), value)
}

func (f *filterSQL) dynamicEqual(value string, wanted []any) string {
	var some []string
	if all := texts(wanted); len(all) > 0 {
		some = append(some, f.equal(value+".:String", "String", all))
	}
	if all := numbers(wanted); len(all) > 0 {
		some = append(some, f.equal(dynamicNumber(value), "Float64", all))
	}
	for _, w := range wanted {
		if flag, ok := w.(bool); ok {
			some = append(some, fmt.Sprintf("%s.:Bool = %t", value, flag))
		}
	}
	return "(" + strings.Join(some, " OR ") + ")"
}

// equal compares with one value or several, in ClickHouse's text form.
func (f *filterSQL) equal(column, kind string, wanted []string) string {
	if len(wanted) == 1 {
		return "(" + column + " = " + f.parameter(kind, wanted[0]) + ")"
	}
	if kind == "String" {
		wanted = []string{"'" + strings.Join(wanted, "','") + "'"}
	}
	return "(" + column + " IN " + f.parameter("Array("+kind+")", "["+strings.Join(wanted, ",")+"]") + ")"
}

// texts are the values that are texts, as ClickHouse reads them.
func texts(values []any) []string {
	var all []string
	for _, value := range values {
		if content, ok := value.(string); ok {
			all = append(all, escapeText.Replace(content))
		}
	}
	return all
}

// numbers are the values that are numbers.
func numbers(values []any) []string {
	var all []string
	for _, value := range values {
		if number, ok := value.(float64); ok {
			all = append(all, formatNumber(number))
		}
	}
	return all
}

func formatNumber(number float64) string { return strconv.FormatFloat(number, 'g', -1, 64) }

// less is the sign of an order.
func less(c devicefilter.Condition) string {
	switch {
	case c.Op == devicefilter.Less && c.Not:
		return ">="
	case c.Op == devicefilter.Less:
		return "<"
	case c.Not:
		return ">"
	}
	return "<="
}

// text is a condition on a text that may be NULL.
func (f *filterSQL) text(column string, c devicefilter.Condition) string {
	if pattern, ok := c.Values[0].(*regexp.Regexp); ok {
		return fmt.Sprintf("(%smatch(%s, %s))", not(c), column, f.parameterText(pattern.String()))
	}
	wanted := c.Values[0].(string)
	like := escapeLike.Replace(wanted)
	switch c.Op {
	case devicefilter.Contains:
		like = "%" + like + "%"
	case devicefilter.StartsWith:
		like += "%"
	case devicefilter.EndsWith:
		like = "%" + like
	default:
		return fmt.Sprintf("(%s %s %s)", column, less(c), f.parameterText(wanted))
	}
	return fmt.Sprintf("(%s %sILIKE %s)", column, not(c), f.parameterText(like))
}

// escapeLike takes the meaning from what has one in a pattern of LIKE.
var escapeLike = strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`)
