package query

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// projectEvents writes device events to their table as the projection of another
// room does, whenever the lock is free.
func (a *api) projectEvents() *sync.Mutex {
	a.t.Helper()
	for _, file := range []string{"0002_device_events", "0004_device_state_history"} {
		sql, err := os.ReadFile("../projections/schema/migrations/" + file + ".sql")
		require.NoError(a.t, err)
		require.NoError(a.t, a.db.Exec(a.t.Context(), strings.ReplaceAll(string(sql), "{database}", a.db.Database())))
	}
	open := new(sync.Mutex)
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- a.log.Follow(ctx, eventlog.Devices, func(r *kgo.Record) {
			open.Lock()
			defer open.Unlock()
			ev := new(eventsv1.DeviceEvent)
			if err := proto.Unmarshal(r.Value, ev); err != nil {
				a.t.Error(err)
			}
			if err := a.db.Exec(ctx, "INSERT INTO device_events (tenant, device, module, id, at, event, partition, offset) SELECT ?, ?, ?, ?, fromUnixTimestamp64Micro(?, 'UTC'), unhex(?), ?, ?",
				ev.GetTenant(), ev.GetDevice(), ev.GetModule(), ev.GetId(), ev.GetTime().AsTime().UnixMicro(), fmt.Sprintf("%X", r.Value), r.Partition, r.Offset); err != nil && ctx.Err() == nil {
				a.t.Error(err)
			}
		}, func() {})
	}()
	a.t.Cleanup(func() {
		cancel()
		require.NoError(a.t, <-done)
	})
	return open
}

// wrote has an event made at a time, for the tenant.
func (a *api) wrote(tenant, id string, at time.Time, change *eventsv1.DeviceEvent) {
	a.t.Helper()
	change.Id, change.Tenant, change.Device, change.Time = eventlog.NewID(), tenant, id, timestamppb.New(at)
	_, err := a.devices.Change(a.t.Context(), change)
	require.NoError(a.t, err)
}

func registered(name string) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{DisplayName: name, Enabled: true}}}
}

func deleted() *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Deleted{Deleted: &eventsv1.DeviceDeleted{}}}
}

func query(t time.Time) string { return url.QueryEscape(t.UTC().Format(time.RFC3339Nano)) }

// TestThePastWaitsForItsProjection: who has changed a device and asks for now does
// not get what was before. Nothing waits for a time that is surely there.
func TestThePastWaitsForItsProjection(t *testing.T) {
	a := newAPI(t)
	projecting := a.projectEvents()
	ago := time.Now().Add(-time.Hour)
	a.wrote("default", "d", ago, registered("one"))
	a.wrote("default", "d", ago.Add(10*time.Minute), registered("two"))
	past := &deviceHistory{registry: a.devices, db: a.db, patience: 10 * time.Second}
	state, err := past.at(t.Context(), "default", "d", always)
	require.NoError(t, err)
	require.Equal(t, "two", state.GetDisplayName())

	projecting.Lock()
	a.wrote("default", "d", time.Now(), registered("three"))
	a.wrote("default", "new", time.Now(), registered("new"))
	hasty := &deviceHistory{registry: a.devices, db: a.db, patience: time.Millisecond}
	for _, id := range []string{"d", "new"} {
		_, err = hasty.at(t.Context(), "default", id, time.Now())
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Contains(t, status.Convert(err).Message(), "lags behind")
	}
	_, _, _, err = hasty.list(t.Context(), "default", "", time.Now(), 10)
	require.Equal(t, codes.Unavailable, status.Code(err), "not without the device that is new")
	state, err = hasty.at(t.Context(), "default", "d", ago.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, "one", state.GetDisplayName())

	answer := make(chan string, 1)
	go func() {
		state, err := past.at(t.Context(), "default", "d", time.Now())
		if err != nil {
			t.Error(err)
		}
		answer <- state.GetDisplayName()
	}()
	projecting.Unlock()
	require.Equal(t, "three", <-answer)
	status, d, _ := a.call(http.MethodGet, "/api/devices/new?at="+query(time.Now().Add(time.Hour)), "")
	require.Equal(t, http.StatusOK, status, "the future is now: %v", d)
}

