package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// past is a platform on engines that outlive it, and what its API answered at times.
type past struct {
	*process
	broker     enginetest.Log
	log        *eventlog.Log
	engine     string // ClickHouse
	database   string
	recordings []recording
}

// recording is what the API answered at a time.
type recording struct {
	at      time.Time
	answers map[string]answered // by path
}

type answered struct {
	status int
	body   string
}

func startPast(t *testing.T, broker enginetest.Log) *past {
	t.Helper()
	p := &past{broker: broker}
	p.engine, p.database = enginetest.ClickHouse(t)
	var err error
	p.log, err = eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Partitions: 2, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(p.log.Close)
	p.start(t)
	return p
}

func (p *past) start(t *testing.T) {
	t.Helper()
	p.process = startProcess(t, t.TempDir(), "--kafka", p.broker.Addr, "--topic-prefix", p.broker.TopicPrefix, "--clickhouse", "http://"+p.engine, "--database", p.database)
}

// do runs a statement on ClickHouse.
func (p *past) do(statement string) {
	p.t.Helper()
	resp, err := http.Post("http://"+p.engine+"/?database="+p.database, "", strings.NewReader(statement))
	require.NoError(p.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, resp.StatusCode, "%s: %s", statement, text)
}

// happens writes down what a device or module did, as a gateway would.
func (p *past) happens(id, module string, ev *eventsv1.DeviceEvent) string {
	p.t.Helper()
	ev.Id, ev.Tenant, ev.Device, ev.Module, ev.Time = eventlog.NewID(), "default", id, module, timestamppb.Now()
	value, err := proto.Marshal(ev)
	require.NoError(p.t, err)
	require.NoError(p.t, p.log.AppendSync(p.t.Context(), eventlog.CloudEvent(p.log.Name(eventlog.Devices), ev.GetId(), "/test", eventlog.TypeDeviceEvent,
		ev.GetTime().AsTime(), eventlog.ContentTypeProtobuf, eventlog.Key("default", id), value)))
	return ev.GetId()
}

// answer is what the API says under a path, without what every answer has anew.
func (p *past) answer(path string) answered {
	p.t.Helper()
	status, body, _ := p.call(http.MethodGet, path, nil)
	if status != http.StatusOK {
		return answered{status: status}
	}
	return answered{status, string(body)}
}

// record notes what the API says now.
func (p *past) record(paths ...string) {
	p.t.Helper()
	r := recording{answers: map[string]answered{}}
	for _, path := range paths {
		r.answers[path] = p.answer(path)
	}
	r.at = time.Now()
	p.recordings = append(p.recordings, r)
}

func at(path string, t time.Time) string {
	return path + "?at=" + url.QueryEscape(t.UTC().Format(time.RFC3339Nano))
}

// wantPast wants the API to say of each recorded time what it said then.
func (p *past) wantPast(recordings []recording) {
	p.t.Helper()
	for i, r := range recordings {
		for path, then := range r.answers {
			require.Equal(p.t, then, p.answer(at(path, r.at)), "%s at step %d", path, i)
		}
	}
}

// events are all events of the device, read in pages.
func (p *past) events(id, query string) (all []map[string]any) {
	p.t.Helper()
	next := "/api/devices/" + id + "/events?" + query
	for pages := 0; next != ""; pages++ {
		require.Less(p.t, pages, 100)
		page := p.ok(http.MethodGet, next, nil)
		for _, event := range page["value"].([]any) {
			all = append(all, event.(map[string]any))
		}
		next, _ = page["nextLink"].(string)
		next = strings.TrimPrefix(next, p.at.API)
	}
	return all
}

var (
	connected = func(id string) *eventsv1.DeviceEvent {
		return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: id, Node: "n", Protocol: "mqtt"}}}
	}
	reported = func(patch string) *eventsv1.DeviceEvent {
		return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: []byte(patch)}}}
	}
)

