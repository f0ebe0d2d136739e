package query

import (
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
)

const (
	maxNames             = 15 // FEATURES.md QRY-09
	maxNameBytes         = 128
	maxComponentBytes    = 128
	defaultTelemetryPage = 100
	maxTelemetryPage     = 10_000
	maxWindows           = 10_000
	defaultSpan          = 24 * time.Hour
)

// namePattern is a DTDL name, or several with dots between them to reach into an
// object. Nothing else gets near SQL.
var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

func validateName(field, name string) error {
	if len(name) > maxNameBytes || !namePattern.MatchString(name) {
		return badField(field, "telemetry name %q is not valid: use letters, digits and '_', with '.' to reach into an object, at most %d characters", name[:min(len(name), 64)], maxNameBytes)
	}
	return nil
}

// plan is a statement and the values of its {name:Type} parameters.
type plan struct {
	sql        string
	parameters map[string]string
	// names are the keys of a row's values, in the order of the columns after
	// the first ones.
	names []string
	// size is how many rows make a page; the statement asks for one more.
	size int
	// windowed tells rows of windows from rows of messages.
	windowed bool
}

// path is a name as a quoted path into the body; validateName has seen it.
func path(name string) string {
	return "`" + strings.ReplaceAll(name, ".", "`.`") + "`"
}

// valueOf is a body's value under the name as JSON text, NULL when it has none.
// An object is no value of a path in ClickHouse but a bundle of deeper paths, so
// it is asked for on its own.
func valueOf(name string) string {
	p := path(name)
	return fmt.Sprintf("multiIf(isNotNull(body.%s), toJSONString(body.%s), notEmpty(JSONAllPaths(body.^%s)), toJSONString(body.^%s), NULL)", p, p, p, p)
}

// has is true for bodies that have a value under the name.
func has(name string) string {
	return fmt.Sprintf("(isNotNull(body.%s) OR notEmpty(JSONAllPaths(body.^%s)))", path(name), path(name))
}

// numberOf is a body's value under the name when it is a JSON number, else NULL.
// 21 and 21.5 are of different types in ClickHouse and one series to a person;
// "21" and true are no numbers, and "nan" must not become one.
func numberOf(name string) string {
	p := path(name)
	return fmt.Sprintf("coalesce(body.%s.:Float64, toFloat64(body.%s.:Int64), toFloat64(body.%s.:UInt64))", p, p, p)
}

// Tenant first, in every statement: it leads the table's order, and nothing of
// another tenant is ever read.
const ofDevice = "FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = {component:String} AND module = {module:String}"

// ofScope bounds the statement to messages of when the device was in the scope.
func (p plan) ofScope(scope access.Scope) plan {
	f := filterSQL{parameters: p.parameters, scope: scope}
	p.sql = strings.Replace(p.sql, ofDevice, ofDevice+f.ofScope("enqueued_at"), 1)
	return p
}

func validateComponent(name string) error {
	if len(name) > maxComponentBytes {
		return badField("component", "component name has %d bytes: at most %d", len(name), maxComponentBytes)
	}
	return nil
}

// planLatest asks for the last value by event time, ties by offset.
func planLatest(tenant string, req *apiv1.GetLatestTelemetryRequest) (plan, error) {
	name := req.GetName()
	if err := validateName("name", name); err != nil {
		return plan{}, err
	}
	if err := validateComponent(req.GetComponent()); err != nil {
		return plan{}, err
	}
	return plan{
		sql:        "SELECT ts, " + valueOf(name) + " AS value " + ofDevice + " AND " + has(name) + " ORDER BY ts DESC, partition DESC, offset DESC LIMIT 1",
		parameters: map[string]string{"tenant": tenant, "device": req.GetDeviceId(), "module": req.GetModule(), "component": req.GetComponent()},
	}, nil
}

// telemetryToken is where a page begins: behind this row. The span's end is kept
// so that "now" is the same for every page.
type telemetryToken struct {
	To        int64 `json:"t"` // Unix milliseconds
	Before    int64 `json:"b"` // Unix milliseconds
	Partition int32 `json:"p"`
	Offset    int64 `json:"o"`
}

