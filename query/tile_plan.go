package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// lastValues is how many values as they were sent a device shows.
	lastValues = 100
	// maxPoints bounds what one tile shows.
	maxPoints = 50_000
)

// capabilityPlace is where a capability's values may be: at the path of the device itself, or
// of the component that the path's first name is.
type capabilityPlace struct{ component, path string }

func placesOf(path string) []capabilityPlace {
	places := []capabilityPlace{{"", path}}
	if component, rest, ok := strings.Cut(path, "."); ok {
		places = append(places, capabilityPlace{component, rest})
	}
	return places
}

// capabilityAt is the capability's path of values at the place.
func capabilityAt(p capabilityPlace) string {
	if p.component == "" {
		return p.path
	}
	return p.component + "." + p.path
}

// tileSQL puts a tile's questions together.
type tileSQL struct {
	filterSQL

	from, where string
}

// about begins a question about the tile's devices, from a table of telemetry.
func (s *tiles) about(ctx context.Context, tenant string, t *dashboard.Tile, table string) (*tileSQL, error) {
	q := &tileSQL{filterSQL: filterSQL{parameters: map[string]string{"tenant": tenant}, scope: access.ScopeOf(ctx)}, from: table + " AS s"}
	conditions := []string{"tenant = {tenant:String}"}
	switch {
	case len(t.Devices) > 0:
		conditions = append(conditions, "device IN "+q.parameter("Array(String)", textsParameter(t.Devices)))
	case t.Group != "":
		query, err := s.groupFilter(ctx, tenant, t.Group)
		if err != nil {
			return nil, err
		}
		filter, err := parseGroup(query)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, "device IN (SELECT device FROM devices FINAL WHERE tenant = {tenant:String} AND "+q.condition(filter)+")")
	}
	sent := "" // sums and latest values do not know when their device was whose
	if table == "telemetry" {
		sent = "enqueued_at"
	}
	q.where = strings.Join(conditions, " AND ") + q.ofScope(sent)
	return q, nil
}

// during asks for a time.
func (q *tileSQL) during(from, to time.Time) {
	millis := func(at time.Time) string {
		return "fromUnixTimestamp64Milli(" + q.parameter("Int64", strconv.FormatInt(storable(at.UnixMilli()), 10)) + ", 'UTC')"
	}
	q.where += " AND ts >= " + millis(from) + " AND ts < " + millis(to)
}

// split is what the tile's series are split by, as SQL: the device, a property of it,
// or nothing.
func (q *tileSQL) split(t *dashboard.Tile) string {
	switch {
	case len(t.Devices) > 0 && t.SplitBy == "", t.SplitBy == "$id":
		return "device"
	case t.SplitBy != "":
		q.from += " LEFT JOIN (SELECT device, toJSONString(properties." + path(t.SplitBy) + ") AS split FROM devices FINAL WHERE tenant = {tenant:String}) AS d USING device"
		return "ifNull(split, 'null')"
	}
	return "''"
}

// at is true for the rows of a table of sums that are of the tile's capabilities.
func (q *tileSQL) at(t *dashboard.Tile) string {
	var some []string
	for _, c := range t.Capabilities {
		for _, p := range placesOf(c.Path) {
			some = append(some, "component = "+q.parameterText(p.component)+" AND path = "+q.parameterText(p.path))
		}
	}
	return "(" + strings.Join(some, " OR ") + ")"
}

// sumsTable is the coarsest table of sums for intervals of this length.
func sumsTable(interval time.Duration) (table string, width time.Duration) {
	for _, t := range []struct {
		name  string
		width time.Duration
	}{{"telemetry_1h", time.Hour}, {"telemetry_10m", 10 * time.Minute}} {
		if interval >= t.width && interval%t.width == 0 {
			return t.name, t.width
		}
	}
	return "telemetry_1m", time.Minute
}

