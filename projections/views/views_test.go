package views_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/template"
	"github.com/fleetlog/fleetlog/projections/schema"
	"github.com/fleetlog/fleetlog/projections/views"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// node keeps views of a database of its own.
type node struct {
	t       *testing.T
	catalog *catalog.Catalog
	addr    string
	db      *clickhouse.Conn
}

func startNode(t *testing.T) node {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	addr, database := enginetest.ClickHouse(t)
	db, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, schema.Migrate(t.Context(), db))
	n := node{t: t, addr: addr, db: db}
	t.Cleanup(func() {
		for _, tenant := range []string{"a", "b", "default"} {
			// A statement of a node that has ended may still be on its way.
			require.Eventually(t, func() bool {
				return db.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE IF EXISTS "+n.own(tenant)+" SYNC") == nil
			}, 5*time.Second, time.Millisecond)
		}
	})
	n.catalog = n.run(log, quiet)
	n.run(log, quiet) // another node does the same at the same time
	return n
}

func (n node) run(log *eventlog.Log, logger *slog.Logger) *catalog.Catalog {
	c := catalog.New(log, logger, template.Kind())
	v := views.New(c, template.New(c, logger), n.db, slog.New(slog.NewTextHandler(n.t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	done := make(chan error, 2)
	go func() { done <- c.Run(ctx) }()
	go func() { done <- v.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		require.NoError(n.t, <-done)
		require.NoError(n.t, <-done)
	})
	require.Eventually(n.t, func() bool { return c.Ready() == nil }, 10*time.Second, time.Millisecond)
	return c
}

func (n node) own(tenant string) string { return clickhouse.TenantDatabase(n.db.Database(), tenant) }

func (n node) publish(tenant, id, displayName, contents string) {
	n.t.Helper()
	document := fmt.Appendf(nil, `{"@id":%q,"@type":["DeviceModel"],"displayName":%q,"capabilityModel":{"@context":["dtmi:dtdl:context;2","dtmi:iotcentral:context;2"],"@id":%q,"@type":"Interface","contents":%s}}`,
		id, displayName, strings.Replace(id, ";", ":model;", 1), contents)
	_, err := template.Parse(document)
	require.NoError(n.t, err)
	n.change(tenant, id, &eventsv1.CatalogEvent{Change: &eventsv1.CatalogEvent_DeviceTemplate{
		DeviceTemplate: &eventsv1.DeviceTemplate{Published: document, PublishedAt: timestamppb.Now()},
	}})
}

func (n node) change(tenant, id string, ev *eventsv1.CatalogEvent) {
	n.t.Helper()
	ev.Id, ev.Tenant, ev.Kind, ev.Resource, ev.Time = eventlog.NewID(), tenant, template.KindName, id, timestamppb.Now()
	_, err := n.catalog.Change(n.t.Context(), ev)
	require.NoError(n.t, err)
}

// ask runs a statement as the tenant's analyst, or as the node when tenant is empty,
// and gives rows as lines.
func (n node) ask(tenant, statement string) string {
	values := url.Values{}
	if tenant != "" {
		values = url.Values{"role": {"fleetlog_analyst"}, "database": {n.own(tenant)}, "readonly": {"1"}, "log_comment": {clickhouse.TenantComment(n.own(tenant)) + "test"}}
	}
	response, err := http.Post("http://"+n.addr+"/?"+values.Encode(), "", strings.NewReader(statement))
	require.NoError(n.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(n.t, err)
	return strings.TrimSuffix(string(answer), "\n")
}

// soon waits until a statement's answer is as wanted.
func (n node) soon(tenant, statement, want string) {
	n.t.Helper()
	got := ""
	if !assertSoon(func() bool { got = n.ask(tenant, statement); return got == want }) {
		require.Equal(n.t, want, got, statement)
	}
}

func assertSoon(is func() bool) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if is() {
			return true
		}
	}
	return false
}

func (n node) device(tenant, id, template, properties string) {
	n.t.Helper()
	require.NoError(n.t, n.db.Exec(n.t.Context(), "INSERT INTO devices (tenant, device, template, properties, revision) SELECT ?, ?, ?, ?, 1", tenant, id, template, properties))
}

func (n node) send(tenant, device, module, component, body string) {
	n.t.Helper()
	require.NoError(n.t, n.db.Exec(n.t.Context(), `INSERT INTO telemetry (tenant, device, module, component, ts, body) SELECT ?, ?, ?, ?, now64(3), ?
		SETTINGS input_format_try_infer_dates = 0, input_format_try_infer_datetimes = 0`, tenant, device, module, component, body))
}

const thermostat = "dtmi:contoso:Thermostat"

func TestViewsFollowTemplates(t *testing.T) {
	n := startNode(t)
	const temperature = `{"@type":["Telemetry","Temperature"],"name":"temperature","displayName":"Room temperature","description":"Air, it's measured","schema":"double","unit":"degreeCelsius"}`
	n.publish("a", thermostat+";1", "Thermostat", "["+temperature+"]")
	n.device("a", "one", thermostat+";1", `{}`)
	n.device("a", "two", thermostat+";2", `{}`)
	n.device("a", "other", "dtmi:contoso:Other;1", `{}`)
	n.device("b", "one", thermostat+";1", `{}`)
	for _, device := range []string{"one", "two", "other"} {
		n.send("a", device, "", "", `{"temperature":21.5,"humidity":40}`)
	}
	n.send("b", "one", "", "", `{"temperature":99}`)
	n.soon("a", "SELECT device, temperature FROM thermostat ORDER BY device", "one\t21.5\ntwo\t21.5")
	n.soon("a", "SELECT device, temperature FROM thermostat_v1", "one\t21.5")
	require.Equal(t, `temperature	Nullable(Float64)			Room temperature, in degreeCelsius: Air, it\'s measured`, strings.TrimSpace(lastLine(n.ask("a", "DESCRIBE TABLE thermostat"))))

	n.publish("a", thermostat+";2", "Thermostat", `[`+temperature+`,{"@type":"Telemetry","name":"humidity","schema":"integer"}]`)
	n.soon("a", "SELECT device, humidity FROM thermostat ORDER BY device", "one\t40\ntwo\t40")
	n.soon("a", "SELECT device, humidity FROM thermostat_v2", "two\t40")
	parts := n.ask("", "SELECT name FROM system.parts WHERE database = '"+n.db.Database()+"' ORDER BY name")
	n.publish("a", thermostat+";2", "Heater", `[{"@type":"Telemetry","name":"humidity","schema":"double"}]`)
	n.soon("a", "SELECT toTypeName(any(humidity)) FROM thermostat", "Nullable(Float64)")
	require.Equal(t, "1", n.ask("", "EXISTS "+n.own("a")+".thermostat_v2"), "a template that is called otherwise keeps its views' names")
	require.Equal(t, "0", n.ask("", "EXISTS "+n.own("a")+".heater"))
	require.Equal(t, parts, n.ask("", "SELECT name FROM system.parts WHERE database = '"+n.db.Database()+"' ORDER BY name"), "no data is rewritten")

	n.publish("a", "dtmi:other:Thermostat;1", "Thermostat!", `[]`)
	n.soon("a", "SELECT countIf(match(name, '^thermostat_[0-9a-f]{6}$')) FROM system.tables", "1")
	n.publish("a", "dtmi:other:Devices;1", "Devices", `[]`)
	n.soon("a", "SELECT countIf(match(name, '^devices_[0-9a-f]{6}$')) FROM system.tables", "1")
	require.Equal(t, "0", n.ask("", "EXISTS "+n.own("b")+".thermostat"), "templates are a tenant's own")

	for _, version := range []string{";1", ";2"} {
		n.change("a", thermostat+version, &eventsv1.CatalogEvent{Change: &eventsv1.CatalogEvent_Deleted{Deleted: &eventsv1.CatalogDeleted{}}})
	}
	n.soon("a", "SELECT count() FROM system.tables WHERE name IN ('thermostat', 'thermostat_v1', 'thermostat_v2', 'thermostat_devices')", "0")
	require.Equal(t, "3", n.ask("a", "SELECT count() FROM telemetry"))
}

func lastLine(text string) string {
	lines := strings.Split(text, "\n")
	return lines[len(lines)-1]
}

func TestValuesAreTypedOrNull(t *testing.T) {
	n := startNode(t)
	n.publish("a", "dtmi:contoso:All;1", "All", allKinds)
	n.device("a", "d", "dtmi:contoso:All;1", `{"interval":5,"home":{"lat":1,"lon":2},"thermo":{"__t":"c","target":20.5}}`)
	n.soon("a", "EXISTS all_v1", "1")
	const full = `{"double":1,"float":0.1,"integer":7,"long":9007199254740993,"boolean":true,"string":"2026-01-02","date":"2026-01-02","dateTime":"2026-01-02T03:04:05.678Z",
		"time":"03:04:05","duration":"PT1H","state":2,"level":"h","object":{"x":1.5,"inner":{"s":"t"}},"numbers":[1,2.5,"x",null],"objects":[{"x":1},{"x":"no"}],"nested":[[1],[2,3]],
		"map":{"k":1,"l":"x"},"place":{"lat":1.25,"lon":2,"alt":3},"vector":{"x":1,"y":2,"z":3},"point":{"type":"Point","coordinates":[2,1]},"line":{"type":"LineString","coordinates":[[1,2],[3,4]]}}`
	for _, test := range []struct{ name, body, want string }{
		{"all", full, `{"double":1,"float":0.1,"integer":7,"long":9007199254740993,"boolean":true,"string":"2026-01-02","date":"2026-01-02","dateTime":"2026-01-02 03:04:05.678000",
			"time":"03:04:05","duration":"PT1H","state":"on","level":"high","object":{"x":1.5,"inner":{"s":"t"}},"numbers":[1,2.5,null,null],"objects":[{"x":1},{"x":null}],"nested":[[1],[2,3]],
			"map":{"k":1,"l":null},"place":{"lat":1.25,"lon":2,"alt":3},"vector":{"x":1,"y":2,"z":3},"point":{"lat":1,"lon":2,"alt":null},"line":"{\"coordinates\":[[1,2],[3,4]],\"type\":\"LineString\"}"}`},
		{"nothing", `{}`, nothing},
		{"other kinds", `{"double":"1","float":true,"integer":3.5,"long":"7","boolean":1,"string":5,"date":"2026-02-30","dateTime":"2026","time":"noon","duration":"an hour","state":9,"level":"x",
			"object":5,"numbers":"x","objects":{"x":1},"nested":7,"map":[1],"place":"here","vector":[1,2,3],"point":[1,2],"line":"x"}`, nothing},
		{"other kinds of these", `{"double":[1],"float":{"a":1},"integer":99999999999,"long":1e300,"boolean":"true","string":["x"],"date":20260102,"dateTime":"2026-01-02 03:04","time":3,"duration":"P","state":"on","level":1,
			"numbers":{"a":1},"map":"x"}`, strings.Replace(nothing, `"duration":null`, `"duration":"P"`, 1)},
		{"whole numbers", `{"integer":3.0,"long":4.0,"state":1.0,"double":18446744073709551615}`,
			strings.NewReplacer(`"integer":null`, `"integer":3`, `"long":null`, `"long":4`, `"state":null`, `"state":"off"`, `"double":null`, `"double":18446744073709552000`).Replace(nothing)},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.NoError(t, n.db.Exec(t.Context(), "TRUNCATE TABLE telemetry"))
			n.send("a", "d", "", "", test.body)
			got := n.ask("a", `SELECT * EXCEPT (device, module, component, ts, body, properties, id, enqueued_at, thermo_x, thermo_deep, camera_x) FROM all_v1 FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0`)
			require.JSONEq(t, test.want, got)
			require.JSONEq(t, test.body, n.ask("a", "SELECT toJSONString(body) FROM all_v1 FORMAT TSVRaw"), "what was sent stays reachable")
		})
	}
	require.NoError(t, n.db.Exec(t.Context(), "TRUNCATE TABLE telemetry"))
	n.send("a", "d", "", "", `{"double":null,"object":null,"numbers":null,"map":null,"point":null}`)
	require.Equal(t, "\\N\t(NULL,(NULL))\t[]\t{}", n.ask("a", "SELECT double, object, numbers, map FROM all_v1"))
	require.NoError(t, n.db.Exec(t.Context(), "TRUNCATE TABLE telemetry"))
	n.send("a", "d", "", "thermo", `{"x":1,"deep":{"y":2},"double":3}`)
	n.send("a", "d", "camera", "", `{"x":4}`)
	n.send("a", "d", "", "", `{"x":5}`)
	require.Equal(t, "1\t(2)\t\\N\t\\N\n\\N\t(NULL)\t4\t\\N\n\\N\t(NULL)\t\\N\t\\N", n.ask("a", "SELECT thermo_x, thermo_deep, camera_x, double FROM `all` ORDER BY component DESC, module DESC"))
	require.Equal(t, "d\t5\t20.5\t(1,2,NULL)", n.ask("a", "SELECT device, `interval`, thermo_target, home FROM all_devices"))
}