// planList makes a statement of a list request.
func planList(tenant string, req *apiv1.ListTelemetryRequest, now time.Time) (plan, telemetryToken, error) {
	var none telemetryToken
	size, err := pageSize(req.GetMaxpagesize(), defaultTelemetryPage, maxTelemetryPage)
	if err != nil {
		return plan{}, none, err
	}
	after, err := decodeToken[telemetryToken](req.GetPageToken())
	if err != nil {
		return plan{}, none, err
	}
	if len(req.GetNames()) > maxNames {
		return plan{}, none, badField("names", "names has %d entries: ask for at most %d", len(req.GetNames()), maxNames)
	}
	for _, name := range req.GetNames() {
		if err := validateName("names", name); err != nil {
			return plan{}, none, err
		}
	}
	if err := validateComponent(req.GetComponent()); err != nil {
		return plan{}, none, err
	}
	from, to, err := span(req, after, now)
	if err != nil {
		return plan{}, none, err
	}
	after.To = to
	p := plan{size: size, parameters: map[string]string{
		"tenant": tenant, "device": req.GetDeviceId(), "module": req.GetModule(), "component": req.GetComponent(), "limit": strconv.Itoa(size + 1),
		"from": strconv.FormatInt(from, 10), "to": strconv.FormatInt(to, 10),
	}}
	if req.GetInterval() != "" {
		return planWindows(p, req, after, from, to)
	}
	if len(req.GetAggregates()) > 0 {
		return plan{}, none, badField("aggregates", "aggregates need an interval: add interval=PT1M or the like")
	}
	return planMessages(p, req, after)
}