// TestTheStateAtAnyTimeIsWhatWasAnsweredThen lets a device live, be deleted and come
// back, and asks for every step of it: at once, later, without checkpoints, and after
// a rebuild from the log.
func TestTheStateAtAnyTimeIsWhatWasAnsweredThen(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		p := startPast(t, broker)
		p.live()
		p.wantPast(p.recordings)
		_, answer, _ := p.call(http.MethodGet, at("/api/devices/d", p.recordings[0].at), nil)
		require.Contains(t, string(answer), "did not exist yet")

		before := p.events("d", "maxpagesize=7")
		p.wantEvents(before)
		p.do("TRUNCATE TABLE device_state_history")
		p.wantPast(p.recordings)
		require.Equal(t, before, p.events("d", "maxpagesize=100"), "without checkpoints")

		p.terminate()
		for _, group := range []string{"project-device-events", "project-devices", "project-device-state-history"} {
			_, err := p.log.Admin().DeleteGroup(t.Context(), p.log.Group(group))
			require.NoError(t, err)
		}
		for _, table := range []string{"device_events", "devices", "device_state_history", "schema_migrations"} {
			p.do("DROP TABLE " + table + " SYNC")
		}
		p.start(t)
		p.wantPast(p.recordings)
		require.Equal(t, before, p.events("d", "maxpagesize=9"), "after a rebuild from the log")
	})
}

// live is the life of the device d, with its modules m1 and m2, beside another one.
func (p *past) live() {
	paths := []string{"/api/devices/d", "/api/devices/d/properties", "/api/devices/d/components/c/properties", "/api/devices/d/modules/m1/properties", "/api/devices/d/modules/m2/components/lens/properties", "/api/devices"}
	device := func(method, below, body string) func() {
		return func() { p.call(method, "/api/devices/d"+below, body) } // some are refused
	}
	does := func(module string, ev func(string) *eventsv1.DeviceEvent, text string) func() {
		return func() { p.happens("d", module, ev(text)) }
	}
	steps := []func(){
		func() {},
		func() { p.call(http.MethodPut, "/api/devices/other", "{}") },
		device("PUT", "", `{"displayName":"one"}`),
		device("PATCH", "/properties", `{"target":20,"name":"x"}`),
		device("PUT", "/modules/m1", ""),
		device("PATCH", "/modules/m1/properties", `{"fps":5}`),
		does("", connected, "c1"),
		does("", reported, `{"target":{"value":20,"ac":200,"av":1},"serial":"s-1","c":{"__t":"c","max":40}}`),
		device("PATCH", "/components/c/properties", `{"max":45}`),
		device("PATCH", "", `{"displayName":"two","enabled":false}`),
		device("PATCH", "", `{"displayName":"never","etag":"\"v1\""}`),
		device("PUT", "/modules/m2", ""),
		device("PATCH", "/modules/m2/components/lens/properties", `{"zoom":2}`),
		does("m2", reported, `{"lens":{"__t":"c","zoom":{"value":2,"ac":400,"av":1}}}`),
		device("DELETE", "/modules/m1", ""),
		device("PATCH", "", `{"enabled":true}`),
		device("PUT", "/properties", `{"target":21}`),
		device("PUT", "/attestation", `{"type":"symmetricKey","symmetricKey":{"primaryKey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","secondaryKey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`),
		device("POST", "/c2d", `{"payload":"hello"}`),
		device("DELETE", "/c2d", ""),
		device("DELETE", "", ""),
		device("PATCH", "", `{"displayName":"nobody"}`),
		device("PUT", "", `{"displayName":"back"}`),
		device("PATCH", "/properties", `{"target":1}`),
		device("PUT", "/modules/m1", ""),
		does("m1", reported, `{"fps":4}`),
		does("", connected, "c2"),
		does("", reported, `{"serial":"s-2"}`),
	}
	for i := range 8 {
		steps = append(steps, device("PATCH", "/properties", fmt.Sprintf(`{"target":%d}`, 100+i)))
	}
	for i, step := range steps {
		step()
		p.settle("d")
		p.record(paths...)
		if i%4 == 3 { // at once, which waits for the projection
			p.wantPast(p.recordings[i:])
		}
	}
}

