package query

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// TestTheFleetAtAnyMoment has devices come, change, go and come again, at times that
// are not all in the order of the log, and compares lists, groups, counts and queries
// at a thousand moments with the events folded by hand.
func TestTheFleetAtAnyMoment(t *testing.T) {
	a := newAPI(t)
	a.projectEvents()
	devicesTable(t, a.db)
	a.project(a.insertVersion)
	random, began := rand.New(rand.NewPCG(3, 4)), time.Now().Add(-30*24*time.Hour).Truncate(time.Millisecond)
	events, last := map[string][]*eventsv1.DeviceEvent{}, began
	for n := range 250 {
		id := fmt.Sprint("d", random.IntN(12))
		change := registered(fmt.Sprint("name ", random.IntN(5)))
		change.GetRegistered().Enabled = random.IntN(2) == 0
		if random.IntN(6) == 0 {
			change = deleted()
		}
		last = last.Add(time.Duration(random.IntN(3600)) * time.Second)
		at := last
		if n%10 == 0 {
			at = at.Add(-time.Duration(random.IntN(36000)) * time.Second)
		}
		change.Tenant, change.Device, change.Time, change.Id = "default", id, timestamppb.New(at), fmt.Sprint("e", n)
		_, _ = a.devices.Change(t.Context(), change) // deletions of what is not there are refused
		events[id] = append(events[id], change)
	}
	service := newDeviceGroupService(Deps{Registry: a.devices, Catalog: a.catalog, ClickHouse: a.db})
	now := time.Now()
	require.Eventually(t, func() bool {
		var n uint64
		require.NoError(t, a.db.QueryRow(t.Context(), "SELECT sum(revision) FROM (SELECT max(revision) AS revision FROM device_versions GROUP BY device)").Scan(&n))
		var want uint64
		for id := range events {
			want += shadow(events[id], now).GetRevision()
		}
		return n == want
	}, time.Minute, 10*time.Millisecond)
	filters := []string{`$enabled = true`, `$displayName = "name 3"`, `CONTAINS($displayName, "1") OR $id = "d4"`, `NOT $enabled = true`}
	for range 1000 {
		at := began.Add(time.Duration(random.Int64N(int64(last.Sub(began) + time.Hour))))
		text := "SELECT * FROM devices WHERE " + filters[random.IntN(len(filters))]
		filter, err := devicefilter.ParseGroup(text)
		require.NoError(t, err)
		var want []string
		for id := range events {
			state := shadow(events[id], at)
			if !device.Exists(state) {
				continue
			}
			d, err := devicefilter.DeviceOf(state)
			require.NoError(t, err)
			if devicefilter.Match(filter, d) {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		ids, _, err := service.fleet.ids(principal(t.Context()), "default", fleetPage{filter: filter, of: text, size: 100, at: &at})
		require.NoError(t, err)
		require.Equal(t, want, ids, "%s at %s", text, at)
	}
	for range 20 {
		at := began.Add(time.Duration(random.Int64N(int64(now.Sub(began)))))
		var want []any
		for i := range 12 {
			if state := shadow(events[fmt.Sprint("d", i)], at); device.Exists(state) && state.GetEnabled() {
				want = append(want, state.GetDisplayName())
			}
		}
		n, err := service.count(principal(t.Context()), "default", "SELECT * FROM devices WHERE $enabled = true", &at)
		require.NoError(t, err)
		require.EqualValues(t, len(want), n)
		var names []any
		for next := "/api/devices?maxpagesize=3&filter=enabled+eq+true&at=" + query(at); next != ""; {
			page := a.ok("GET", next, "")
			for _, d := range page["value"].([]any) {
				names = append(names, d.(map[string]any)["displayName"])
			}
			next, _ = page["nextLink"].(string)
		}
		require.ElementsMatch(t, want, names)
		var asked []any
		for _, row := range a.results(fmt.Sprintf("SELECT $displayName FROM devices AS OF '%s' WHERE $enabled = true", at.UTC().Format(time.RFC3339Nano))) {
			asked = append(asked, row.(map[string]any)["$displayName"])
		}
		require.ElementsMatch(t, want, asked)
	}
}

// shadow is the state after the last event that was made until then.
func shadow(events []*eventsv1.DeviceEvent, at time.Time) (state *eventsv1.DeviceState) {
	end := 0
	for i, ev := range events {
		if !ev.GetTime().AsTime().After(at) {
			end = i + 1
		}
	}
	for _, ev := range events[:end] {
		state, _ = device.Apply(state, ev)
	}
	return state
}