// span is the asked time in Unix milliseconds: from inclusive, to exclusive.
func span(req *apiv1.ListTelemetryRequest, after telemetryToken, now time.Time) (from, to int64, err error) {
	end := now
	if t := req.GetTo(); t != nil {
		if err := t.CheckValid(); err != nil {
			return 0, 0, badField("to", "to is not a time: %s", err)
		}
		end = t.AsTime()
	} else if after.To != 0 {
		end = time.UnixMilli(after.To)
	}
	start := end.Add(-defaultSpan)
	if t := req.GetFrom(); t != nil {
		if err := t.CheckValid(); err != nil {
			return 0, 0, badField("from", "from is not a time: %s", err)
		}
		start = t.AsTime()
	}
	from, to = start.UnixMilli(), end.UnixMilli()
	if end.Nanosecond()%int(time.Millisecond) != 0 {
		to++ // exclusive, and the store counts whole milliseconds
	}
	if from >= to {
		return 0, 0, badField("from", "from (%s) is not before to (%s)", start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
	}
	return storable(from), storable(to), nil
}

// storable brings a time beyond what the store can hold to its nearest end.
func storable(millis int64) int64 { return min(max(millis, minMillis), maxMillis) }

// What DateTime64(3) holds: 1900 to 2299.
const (
	minMillis = -2208988800000
	maxMillis = 10413791999999
)

const inSpan = " AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')"

// planMessages lists messages, newest first. A page begins behind the last row
// of the one before, so rows that come in meanwhile move nothing.
func planMessages(p plan, req *apiv1.ListTelemetryRequest, after telemetryToken) (plan, telemetryToken, error) {
	columns := []string{"toJSONString(body)"}
	if names := req.GetNames(); len(names) > 0 {
		columns = columns[:0]
		var sent []string
		for _, name := range names {
			columns = append(columns, valueOf(name))
			sent = append(sent, has(name))
		}
		p.names = names
		p.sql = " AND (" + strings.Join(sent, " OR ") + ")"
	}
	if req.GetPageToken() != "" {
		p.sql += " AND (ts, partition, offset) < (fromUnixTimestamp64Milli({before:Int64}, 'UTC'), {partition:Int32}, {offset:Int64})"
		p.parameters["before"] = strconv.FormatInt(storable(after.Before), 10)
		p.parameters["partition"] = strconv.FormatInt(int64(after.Partition), 10)
		p.parameters["offset"] = strconv.FormatInt(after.Offset, 10)
	}
	p.sql = "SELECT ts, partition, offset, [" + strings.Join(columns, ", ") + "]::Array(Nullable(String)) " + ofDevice + inSpan + p.sql +
		" ORDER BY ts DESC, partition DESC, offset DESC LIMIT {limit:UInt32}"
	return p, after, nil
}

// aggregates are the functions over one name's values in a window, as SQL.
var aggregates = map[apiv1.Aggregate]struct {
	name string
	sql  func(name string) string
}{
	apiv1.Aggregate_AGGREGATE_AVG:   {"avg", func(n string) string { return "toJSONString(avg(" + numberOf(n) + "))" }},
	apiv1.Aggregate_AGGREGATE_MIN:   {"min", func(n string) string { return "toJSONString(min(" + numberOf(n) + "))" }},
	apiv1.Aggregate_AGGREGATE_MAX:   {"max", func(n string) string { return "toJSONString(max(" + numberOf(n) + "))" }},
	apiv1.Aggregate_AGGREGATE_SUM:   {"sum", func(n string) string { return "toJSONString(sum(" + numberOf(n) + "))" }},
	apiv1.Aggregate_AGGREGATE_COUNT: {"count", func(n string) string { return "toString(countIf(" + has(n) + "))" }},
	apiv1.Aggregate_AGGREGATE_FIRST: {"first", func(n string) string { return "argMin(" + valueOf(n) + ", (ts, partition, offset))" }},
	apiv1.Aggregate_AGGREGATE_LAST:  {"last", func(n string) string { return "argMax(" + valueOf(n) + ", (ts, partition, offset))" }},
}

// planWindows aggregates into windows aligned to the Unix epoch, newest first.
func planWindows(p plan, req *apiv1.ListTelemetryRequest, after telemetryToken, from, to int64) (plan, telemetryToken, error) {
	var none telemetryToken
	width, err := parseInterval(req.GetInterval())
	if err != nil {
		return plan{}, none, err
	}
	if len(req.GetNames()) == 0 {
		return plan{}, none, badField("names", "an interval needs names: say which telemetry to aggregate")
	}
	if windows := (to - from) / width.Milliseconds(); windows > maxWindows {
		return plan{}, none, badField("interval", "%d windows of %s in the span: at most %d; widen the interval or shorten the span", windows, req.GetInterval(), maxWindows)
	}
	asked := req.GetAggregates()
	if len(asked) == 0 {
		asked = []apiv1.Aggregate{apiv1.Aggregate_AGGREGATE_AVG}
	}
	var columns, sent []string
	for _, name := range req.GetNames() {
		sent = append(sent, has(name))
		for _, a := range asked {
			f, ok := aggregates[a]
			if !ok {
				return plan{}, none, badField("aggregates", "aggregate %s is not one of AGGREGATE_AVG, _MIN, _MAX, _SUM, _COUNT, _FIRST, _LAST", a)
			}
			if key := f.name + "_" + name; !slices.Contains(p.names, key) {
				p.names = append(p.names, key)
				columns = append(columns, f.sql(name))
			}
		}
	}
	p.windowed = true
	p.parameters["width"] = strconv.FormatInt(width.Milliseconds(), 10)
	if req.GetPageToken() != "" { // the span of the pages left ends where the last window began
		p.parameters["to"] = strconv.FormatInt(min(to, storable(after.Before)), 10)
	}
	p.sql = "SELECT toUnixTimestamp64Milli(ts) - positiveModulo(toUnixTimestamp64Milli(ts), {width:Int64}) AS window, [" + strings.Join(columns, ", ") + "]::Array(Nullable(String)) " +
		ofDevice + inSpan + " AND (" + strings.Join(sent, " OR ") + ") GROUP BY window ORDER BY window DESC LIMIT {limit:UInt32}"
	return p, after, nil
}