// settle waits until this node knows what the fold made of all that happened.
func (p *past) settle(id string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		lags, err := p.log.Admin().Lag(p.t.Context(), p.log.Group("process-device-state"))
		require.NoError(p.t, err)
		for _, group := range lags {
			return group.Lag.Total() == 0
		}
		return false
	}, 20*time.Second, 5*time.Millisecond)
	// The node has taken in what was decided when a change behind it has come back.
	p.call(http.MethodPut, "/api/devices/"+id+"-echo", "{}")
}

// wantEvents wants the device's events to be a chain, newest first, that tells what
// happened and no secret.
func (p *past) wantEvents(events []map[string]any) {
	p.t.Helper()
	kinds := map[string]int{}
	for i, event := range events {
		kinds[event["kind"].(string)]++
		if i > 0 {
			require.Equal(p.t, events[i-1]["before"], event["after"], "%v", event)
		}
		if event["accepted"] == false {
			require.NotEmpty(p.t, event["rejection"].(map[string]any)["message"])
			require.Empty(p.t, event["changes"])
			require.Equal(p.t, event["before"], event["after"])
		}
		text, err := json.Marshal(event)
		require.NoError(p.t, err)
		require.NotContains(p.t, string(text), "AAAAAAAA")
	}
	require.Equal(p.t, 2, kinds["registered"])
	require.Equal(p.t, "0", events[len(events)-1]["before"].(map[string]any)["version"])
	newest := events[0]
	require.Equal(p.t, "properties_desired", newest["kind"])
	require.Equal(p.t, "token:admin", newest["principal"])
	require.NotEmpty(p.t, newest["requestId"])
	require.Contains(p.t, newest["changes"], map[string]any{"path": "/desired/target", "before": 106.0, "after": 107.0, "secret": false})
	require.Equal(p.t, map[string]any{"patch": map[string]any{"target": 107.0}}, newest["intent"])

	oldest := p.events("d", "oldestFirst=true&maxpagesize=11")
	slices.Reverse(oldest)
	require.Equal(p.t, events, oldest)
	some := slices.DeleteFunc(slices.Clone(events), func(e map[string]any) bool { return e["kind"] != "registered" && e["kind"] != "updated" })
	require.Equal(p.t, some, p.events("d", "kinds=registered&kinds=updated&maxpagesize=2"))
	secret := p.events("d", "kinds=attestation_set")
	require.Equal(p.t, []any{map[string]any{"path": "/attestation", "secret": true}}, secret[0]["changes"])
	first, last := p.recordings[2].at, p.recordings[len(p.recordings)-1].at
	span := func(from, to time.Time) string {
		return "from=" + url.QueryEscape(from.UTC().Format(time.RFC3339Nano)) + "&to=" + url.QueryEscape(to.UTC().Format(time.RFC3339Nano))
	}
	require.Len(p.t, p.events("d", span(first, last)), len(events)-1, "the registration is before")
	diff := p.ok(http.MethodGet, "/api/devices/d/diff?"+span(first, p.recordings[3].at), nil)
	require.Equal(p.t, []any{
		map[string]any{"path": "/desired/name", "after": "x", "secret": false}, map[string]any{"path": "/desired/target", "after": 20.0, "secret": false},
		map[string]any{"path": "/desiredVersion", "after": 1.0, "secret": false},
	}, diff["changes"])
	require.Equal(p.t, map[string]any{"exists": true, "version": "1", "revision": "2"}, diff["to"])
	require.Empty(p.t, p.ok(http.MethodGet, "/api/devices/d/diff?"+span(last, last), nil)["changes"])
}

