package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// values answers tiles of values as they were sent: the last ones of each device, the
// newest first.
func (s *tiles) values(ctx context.Context, tenant string, t *dashboard.Tile, when moment, window time.Duration, last int) (*apiv1.TileData, error) {
	from := when.at.Add(-window)
	shown := &apiv1.TileData{From: timestamppb.New(from), To: timestamppb.New(when.at)}
	for _, c := range t.Capabilities {
		q, err := s.about(ctx, tenant, t, "telemetry")
		if err != nil {
			return nil, err
		}
		q.during(from, when.at)
		q.parameters["last"], q.parameters["limit"] = strconv.Itoa(last), strconv.Itoa(last*maxTileDevices)
		sql := fmt.Sprintf("SELECT device, ts, %s AS value FROM telemetry WHERE %s AND %s ORDER BY device, ts DESC, partition DESC, offset DESC LIMIT {last:UInt32} BY device LIMIT {limit:UInt32}",
			q.value(c), q.where, q.sent(c))
		var series *apiv1.Series
		err = ask(ctx, s.db, sql, q.parameters, func(rows driver.Rows) error {
			var device string
			var at time.Time
			var text *string
			if err := rows.Scan(&device, &at, &text); err != nil {
				return err
			}
			value, err := jsonValue(text)
			if err != nil {
				return err
			}
			if series == nil || series.GetDevice() != device {
				series = &apiv1.Series{Device: device, Capability: c.Path}
				shown.Series = append(shown.Series, series)
			}
			series.Points = append(series.Points, point(at, value))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return shown, nil
}

// trendWindow is how far back the value before the last one is looked for.
const trendWindow = 24 * time.Hour

// latest answers tiles of last known values, each with the one before it.
func (s *tiles) latest(ctx context.Context, tenant string, t *dashboard.Tile, when moment) (*apiv1.TileData, error) {
	recent := &apiv1.TileData{}
	if when.past || t.ShowTrend == nil || *t.ShowTrend {
		var err error
		if recent, err = s.values(ctx, tenant, t, when, trendWindow, 2); err != nil || when.past {
			return recent, err
		}
	}
	known := map[string]bool{}
	for _, series := range recent.GetSeries() {
		known[series.GetDevice()+"\x00"+series.GetCapability()] = true
	}
	shown := &apiv1.TileData{Series: recent.GetSeries()}
	older, err := s.lastKnown(ctx, tenant, t)
	for _, series := range older {
		if !known[series.GetDevice()+"\x00"+series.GetCapability()] {
			shown.Series = append(shown.Series, series)
		}
	}
	return shown, err
}

// lastKnown are the latest values, however old.
func (s *tiles) lastKnown(ctx context.Context, tenant string, t *dashboard.Tile) (all []*apiv1.Series, err error) {
	for _, c := range t.Capabilities {
		q, err := s.about(ctx, tenant, t, "telemetry_latest")
		if err != nil {
			return nil, err
		}
		q.parameters["limit"] = strconv.Itoa(maxTileDevices * 10)
		var some []string
		for _, p := range placesOf(c.Path) {
			some = append(some, fmt.Sprintf("component = %s AND (path = %s OR startsWith(path, %s))", q.parameterText(p.component), q.parameterText(p.path), q.parameterText(p.path+".")))
		}
		sql := fmt.Sprintf("SELECT device, component, path, max(last).ts, max(last).value FROM telemetry_latest AS s WHERE %s AND (%s) GROUP BY device, component, path ORDER BY device LIMIT {limit:UInt32}",
			q.where, strings.Join(some, " OR "))
		latest := map[string]*lastValue{}
		var order []string
		err = ask(ctx, s.db, sql, q.parameters, func(rows driver.Rows) error {
			var device, text string
			var at capabilityPlace
			var ts time.Time
			if err := rows.Scan(&device, &at.component, &at.path, &ts, &text); err != nil {
				return err
			}
			value, err := jsonValue(&text)
			if err != nil {
				return err
			}
			if latest[device] == nil {
				latest[device] = &lastValue{}
				order = append(order, device)
			}
			latest[device].take(strings.TrimPrefix(capabilityAt(at), c.Path), ts, value)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, device := range order {
			all = append(all, &apiv1.Series{Device: device, Capability: c.Path, Points: []*apiv1.Point{point(latest[device].at, latest[device].value)}})
		}
	}
	return all, nil
}

// lastValue puts an object together from its members.
type lastValue struct {
	at    time.Time
	value *structpb.Value
}

// take adds the value at the path, which is empty for the whole value. A newer value
// of another form takes the place of an older one.
func (v *lastValue) take(path string, at time.Time, value *structpb.Value) {
	if path == "" {
		if v.value == nil || at.After(v.at) {
			v.at, v.value = at, value
		}
		return
	}
	if v.value.GetStructValue() == nil {
		if v.value != nil && v.at.After(at) {
			return
		}
		v.value = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{}})
	}
	if at.After(v.at) {
		v.at = at
	}
	in := v.value.GetStructValue()
	names := strings.Split(strings.TrimPrefix(path, "."), ".")
	for _, name := range names[:len(names)-1] {
		inner := in.GetFields()[name].GetStructValue()
		if inner == nil {
			inner = &structpb.Struct{Fields: map[string]*structpb.Value{}}
			in.Fields[name] = structpb.NewStructValue(inner)
		}
		in = inner
	}
	in.Fields[names[len(names)-1]] = value
}

// memberOf is the value at the path of names in nested objects; nil when there is
// none.
func memberOf(values map[string]any, path string) any {
	var found any = values
	for name := range strings.SplitSeq(path, ".") {
		inside, ok := found.(map[string]any)
		if !ok {
			return nil
		}
		found = inside[name]
	}
	return found
}
