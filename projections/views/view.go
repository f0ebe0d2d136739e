package views

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
)

// view is one of a tenant's database.
type view struct {
	name, comment string
	// family is the template whose view it is, without version; empty for others.
	family  string
	columns []column
	// from is what follows the columns: FROM …, with {guard} where it must hold.
	from string
}

// place is whose views they are.
type place struct {
	// database is Fleetlog's.
	database, tenant string
}

// own is the tenant's database.
func (p place) own() string { return clickhouse.TenantDatabase(p.database, p.tenant) }

// guard keeps rows to the tenant, and to who reads as the tenant.
func (p place) guard() string {
	return fmt.Sprintf(row+"tenant = %s AND startsWith(getSetting('log_comment'), %s)", quoteText(p.tenant), quoteText(clickhouse.TenantComment(p.own())))
}

// row stands before each of a table's columns. Without it the name of a column that
// a template gives could take the place of the table's, in the guard too. No template
// can give this one: names begin with a letter.
const row = "_row."

// from is FROM with a table of Fleetlog's, and the guard.
func (p place) from(table string) string {
	return "FROM " + p.database + "." + table + " AS _row WHERE " + p.guard()
}

// newest is the same with one row for each key.
func (p place) newest(table string) string {
	return "FROM " + p.database + "." + table + " AS _row FINAL WHERE " + p.guard()
}

// define is the statement that makes the view. Its comment tells people what it is,
// and the next node whether it is still so.
func (v view) define(p place) string {
	var columns, expressions []string
	for _, c := range v.columns {
		columns = append(columns, quoteName(c.name)+" "+c.kind+" COMMENT "+quoteText(c.comment))
		expressions = append(expressions, c.expression+" AS "+quoteName(c.name))
	}
	return fmt.Sprintf("CREATE OR REPLACE VIEW %s.%s (%s) SQL SECURITY DEFINER AS SELECT %s %s COMMENT %s",
		p.own(), quoteName(v.name), strings.Join(columns, ", "), strings.Join(expressions, ", "), v.from, quoteText(v.marked(p)))
}

// marked is the comment with what marks the view as of this definition.
func (v view) marked(p place) string {
	hash := sha256.New()
	fmt.Fprint(hash, p, v.comment, v.columns, v.from)
	return fmt.Sprintf("%s [fleetlog %s %s]", v.comment, v.family, hex.EncodeToString(hash.Sum(nil)[:8]))
}

var mark = regexp.MustCompile(`\[fleetlog (\S*) [0-9a-f]{16}\]$`)

// family is the template that a view's comment names; false for a view of others.
func family(comment string) (string, bool) {
	found := mark.FindStringSubmatch(comment)
	if found == nil {
		return "", false
	}
	return found[1], true
}

// plain is a column that is there under the same name.
func plain(name, kind, comment string) column {
	return column{name, kind, row + quoteName(name), comment}
}