const nothing = `{"double":null,"float":null,"integer":null,"long":null,"boolean":null,"string":null,"date":null,"dateTime":null,"time":null,"duration":null,"state":null,"level":null,
	"object":{"x":null,"inner":{"s":null}},"numbers":[],"objects":[],"nested":[],"map":{},"place":{"lat":null,"lon":null,"alt":null},"vector":{"x":null,"y":null,"z":null},
	"point":{"lat":null,"lon":null,"alt":null},"line":null}`

const allKinds = `[
	{"@type":"Telemetry","name":"double","schema":"double"},{"@type":"Telemetry","name":"float","schema":"float"},{"@type":"Telemetry","name":"integer","schema":"integer"},
	{"@type":"Telemetry","name":"long","schema":"long"},{"@type":"Telemetry","name":"boolean","schema":"boolean"},{"@type":"Telemetry","name":"string","schema":"string"},
	{"@type":"Telemetry","name":"date","schema":"date"},{"@type":"Telemetry","name":"dateTime","schema":"dateTime"},{"@type":"Telemetry","name":"time","schema":"time"},
	{"@type":"Telemetry","name":"duration","schema":"duration"},
	{"@type":"Telemetry","name":"state","schema":{"@type":"Enum","valueSchema":"integer","enumValues":[{"name":"off","enumValue":1},{"name":"on","enumValue":2}]}},
	{"@type":"Telemetry","name":"level","schema":{"@type":"Enum","valueSchema":"string","enumValues":[{"name":"low","enumValue":"l"},{"name":"high","enumValue":"h"}]}},
	{"@type":"Telemetry","name":"object","schema":{"@type":"Object","fields":[{"name":"x","schema":"double"},{"name":"inner","schema":{"@type":"Object","fields":[{"name":"s","schema":"string"}]}}]}},
	{"@type":"Telemetry","name":"numbers","schema":{"@type":"Array","elementSchema":"double"}},
	{"@type":"Telemetry","name":"objects","schema":{"@type":"Array","elementSchema":{"@type":"Object","fields":[{"name":"x","schema":"integer"}]}}},
	{"@type":"Telemetry","name":"nested","schema":{"@type":"Array","elementSchema":{"@type":"Array","elementSchema":"long"}}},
	{"@type":"Telemetry","name":"map","schema":{"@type":"Map","mapKey":{"name":"k","schema":"string"},"mapValue":{"name":"v","schema":"integer"}}},
	{"@type":["Telemetry","Location"],"name":"place","schema":"geopoint"},{"@type":"Telemetry","name":"vector","schema":"vector"},
	{"@type":"Telemetry","name":"point","schema":"point"},{"@type":"Telemetry","name":"line","schema":"lineString"},
	{"@type":"Property","name":"interval","schema":"integer"},{"@type":["Property","Location"],"name":"home","schema":"geopoint"},
	{"@type":"Component","name":"thermo","schema":{"@id":"dtmi:contoso:Thermo;1","@type":"Interface","contents":[{"@type":"Telemetry","name":"x","schema":"integer"},
		{"@type":"Telemetry","name":"deep","schema":{"@type":"Object","fields":[{"name":"y","schema":"long"}]}},{"@type":"Property","name":"target","schema":"double"}]}},
	{"@type":["Relationship","EdgeModule"],"name":"camera","target":[{"@id":"dtmi:contoso:Camera;1","@type":"Interface","contents":[{"@type":"Telemetry","name":"x","schema":"integer"}]}]}]`

