package query

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/fleetlog/fleetlog/query/history"
	"google.golang.org/protobuf/proto"
)

// This file reads devices' events and checkpoints. Every statement begins with
// tenant and device, as the tables' order does.

// position is where a device stands on the log.
type position struct {
	device string
	// upTo is the last event made at or before the asked time; history.Beginning
	// when there is none.
	upTo int64
	// newest is the last event there is, newestAt the latest time of one.
	newest   int64
	newestAt time.Time
}

const positionColumns = "SELECT device, if(countIf(at <= %[1]s) = 0, -1, maxIf(offset, at <= %[1]s)) AS up_to, max(offset), max(at) " +
	"FROM device_events WHERE tenant = {tenant:String}"

const askedTime = "fromUnixTimestamp64Micro({at:Int64}, 'UTC')"

// position is where the device stands.
func (h *deviceHistory) position(ctx context.Context, tenant, id string, at time.Time) (position, error) {
	all, err := h.readPositions(ctx, " AND device = {device:String} GROUP BY device", map[string]string{
		"tenant": tenant, "device": id, "at": micros(at),
	})
	if err != nil || len(all) == 0 {
		return position{device: id, upTo: history.Beginning, newest: history.Beginning}, err
	}
	return all[0], nil
}

// positions are those of up to limit devices whose ids sort after the given one and
// that had an event at the asked time.
func (h *deviceHistory) positions(ctx context.Context, tenant, after string, at time.Time, limit int) ([]position, error) {
	return h.readPositions(ctx, " AND device > {device:String} GROUP BY device HAVING up_to >= 0 ORDER BY device LIMIT {limit:UInt32}", map[string]string{
		"tenant": tenant, "device": after, "at": micros(at), "limit": strconv.Itoa(limit),
	})
}

// positionsOf are those of the devices.
func (h *deviceHistory) positionsOf(ctx context.Context, tenant string, ids []string, at time.Time) ([]position, error) {
	return h.readPositions(ctx, " AND device IN {devices:Array(String)} GROUP BY device", map[string]string{
		"tenant": tenant, "devices": textsParameter(ids), "at": micros(at),
	})
}

func (h *deviceHistory) readPositions(ctx context.Context, sql string, parameters map[string]string) (all []position, err error) {
	err = ask(ctx, h.db, fmt.Sprintf(positionColumns, askedTime)+sql, parameters, func(rows driver.Rows) error {
		var p position
		err := rows.Scan(&p.device, &p.upTo, &p.newest, &p.newestAt)
		all = append(all, p)
		return err
	})
	return all, err
}

func micros(t time.Time) string { return strconv.FormatInt(storableMicros(t), 10) }

// storableMicros brings a time beyond what a DateTime64(6) holds to its nearest end.
func storableMicros(t time.Time) int64 {
	const maxSeconds = 9214646399 // the end of 2261
	return min(max(t.Unix(), minMillis/1000), maxSeconds)*1e6 + int64(t.Nanosecond()/1000)
}

// run is a stretch of one device's events and the states to fold it onto.
type run struct {
	device    string
	stretches []history.Stretch
	states    map[int64]*eventsv1.DeviceState
}

// nearestCheckpoints finds them by their offsets and reads only their states.
const nearestCheckpoints = "SELECT device, event_offset, state FROM device_state_history PREWHERE tenant = {tenant:String} AND device IN {devices:Array(String)} " +
	"AND (device, event_offset) IN (SELECT device, max(event_offset) FROM device_state_history " +
	"WHERE tenant = {tenant:String} AND device IN {devices:Array(String)} " +
	"AND arrayExists((d, up_to) -> d = device AND event_offset <= up_to, {devices:Array(String)}, {bounds:Array(Int64)}) GROUP BY device)"

// nearest are the runs from each position's nearest checkpoint up to its upTo, or
// its newest event when toNewest says so of it.
func (h *deviceHistory) nearest(ctx context.Context, tenant string, positions []position, toNewest func(position) bool) ([]run, error) {
	runs := make([]run, len(positions))
	devices, bounds, byDevice := make([]string, len(positions)), make([]int64, len(positions)), map[string]*run{}
	for i, p := range positions {
		devices[i], bounds[i] = p.device, p.upTo
		upTo := p.upTo
		if toNewest(p) {
			upTo = p.newest
		}
		runs[i] = run{device: p.device, stretches: []history.Stretch{{After: history.Beginning, UpTo: upTo}}, states: map[int64]*eventsv1.DeviceState{}}
		byDevice[p.device] = &runs[i]
	}
	err := ask(ctx, h.db, nearestCheckpoints, map[string]string{"tenant": tenant, "devices": textsParameter(devices), "bounds": numbersParameter(bounds)}, func(rows driver.Rows) error {
		var id, encoded string
		var offset int64
		if err := rows.Scan(&id, &offset, &encoded); err != nil {
			return err
		}
		r := byDevice[id]
		r.stretches[0].After = offset
		return r.keep(offset, encoded)
	})
	return runs, err
}