// base are the views every tenant has.
func base(p place) []view {
	telemetry := []column{
		plain("device", "String", "The device's id"),
		plain("module", "LowCardinality(String)", "The module that sent it; empty for the device itself"),
		plain("component", "LowCardinality(String)", "The component it is of; empty for none"),
		plain("ts", "DateTime64(3, 'UTC')", "When it was, by the device"),
		plain("body", "JSON(max_dynamic_paths=256)", "The message as it was sent"),
		plain("properties", "Map(LowCardinality(String), String)", "The message's application properties"),
		plain("id", "String", "The message's id"),
		plain("enqueued_at", "DateTime64(3, 'UTC')", "When the log took it"),
	}
	series := []column{
		plain("path", "LowCardinality(String)", "Where the number stands in the body, as temperature or location.lat"),
		plain("device", "String", "The device's id"), plain("component", "LowCardinality(String)", "The component it is of"), plain("module", "LowCardinality(String)", "The module that sent it"),
	}
	state := []column{
		plain("display_name", "String", "The device's name for people"), plain("template", "LowCardinality(String)", "The id of its template"),
		plain("enabled", "Bool", "Whether it may connect"), plain("provisioned", "Bool", "Whether it has connected"), plain("simulated", "Bool", "Whether Fleetlog simulates it"),
		plain("edge", "Bool", "Whether it is an IoT Edge device"), plain("waiting", "Bool", "Whether it waits for approval"), plain("connected", "Bool", "Whether it is connected"),
		plain("organization", "LowCardinality(String)", "Its organization"), plain("enrollment_group", "LowCardinality(String)", "The enrollment group it came by"), plain("model_id", "LowCardinality(String)", "The model it announced"),
		plain("parent", "String", "The gateway it is attached to"), plain("tags", "JSON(max_dynamic_paths=64)", "Its tags"),
		plain("properties", "JSON(max_dynamic_paths=256)", "Its properties: the values people see"),
		plain("registered_at", "DateTime64(3, 'UTC')", "When it was registered"), plain("updated_at", "DateTime64(3, 'UTC')", "When it was changed last"),
		plain("connection_since", "DateTime64(3, 'UTC')", "Since when it is connected, or not"),
	}
	device := plain("device", "String", "The device's id")
	return []view{
		{name: "telemetry", comment: "All messages of all devices", columns: telemetry, from: p.from("telemetry")},
		rollup(p, "telemetry_1m", "a minute", series, false), rollup(p, "telemetry_10m", "ten minutes", series, true), rollup(p, "telemetry_1h", "an hour", series, true),
		latest(p, series),
		{name: "devices", comment: "All devices as they are now", columns: append([]column{device}, state...), from: p.newest("devices")},
		{name: "device_versions", comment: "What devices were, one row for each change", from: p.from("device_versions"),
			columns: append([]column{device, plain("at", "DateTime64(6, 'UTC')", "When it became so"), plain("deleted", "UInt8", "Whether it was deleted then")}, state...)},
		{name: "device_events", comment: "What somebody wanted of devices, accepted or not", from: p.from("device_events"), columns: []column{
			device, plain("module", "LowCardinality(String)", "The module it is about"), plain("kind", "LowCardinality(String)", "What was wanted"), plain("subject", "String", "What it is about, as a method"),
			plain("id", "String", "The event's id"), plain("at", "DateTime64(6, 'UTC')", "When"), plain("principal", "LowCardinality(String)", "Who"),
			plain("request_id", "String", "By which request"), plain("logged_at", "DateTime64(3, 'UTC')", "When the log took it"),
		}},
	}
}

// baseColumns are those of one of the views every tenant has.
func baseColumns(p place, name string) []column {
	all := base(p)
	return all[slices.IndexFunc(all, func(v view) bool { return v.name == name })].columns
}

// rollup sums up what ClickHouse has not merged yet; ends says whether the table has
// the first and the last values.
func rollup(p place, name, of string, series []column, ends bool) view {
	number := func(name, expression, comment string) column { return column{name, "Float64", expression, comment} }
	columns := slices.Concat(series, []column{
		plain("ts", "DateTime64(0, 'UTC')", "When "+of+" begins"),
		column{"count", "UInt64", "sum(_row.count)", "How many values there were"},
		number("avg", "sum(_row.sum) / sum(_row.count)", "Their average"), number("sum", "sum(_row.sum)", "Their sum"),
		number("min", "min(_row.min)", "The least"), number("max", "max(_row.max)", "The greatest"),
	})
	if ends {
		columns = append(columns, number("first", "tupleElement(min(_row.first), 'value')", "The first by time"), number("last", "tupleElement(max(_row.last), 'value')", "The last by time"))
	}
	return view{
		name: name, comment: "Numbers that devices sent, one row for " + of, columns: columns,
		from: p.from(name) + " GROUP BY _row.path, _row.device, _row.component, _row.module, _row.ts",
	}
}

func latest(p place, series []column) view {
	of := func(name, kind, expression, comment string) column { return column{name, kind, expression, comment} }
	return view{
		name: "telemetry_latest", comment: "The latest value at each path of each device",
		columns: append(series[:len(series):len(series)],
			of("ts", "DateTime64(3, 'UTC')", "tupleElement(max(_row.last), 'ts')", "When it was"),
			of("kind", "String", "toString(tupleElement(max(_row.last), 'kind'))", "number, boolean, string, array or null"),
			of("number", "Float64", "tupleElement(max(_row.last), 'number')", "The value, if it is a number; true and false are 1 and 0"),
			of("value", "String", "tupleElement(max(_row.last), 'value')", "The value as JSON")),
		from: p.from("telemetry_latest") + " GROUP BY _row.path, _row.device, _row.component, _row.module",
	}
}