// TestDevicesThatThereWere lists them at a time, in pages, of one tenant.
func TestDevicesThatThereWere(t *testing.T) {
	a := newAPI(t)
	a.projectEvents()
	ago := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i := range 7 {
		a.wrote("default", fmt.Sprint("d", i), ago.Add(time.Duration(i)*time.Minute), registered(fmt.Sprint("name", i)))
	}
	a.wrote("other", "d0", ago, registered("theirs"))
	a.wrote("default", "d2", ago.Add(10*time.Minute), deleted())
	a.wrote("default", "d3", ago.Add(20*time.Minute), registered("renamed"))
	list := func(at time.Time, more string) (names []string) {
		for next := "/api/devices?at=" + query(at) + more; next != ""; {
			status, page, _ := a.call(http.MethodGet, next, "")
			require.Equal(t, http.StatusOK, status, page)
			for _, d := range page["value"].([]any) {
				names = append(names, d.(map[string]any)["displayName"].(string))
			}
			next, _ = page["nextLink"].(string)
		}
		return names
	}
	// A past moment waits for nothing, and these events say they are old: the list of now
	// waits for them.
	require.Len(t, list(time.Now(), ""), 6)
	require.Empty(t, list(ago.Add(-time.Second), ""))
	require.Equal(t, []string{"name0"}, list(ago, ""))
	require.Equal(t, []string{"name0", "name1", "name2", "name3"}, list(ago.Add(3*time.Minute), "&maxpagesize=2"))
	require.Equal(t, []string{"name0", "name1", "name3", "name4", "name5", "name6"}, list(ago.Add(15*time.Minute), "&maxpagesize=3"))
	require.Equal(t, []string{"name0", "name1", "renamed", "name4", "name5", "name6"}, list(time.Now(), "&maxpagesize=1"))

	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/api/devices?at=2026-01-01T00:00:00Z&filter=id+eq+1":                         {400, "filter"},
		"/api/devices?at=2026-01-01T00:00:00Z&maxpagesize=101":                        {400, "1 to 100"},
		"/api/devices?at=yesterday":                                                   {400, "at"},
		"/api/devices/d0?at=1800-01-01T00:00:00Z":                                     {404, "did not exist yet"},
		"/api/devices/d2?at=" + query(ago.Add(11*time.Minute)):                        {404, "was deleted"},
		"/api/devices/d1/modules/m/properties?at=" + query(ago.Add(11*time.Minute)):   {404, "had no module"},
		"/api/devices/d1/components/a-b/properties?at=" + query(ago.Add(time.Minute)): {400, "component"},
		"/api/devices/none?at=2026-01-01T00:00:00Z":                                   {404, "did not exist yet"},
		"/api/devices/a%20b?at=2026-01-01T00:00:00Z":                                  {400, "device id"},
		"/api/devices/none/events":                                                    {404, "never existed"},
		"/api/devices/none/diff?from=2026-01-01T00:00:00Z":                            {404, "never existed"},
		"/api/devices/d0/diff":                                                        {400, "from"},
		"/api/devices/d0/events?kinds=nothing":                                        {400, "command_requested"},
		"/api/devices/d0/events?maxpagesize=101":                                      {400, "1 to 100"},
		"/api/devices/d0/events?pageToken=x":                                          {400, "pageToken"},
		"/api/devices/d0/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z":    {400, "not before"},
		"/api/devices/d0/commands/" + strings.Repeat("x", 300):                        {400, "at most 256"},
		"/api/devices/d0/commands/x?maxpagesize=-1":                                   {400, "maxpagesize"},
		"/api/devices/d0/components/a-b/commands/x":                                   {400, "component"},
	} {
		status, answer, _ := a.call(http.MethodGet, path, "")
		require.Equal(t, want.status, status, "%s: %v", path, answer)
		require.Contains(t, message(answer), want.says, path)
	}
}

// TestStatementsUseTheTablesOrder: none reads more than the device's rows.
func TestStatementsUseTheTablesOrder(t *testing.T) {
	a := newAPI(t)
	a.projectEvents()
	events, _, err := planEvents("default", &apiv1.ListDeviceEventsRequest{DeviceId: "d", Kinds: []string{"registered"}, PageToken: encodeToken(eventsToken{Offset: 7})})
	require.NoError(t, err)
	commands, err := planCommands("default", &apiv1.ListCommandsRequest{DeviceId: "d", CommandName: "reboot"})
	require.NoError(t, err)
	runs := plan{sql: eventsOfRuns, parameters: map[string]string{"tenant": "default", "devices": "['d']", "of": "['d']", "after": "[0]", "up_to": "[9]"}}
	checkpoints := plan{sql: nearestCheckpoints, parameters: map[string]string{"tenant": "default", "devices": "['d']", "bounds": "[9]"}}
	a.wrote("default", "d", time.Now(), registered("one"))
	require.NoError(t, a.db.Exec(t.Context(), "INSERT INTO device_state_history (tenant, device, event_offset) VALUES ('default', 'd', 1000)"))
	past := &deviceHistory{registry: a.devices, db: a.db, patience: 10 * time.Second}
	_, err = past.at(t.Context(), "default", "d", always)
	require.NoError(t, err)
	for _, p := range []plan{events, commands, runs, checkpoints} {
		var explained []string
		require.NoError(t, ask(t.Context(), a.db, "EXPLAIN indexes = 1 "+p.sql, p.parameters, func(rows driver.Rows) error {
			var line string
			err := rows.Scan(&line)
			explained = append(explained, strings.TrimSpace(line))
			return err
		}))
		text := strings.Join(explained, "\n")
		require.Contains(t, text, "PrimaryKey\nKeys:\ntenant\ndevice\n", p.sql)
	}
}

func TestParametersAreQuoted(t *testing.T) {
	a := newAPI(t)
	texts := []string{"", "a", `it's`, `back\slash`, "tab\tline\nend", "ä"}
	var got []string
	require.NoError(t, ask(t.Context(), a.db, "SELECT arrayJoin({texts:Array(String)})", map[string]string{"texts": textsParameter(texts)}, func(rows driver.Rows) error {
		var text string
		err := rows.Scan(&text)
		got = append(got, text)
		return err
	}))
	require.Equal(t, texts, got)
}

// principal is the administrator's context.
func principal(ctx context.Context) context.Context {
	return access.WithCaller(ctx, access.Principal{ID: "token:admin", Tenant: access.DefaultTenant}, access.WholeTenant(), access.WholeTenant())
}

// TestThePastNeedsNoTables wants an answer that says what is wrong before the first
// projection has begun.
func TestThePastNeedsNoTables(t *testing.T) {
	a := newAPI(t)
	s := &historyService{deviceHistory: &deviceHistory{registry: a.devices, db: a.db}}
	_, err := s.ListDeviceEvents(principal(t.Context()), &apiv1.ListDeviceEventsRequest{DeviceId: "d"})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Contains(t, status.Convert(err).Message(), "has not begun yet")
}