// keep takes in a checkpoint.
func (r *run) keep(offset int64, encoded string) error {
	state := new(eventsv1.DeviceState)
	if err := proto.Unmarshal([]byte(encoded), state); err != nil {
		return fmt.Errorf("checkpoint of device %s at %d: %w", r.device, offset, err)
	}
	r.states[offset] = state
	return nil
}

// around is the run that tells of the wanted events, whose offsets ascend.
func (h *deviceHistory) around(ctx context.Context, tenant, id string, wanted []int64) (run, error) {
	r := run{device: id, states: map[int64]*eventsv1.DeviceState{}}
	if len(wanted) == 0 {
		return r, nil
	}
	const of = " FROM device_state_history WHERE tenant = {tenant:String} AND device = {device:String} "
	parameters := map[string]string{
		"tenant": tenant, "device": id,
		"first": strconv.FormatInt(wanted[0], 10), "last": strconv.FormatInt(wanted[len(wanted)-1], 10),
	}
	var checkpoints []int64
	err := ask(ctx, h.db, "SELECT DISTINCT event_offset"+of+"AND event_offset < {last:Int64} AND event_offset >= (SELECT max(event_offset)"+of+"AND event_offset < {first:Int64}) ORDER BY event_offset",
		parameters, func(rows driver.Rows) error {
			var offset int64
			err := rows.Scan(&offset)
			checkpoints = append(checkpoints, offset)
			return err
		})
	if err != nil {
		return r, err
	}
	r.stretches = history.Stretches(checkpoints, wanted)
	var used []int64
	for _, s := range r.stretches {
		used = append(used, s.After)
	}
	parameters["used"] = numbersParameter(used)
	return r, ask(ctx, h.db, "SELECT event_offset, state"+of+"AND event_offset IN {used:Array(Int64)}", parameters, func(rows driver.Rows) error {
		var offset int64
		var encoded string
		if err := rows.Scan(&offset, &encoded); err != nil {
			return err
		}
		return r.keep(offset, encoded)
	})
}

const eventsOfRuns = "SELECT device, offset, event FROM device_events PREWHERE tenant = {tenant:String} AND device IN {devices:Array(String)} " +
	"AND arrayExists((d, lo, hi) -> d = device AND offset > lo AND offset <= hi, {of:Array(String)}, {after:Array(Int64)}, {up_to:Array(Int64)}) ORDER BY tenant, device, offset"

// fold folds the runs' events and calls each for every step. The devices' states
// after their runs are in the order of the runs.
func (h *deviceHistory) fold(ctx context.Context, tenant string, runs []run, each func(device string, step history.Step)) ([]*eventsv1.DeviceState, error) {
	var devices, of []string
	var after, upTo []int64
	folds := make(map[string]*history.Fold, len(runs))
	for _, r := range runs {
		folds[r.device] = history.NewFold(r.stretches, r.states)
		devices = append(devices, r.device)
		for _, s := range r.stretches {
			of, after, upTo = append(of, r.device), append(after, s.After), append(upTo, s.UpTo)
		}
	}
	err := ask(ctx, h.db, eventsOfRuns, map[string]string{
		"tenant": tenant, "devices": textsParameter(devices), "of": textsParameter(of), "after": numbersParameter(after), "up_to": numbersParameter(upTo),
	}, func(rows driver.Rows) error {
		var id, encoded string
		var offset int64
		if err := rows.Scan(&id, &offset, &encoded); err != nil {
			return err
		}
		ev := new(eventsv1.DeviceEvent)
		if err := proto.Unmarshal([]byte(encoded), ev); err != nil {
			return fmt.Errorf("event of device %s at %d: %w", id, offset, err)
		}
		if step, ok := folds[id].Next(offset, ev); ok {
			each(id, step)
		}
		return nil
	})
	states := make([]*eventsv1.DeviceState, len(runs))
	for i, r := range runs {
		states[i] = folds[r.device].State()
	}
	return states, err
}