// A template's author chooses names of columns; none of them may take a guard's place.
func TestNamesOfATemplateDoNotBreakItsGuard(t *testing.T) {
	n := startNode(t)
	var contents []string
	for _, name := range []string{"tenant", "device", "component", "module", "ts", "body", "properties", "template", "getSetting", "t", "row", "log_comment", "startsWith", "file", "deleted", "stack_trace", "dialect", "disk", "eval", "system", "select", "FROM", "e0"} {
		contents = append(contents, fmt.Sprintf(`{"@type":"Telemetry","name":%q,"schema":"string"}`, name))
	}
	n.publish("a", "dtmi:contoso:Bad;1", "Bad'); DROP VIEW `x`", "["+strings.Join(contents, ",")+"]")
	for _, tenant := range []string{"a", "b"} {
		n.device(tenant, "d", "dtmi:contoso:Bad;1", `{}`)
		n.send(tenant, "d", "", "", `{"tenant":"a","device":"d","template":"dtmi:contoso:Bad;1","value":"`+tenant+`"}`)
	}
	n.soon("a", "SELECT count(), any(b.tenant), any(b.device_), any(toString(b.body.value)) FROM bad_drop_view_x AS b", "1\ta\td\ta")
}

func TestEveryTenantHasItsViews(t *testing.T) {
	n := startNode(t)
	exec := func(statement string) { require.NoError(t, n.db.Exec(t.Context(), statement)) }
	n.soon("default", "SELECT count() FROM system.tables", "7")
	for i, value := range []string{"1", "4"} { // two parts of one minute, as inserts leave them
		exec(fmt.Sprintf(`INSERT INTO telemetry_1m SELECT 'default', 'temperature', 'd', '', '', toDateTime64('2026-01-02 03:04:00', 0, 'UTC'), 1, 1, %[1]s, %[1]s, %[1]s,
			(toDateTime64('2026-01-02 03:04:0%[2]d', 3, 'UTC'), %[2]d, %[1]s), (toDateTime64('2026-01-02 03:04:0%[2]d', 3, 'UTC'), %[2]d, %[1]s)`, value, i))
		exec(fmt.Sprintf(`INSERT INTO telemetry_latest SELECT 'default', 'temperature', 'd', '', '', (toDateTime64('2026-01-02 03:04:0%[2]d', 3, 'UTC'), %[2]d, %[1]s, 'number', '%[1]s')`, value, i))
		exec(fmt.Sprintf(`INSERT INTO devices (tenant, device, display_name, revision) SELECT 'default', 'd', 'called %[1]s', %[1]s`, value))
	}
	exec("INSERT INTO devices (tenant, device, revision, deleted) SELECT 'default', 'gone', 1, 1")
	exec("INSERT INTO device_events (tenant, device, kind, event) SELECT 'default', 'd', 'registered', 'a secret'")
	for statement, want := range map[string]string{
		"SELECT count, avg, sum, min, max, first, last FROM telemetry_1m WHERE path = 'temperature' AND device = 'd' AND ts >= '2026-01-02 03:04:00'": "2\t2.5\t5\t1\t4\t1\t4",
		"SELECT ts, kind, number, value FROM telemetry_latest WHERE device = 'd'":                                                                     "2026-01-02 03:04:01.000\tnumber\t4\t4",
		"SELECT device, display_name FROM devices":                                                                                                    "d\tcalled 4",
		"SELECT device, kind FROM device_events":                                                                                                      "d\tregistered",
		"SELECT countIf(name IN ('event', 'tenant', 'offset')) FROM system.columns":                                                                   "0",
		"SELECT count() FROM telemetry_1m WHERE device = 'other'":                                                                                     "0",
	} {
		require.Equal(t, want, n.ask("default", statement), statement)
	}
	require.NotContains(t, n.ask("default", "SELECT * FROM device_events"), "secret")
	require.Contains(t, n.ask("default", "EXPLAIN indexes = 1 SELECT max FROM telemetry_1m WHERE path = 'x' AND device = 'd' FORMAT TSVRaw"), "(path in ['x', 'x'])", "conditions reach the table's key")
}

func TestNamesAreOfOneTenant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zA-Z0-9_ü-]{1,70}`)
		database, other, a, b := text.Draw(t, "database"), text.Draw(t, "other"), text.Draw(t, "a"), text.Draw(t, "b")
		name := clickhouse.TenantDatabase(database, a)
		require.Regexp(t, `^tenant_[a-z0-9_]{1,160}$`, name)
		if a != b || database != other {
			require.NotEqual(t, name, clickhouse.TenantDatabase(other, b))
		}
	})
	require.Equal(t, "tenant_acme", clickhouse.TenantDatabase("fleetlog", "acme"))
	require.NotEqual(t, clickhouse.TenantDatabase("b", "a"), clickhouse.TenantDatabase("fleetlog", "a__b"))
}
