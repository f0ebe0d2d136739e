package projections_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// insertFaults are those that any table must stand.
var insertFaults = []func(*faulty, http.ResponseWriter, *http.Request){lostAnswer, brokenBefore, unavailable, doneButFailed}

// everyThird has every third insert fail, each time in another way.
func (f *faulty) everyThird() {
	var n atomic.Int64
	f.set(func(f *faulty, w http.ResponseWriter, r *http.Request) {
		if at := n.Add(1); at%3 == 1 {
			insertFaults[at/3%int64(len(insertFaults))](f, w, r)
			return
		}
		f.forward.ServeHTTP(w, r)
	})
}

// throughFaults has the fleet live while a projection's inserts fail and it is
// stopped as hard as can be, twice, and leaves one that works.
func (f *fleet) throughFaults(construct constructor) *prometheus.Registry {
	f.t.Helper()
	return f.site.throughFaults(construct, f.live)
}

// throughFaults is the same for any topic: live has n things happen.
func (s *site) throughFaults(construct constructor, live func(n int)) *prometheus.Registry {
	s.t.Helper()
	proxy := s.faulty()
	for range 2 {
		proxy.everyThird()
		live(400)
		projection, stop := s.startOf(construct, s.connect(proxy.URL), projections.Options{BlockRows: 50})
		projection.SetGrace(0)
		tried := proxy.inserts.Load()
		require.Eventually(s.t, func() bool { return proxy.inserts.Load() > tried+4 }, patience, time.Millisecond)
		proxy.set(hangAfter)
		tried = proxy.inserts.Load()
		live(100)
		require.Eventually(s.t, func() bool { return proxy.inserts.Load() > tried }, patience, time.Millisecond)
		stop()
	}
	metrics := prometheus.NewRegistry()
	s.startOf(construct, s.conn, projections.Options{BlockRows: 50, Registerer: metrics})
	live(100)
	return metrics
}

// number is the only value of a query, -1 while there is none.
func (s *site) number(sql string) int64 {
	var n uint64
	if s.conn.QueryRow(s.t.Context(), sql).Scan(&n) != nil {
		return -1
	}
	return int64(n)
}

// TestEachDeviceEventIsOneRow: whatever fails, accepted or not.
func TestEachDeviceEventIsOneRow(t *testing.T) {
	eachSite(t, func(s *site) {
		f := newFleet(s)
		f.throughFaults(projections.NewDeviceEvents)
		require.Eventually(t, func() bool { return f.number("SELECT uniqExact(id) FROM device_events") >= int64(f.events) }, patience, 10*time.Millisecond)
		require.EqualValues(t, f.events, f.number("SELECT count() FROM device_events"), "none twice")
		rows, err := s.conn.Query(t.Context(), "SELECT device, kind, subject, id, at, principal, request_id, event, logged_at, partition, offset FROM device_events WHERE tenant = 'default' ORDER BY tenant, device, offset")
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var id, kind, subject, event, principal, request, of string
			var at, logged time.Time
			var partition int32
			var offset int64
			require.NoError(t, rows.Scan(&of, &kind, &subject, &id, &at, &principal, &request, &event, &logged, &partition, &offset))
			ev := new(eventsv1.DeviceEvent)
			require.NoError(t, proto.Unmarshal([]byte(event), ev))
			require.Equal(t, []any{ev.GetDevice(), ev.GetId(), "token:admin", "r"}, []any{of, id, principal, request})
			require.Equal(t, ev.GetTime().AsTime().Truncate(time.Microsecond), at.UTC())
			require.Equal(t, ev.GetCommandRequested() != nil, kind == "command_requested" && subject == "reboot", kind)
		}
		require.NoError(t, rows.Err())
	})
}

// TestDevicesAreTheirNewestStates: whatever fails, a device is one row, its newest.
func TestDevicesAreTheirNewestStates(t *testing.T) {
	eachSite(t, func(s *site) {
		f := newFleet(s)
		metrics := f.throughFaults(projections.NewDevices)
		f.wantCaughtUp(metrics, "fold", "project-devices")
		require.Zero(t, counter(t, metrics, "fleetlog_projection_deleted_records_total"), "the marks of transactions are no records")
		for id, state := range f.newest {
			var name, tags, properties string
			var version, revision uint64
			err := s.conn.QueryRow(t.Context(), "SELECT display_name, toJSONString(tags), toJSONString(properties), version, revision FROM devices FINAL WHERE tenant = 'default' AND device = ?", id).
				Scan(&name, &tags, &properties, &version, &revision)
			if !device.Exists(state) {
				require.Error(t, err, "%s is deleted", id)
				continue
			}
			require.NoError(t, err, id)
			require.Equal(t, []any{state.GetDisplayName(), state.GetVersion(), state.GetRevision()}, []any{name, version, revision})
			require.Contains(t, tags, `"huge":1.2345678901234568e`)
			p, err := device.PropertiesOf(state, "")
			require.NoError(t, err)
			require.Equal(t, len(p.Values()) == 0, properties == "{}", properties)
		}
	})
}