// TestManyWritersHaveOnePast has writers race on a device and reads what it was
// between their changes: what each of them was answered.
func TestManyWritersHaveOnePast(t *testing.T) {
	p := startPast(t, enginetest.EmbeddedLog(t))
	p.ok(http.MethodPut, "/api/devices/d", map[string]any{})
	var writing sync.WaitGroup
	var mu sync.Mutex
	names := map[string]bool{}
	for w := range 6 {
		writing.Go(func() {
			for i := range 8 {
				name := fmt.Sprintf("%d-%d", w, i)
				if status, _, _ := p.call(http.MethodPatch, "/api/devices/d", fmt.Sprintf(`{"displayName":%q}`, name)); status == http.StatusOK {
					mu.Lock()
					names[name] = true
					mu.Unlock()
				}
			}
		})
	}
	writing.Wait()
	events := p.events("d", "oldestFirst=true&kinds=updated")
	require.Len(t, events, len(names))
	for i, event := range events {
		require.Equal(t, fmt.Sprint(i+2), event["after"].(map[string]any)["version"])
		name := event["intent"].(map[string]any)["displayName"].(string)
		require.True(t, names[name])
		delete(names, name)
	}
}

// TestCommandsOfADeviceAreListed: what it was asked, newest first, with what it
// answered in time.
func TestCommandsOfADeviceAreListed(t *testing.T) {
	p := startPast(t, enginetest.EmbeddedLog(t))
	p.ok(http.MethodPut, "/api/devices/d", map[string]any{})
	ask := func(method, payload string, deadline time.Duration) string {
		return p.happens("d", "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_CommandRequested{CommandRequested: &eventsv1.CommandRequested{
			Method: method, Payload: []byte(payload), ConnectBy: timestamppb.Now(), Deadline: timestamppb.New(time.Now().Add(deadline)),
		}}})
	}
	answers := func(id string, status int32, payload string) {
		p.happens("d", "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_CommandAnswered{CommandAnswered: &eventsv1.CommandAnswered{Command: id, Status: status, Payload: []byte(payload)}}})
	}
	one := ask("reboot", `{"delay":3}`, time.Minute)
	answers(one, 200, `"done"`)
	answers(one, 500, `"again"`)
	late := ask("reboot", "", -time.Second)
	answers(late, 200, "")
	ask("c*reboot", "1", time.Minute)
	offline := p.happens("d", "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{
		Body: []byte("sample string"), Expires: timestamppb.New(time.Now().Add(time.Hour)), Properties: []*eventsv1.MessageProperty{{Key: "method-name", Value: proto.String("reboot")}},
	}}})
	for range 48 {
		ask("other", "", time.Hour)
	}
	for range 3 { // 49 wait already, of 50 that may
		ask("reboot", "", time.Hour)
	}
	p.settle("d")
	list := func(path string) (all []any) {
		for next := path; next != ""; {
			page := p.ok(http.MethodGet, next, nil)
			all = append(all, page["value"].([]any)...)
			next, _ = page["nextLink"].(string)
			next = strings.TrimPrefix(next, p.at.API)
		}
		return all
	}
	asked := list("/api/devices/d/commands/reboot?maxpagesize=2")
	require.Equal(t, []any{
		map[string]any{"id": offline, "request": "sample string"},
		map[string]any{"id": late},
		map[string]any{"id": one, "request": map[string]any{"delay": 3.0}, "response": "done", "responseCode": 200.0},
	}, asked[len(asked)-3:])
	require.Len(t, asked, 4, "two were refused")
	require.Len(t, list("/api/devices/d/components/c/commands/reboot"), 1)
	require.Len(t, list("/api/devices/d/commands/other?maxpagesize=20"), 48)
	require.Empty(t, list("/api/devices/d/commands/never"))
	status, _, _ := p.call(http.MethodGet, "/api/devices/none/commands/reboot", nil)
	require.Equal(t, http.StatusNotFound, status)
}