// aggregates answers charts, and totals over the whole time.
func (s *tiles) aggregates(ctx context.Context, tenant string, t *dashboard.Tile, when moment) (*apiv1.TileData, error) {
	duration, resolution, name := t.Span()
	table, width := sumsTable(resolution)
	from := when.at.Add(-duration).Truncate(resolution)
	bucket := "intDiv(toUnixTimestamp(ts), {width:Int64}) * {width:Int64}"
	shown := &apiv1.TileData{To: timestamppb.New(when.at), Resolution: name}
	if t.Shows == dashboard.Total {
		from, bucket, shown.Resolution = when.at.Add(-duration).Truncate(width), "0", ""
	}
	shown.From = timestamppb.New(from)
	q, err := s.about(ctx, tenant, t, table)
	if err != nil {
		return nil, err
	}
	q.during(from, when.at)
	q.parameters["width"], q.parameters["limit"] = strconv.Itoa(int(resolution.Seconds())), strconv.Itoa(maxPoints)
	by := q.split(t)
	p := plan{sql: fmt.Sprintf(`SELECT toString(%s) AS series, component, path, toInt64(%s) AS bucket, sum(s.count), sum(s.sum), min(s.min), max(s.max)
		FROM %s WHERE %s AND %s GROUP BY series, component, path, bucket ORDER BY series, bucket LIMIT {limit:UInt32}`,
		by, bucket, q.from, q.where, q.at(t)), parameters: q.parameters}
	out := &seriesOf{tile: t, shown: shown, index: map[string]*apiv1.Series{}}
	err = ask(ctx, s.db, p.sql, p.parameters, func(rows driver.Rows) error {
		var split string
		var at capabilityPlace
		var start int64
		var v sums
		if err := rows.Scan(&split, &at.component, &at.path, &start, &v.count, &v.sum, &v.min, &v.max); err != nil {
			return err
		}
		for _, c := range t.Capabilities {
			if c.Path == capabilityAt(at) {
				p := &apiv1.Point{Value: structpb.NewNumberValue(v.aggregate(c.Aggregate))}
				if t.Shows != dashboard.Total {
					p.Timestamp = timestamppb.New(time.Unix(start, 0))
				}
				if err := out.add(split, c, p); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return shown, s.countTexts(ctx, tenant, out, from, when.at, resolution)
}

// sums is a row of a table of sums.
type sums struct {
	count         uint64
	sum, min, max float64
}

func (v sums) aggregate(function string) float64 {
	switch function {
	case "sum":
		return v.sum
	case "min":
		return v.min
	case "max":
		return v.max
	case "avg":
		return v.sum / float64(v.count)
	}
	return float64(v.count)
}

// countTexts counts values that are no numbers, which the sums have not: of
// capabilities that are to be counted and of which nothing was found.
func (s *tiles) countTexts(ctx context.Context, tenant string, out *seriesOf, from, to time.Time, resolution time.Duration) error {
	t := out.tile
	found := map[string]bool{}
	for _, series := range out.shown.GetSeries() {
		found[series.GetCapability()] = true
	}
	for _, c := range t.Capabilities {
		if found[c.Path] || c.Aggregate != "count" && t.Shows != dashboard.Counts {
			continue
		}
		q, err := s.about(ctx, tenant, t, "telemetry")
		if err != nil {
			return err
		}
		q.during(from, to)
		bucket := "intDiv(toUnixTimestamp64Milli(ts), {width:Int64}) * intDiv({width:Int64}, 1000)"
		if t.Shows == dashboard.Total {
			bucket = "0"
		}
		q.parameters["width"], q.parameters["limit"] = strconv.FormatInt(resolution.Milliseconds(), 10), strconv.Itoa(maxPoints)
		by := q.split(t)
		sql := fmt.Sprintf("SELECT toString(%s) AS series, toInt64(%s) AS bucket, count() FROM %s WHERE %s AND %s GROUP BY series, bucket ORDER BY series, bucket LIMIT {limit:UInt32}",
			by, bucket, q.from, q.where, q.sent(c))
		err = ask(ctx, s.db, sql, q.parameters, func(rows driver.Rows) error {
			var split string
			var start int64
			var n uint64
			if err := rows.Scan(&split, &start, &n); err != nil {
				return err
			}
			p := &apiv1.Point{Value: structpb.NewNumberValue(float64(n))}
			if t.Shows != dashboard.Total {
				p.Timestamp = timestamppb.New(time.Unix(start, 0))
			}
			return out.add(split, c, p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sent is true for messages that have a value of the capability.
func (q *tileSQL) sent(c dashboard.Capability) string {
	var some []string
	for _, p := range placesOf(c.Path) {
		some = append(some, "component = "+q.parameterText(p.component)+" AND "+has(p.path))
	}
	return "(" + strings.Join(some, " OR ") + ")"
}

// value is the message's value of the capability, JSON.
func (q *tileSQL) value(c dashboard.Capability) string {
	places := placesOf(c.Path)
	value := valueOf(places[0].path)
	if len(places) > 1 {
		value = "if(component = '', " + value + ", " + valueOf(places[1].path) + ")"
	}
	return value
}

// seriesOf gathers points into series.
type seriesOf struct {
	tile  *dashboard.Tile
	shown *apiv1.TileData
	index map[string]*apiv1.Series
}

// add puts the point into the series of the capability that is split off by the
// device, or by a property's value in JSON.
func (s *seriesOf) add(split string, c dashboard.Capability, p *apiv1.Point) error {
	key := split + "\x00" + c.Path + "\x00" + c.Aggregate
	series, ok := s.index[key]
	if !ok {
		series = &apiv1.Series{Capability: c.Path, AggregateFunction: c.Aggregate}
		if s.tile.SplitBy == "" || s.tile.SplitBy == "$id" {
			series.Device = split
		} else {
			value, err := jsonValue(&split)
			if err != nil {
				return err
			}
			series.Split = value
		}
		s.index[key] = series
		s.shown.Series = append(s.shown.Series, series)
	}
	series.Points = append(series.Points, p)
	return nil
}