// TestCheckpointsAreStates: each is the fold of the events up to it, and no device
// is far from its last one.
func TestCheckpointsAreStates(t *testing.T) {
	eachSite(t, func(s *site) {
		f := newFleet(s)
		metrics := f.throughFaults(projections.NewDeviceStateHistory)
		f.wantCaughtUp(metrics, "fold", "project-device-state-history")
		require.EqualValues(t, f.number("SELECT uniqExact(device, event_offset) FROM device_state_history"), f.number("SELECT count() FROM device_state_history"), "none twice")
		rows, err := s.conn.Query(t.Context(), "SELECT device, revision, event_offset, state FROM device_state_history WHERE tenant = 'default' ORDER BY tenant, device, event_offset")
		require.NoError(t, err)
		defer rows.Close()
		last, n := map[string]uint64{}, map[string]int{}
		for rows.Next() {
			var id, encoded string
			var revision uint64
			var offset int64
			require.NoError(t, rows.Scan(&id, &revision, &offset, &encoded))
			state := new(eventsv1.DeviceState)
			require.NoError(t, proto.Unmarshal([]byte(encoded), state))
			want := f.states[id][offset]
			require.True(t, proto.Equal(want, state), "%s at %d", id, offset)
			require.Equal(t, want.GetRevision(), revision)
			if last[id] == 0 {
				require.EqualValues(t, 1, revision, "the first state is there")
			}
			require.LessOrEqual(t, revision, last[id]+16)
			last[id] = revision
			n[id]++
		}
		require.NoError(t, rows.Err())
		for id, state := range f.newest {
			require.LessOrEqual(t, state.GetRevision(), last[id]+16, id)
			require.LessOrEqual(t, n[id], int(state.GetRevision()/16)+1, id)
		}
	})
}

// wantCaughtUp waits until everything is folded and projected, to the last mark of
// a transaction.
func (f *fleet) wantCaughtUp(metrics *prometheus.Registry, fold, projection string) {
	f.t.Helper()
	done := func(group string, topic eventlog.Topic) bool {
		lags, err := f.log.Admin().Lag(f.t.Context(), f.log.Group(group))
		require.NoError(f.t, err)
		total := int64(0)
		for _, lag := range lags[f.log.Group(group)].Lag[f.log.Name(topic)] {
			total += max(0, lag.Lag)
		}
		return total == 0
	}
	require.Eventually(f.t, func() bool { return done(fold, eventlog.Devices) }, patience, 10*time.Millisecond)
	require.Eventually(f.t, func() bool { return done(projection, eventlog.DeviceState) }, patience, 10*time.Millisecond)
	families, err := metrics.Gather()
	require.NoError(f.t, err)
	for _, family := range families {
		if family.GetName() == "fleetlog_projection_lag_records" {
			for _, m := range family.GetMetric() {
				require.Zero(f.t, m.GetGauge().GetValue(), "%v", m.GetLabel())
			}
		}
	}
}

// TestUnreadableDeviceRecordsAreDeadLetters: each with its reason, one for each
// projection that cannot read it, and nothing is held up.
func TestUnreadableDeviceRecordsAreDeadLetters(t *testing.T) {
	eachSite(t, func(s *site) {
		f := newFleet(s)
		broken, err := proto.Marshal(&eventsv1.DeviceSnapshot{State: &eventsv1.DeviceState{
			Tenant: "default", Device: "d1", Version: 1, Revision: 1, Self: &eventsv1.Identity{Twin: &eventsv1.Twin{Desired: []byte("{")}},
		}})
		require.NoError(t, err)
		misplaced, err := proto.Marshal(f.anything())
		require.NoError(t, err)
		f.live(50)
		for topic, values := range map[eventlog.Topic][]string{eventlog.Devices: {"\xff\xff", string(misplaced)}, eventlog.DeviceState: {"\xff\xff", string(broken)}} {
			for _, value := range values {
				key := eventlog.Key("default", "d1")
				if value == string(misplaced) {
					key = eventlog.Key("default", "another")
				}
				f.appendRecord(&kgo.Record{Topic: s.log.Name(topic), Key: key, Value: []byte(value)})
			}
		}
		f.live(50)
		for _, construct := range []constructor{projections.NewDeviceEvents, projections.NewDevices, projections.NewDeviceStateHistory} {
			s.startOf(construct, s.conn, projections.Options{})
		}
		want := map[string][]string{
			"project-device-events":        {"record key", "value is not a DeviceEvent"},
			"project-devices":              {"properties of the state", "value is not a DeviceSnapshot"},
			"project-device-state-history": {"value is not a DeviceSnapshot"},
		}
		letters := func() map[string][]string {
			got := map[string][]string{}
			for p := range s.log.Partitions(eventlog.DeadLetter) {
				require.NoError(t, s.log.ReadPartition(t.Context(), eventlog.DeadLetter, p, func(r *kgo.Record) {
					stage := string(eventlog.Header(r, eventlog.HeaderDeadStage))
					got[stage] = append(got[stage], string(eventlog.Header(r, eventlog.HeaderDeadReason)))
				}))
			}
			return got
		}
		require.Eventually(t, func() bool {
			n := 0
			for _, reasons := range letters() {
				n += len(reasons)
			}
			return n >= 5
		}, patience, 20*time.Millisecond)
		got := letters()
		for stage, reasons := range want {
			require.Len(t, got[stage], len(reasons), "%s: %v", stage, got[stage])
			for _, reason := range reasons {
				require.Condition(t, func() bool {
					for _, text := range got[stage] {
						if len(text) >= len(reason) && text[:len(reason)] == reason {
							return true
						}
					}
					return false
				}, "%s: %s in %v", stage, reason, got[stage])
			}
		}
		require.Eventually(t, func() bool { return f.number("SELECT count() FROM device_events") >= 100 }, patience, 10*time.Millisecond)
	})
}
