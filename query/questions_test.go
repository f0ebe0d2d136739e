package query

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
)

// machines is a template with telemetry and properties, some in a component.
const machines = `{"@id":"dtmi:x:y;1","@type":["ModelDefinition","DeviceModel"],"displayName":"Machine","@context":["dtmi:iotcentral:context;2","dtmi:dtdl:context;2"],
	"capabilityModel":{"@id":"dtmi:x:machine;1","@type":"Interface","displayName":"Machine","contents":[
		{"@type":"Telemetry","name":"temperature","schema":"double"},{"@type":"Telemetry","name":"pressure","schema":"integer"},{"@type":"Telemetry","name":"on","schema":"boolean"},
		{"@type":"Telemetry","name":"state","schema":"string"},{"@type":["Telemetry","Location"],"name":"place","schema":"geopoint"},
		{"@type":"Property","name":"floor","schema":"integer"},{"@type":["Property","Cloud"],"name":"owner","schema":"string"},
		{"@type":"Component","name":"deviceInformation","schema":{"@id":"dtmi:x:info;1","@type":"Interface","displayName":"Info","contents":[
			{"@type":"Property","name":"model","schema":"string","writable":true},{"@type":"Property","name":"swVersion","schema":"string","writable":true},
			{"@type":"Telemetry","name":"load","schema":"double"}]}}]}}`

// asked is an API with two machines, one other device, and what they have sent.
func asked(t *testing.T) *api {
	a := newAPI(t)
	a.projectDevices()
	a.ok(http.MethodPut, "/api/deviceTemplates/dtmi:x:y;1", machines)
	for i, id := range []string{"sample-001", "sample-002"} {
		a.ok(http.MethodPut, "/api/devices/"+id, fmt.Sprintf(`{"displayName":"M%d","template":"dtmi:x:y;1","tags":{"hall":"h%d"}}`, i+1, i+1))
		a.ok(http.MethodPatch, "/api/devices/"+id+"/properties", fmt.Sprintf(`{"owner":"o%d","deviceInformation":{"__t":"c","model":"m%d","swVersion":"1.%d"}}`, i+1, i+1, i+1))
	}
	a.ok(http.MethodPut, "/api/devices/other", `{"displayName":"Other"}`)
	a.ok(http.MethodPut, "/api/deviceGroups/first", `{"displayName":"F","filter":"SELECT * FROM devices WHERE owner = \"o1\""}`)
	a.insert("default",
		[3]any{"sample-001", 0, `{"temperature":10.5,"pressure":60,"on":true,"state":"up","place":{"lat":1,"lon":2}}`},
		[3]any{"sample-001", 60, `{"temperature":-3,"pressure":70,"on":false}`},
		[3]any{"sample-002", 30, `{"temperature":20,"pressure":40,"state":"it''s"}`},
		[3]any{"sample-002", 3600, `{"temperature":30.25,"pressure":99,"on":true}`},
		[3]any{"sample-002", 3660, `{"temperature":"hot","extra":7}`},
		[3]any{"other", 30, `{"temperature":1000}`})
	a.insert("elsewhere", [3]any{"sample-001", 30, `{"temperature":666}`})
	require.NoError(t, a.db.Exec(t.Context(), `INSERT INTO telemetry (tenant, device, ts, component, body, partition, offset) SELECT 'default', 'sample-001', toDateTime64('2026-11-23 12:00:10', 3, 'UTC'), 'deviceInformation', '{"load":0.5}'::JSON, 0, 99`))
	a.addUp("temperature", "pressure", "on", "load")
	return a
}

const day = "'2026-11-23T00:00:00Z/2026-11-24T00:00:00Z'"

// results are the answer's rows.
func (a *api) results(query string) []any {
	a.t.Helper()
	return a.ok(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":%q}`, query))["results"].([]any)
}

type answerRow = map[string]any

func TestQueries(t *testing.T) {
	a := asked(t)
	for query, want := range map[string][]any{
		// The shapes of IoT Central's documentation.
		`SELECT $id, $ts, temperature AS t, pressure AS p FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(` + day + `) AND t > 0 AND p > 50 AND $id IN ['sample-001','sample-003']`: {
			answerRow{"$id": "sample-001", "$ts": "2026-11-23T12:00:00.000Z", "t": 10.5, "p": 60.0}},
		`SELECT AVG(temperature), AVG(pressure) FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(` + day + `) AND $id='sample-001' GROUP BY WINDOW(PT10M)`: {
			answerRow{"$ts": "2026-11-23T12:00:00.000Z", "avg_temperature": 3.75, "avg_pressure": 65.0}},
		`SELECT TOP 2 $id AS ID, $ts AS timestamp, temperature FROM dtmi:x:y;1 ORDER BY timestamp DESC`: {
			answerRow{"ID": "sample-002", "timestamp": "2026-11-23T13:01:00.000Z", "temperature": "hot"},
			answerRow{"ID": "sample-002", "timestamp": "2026-11-23T13:00:00.000Z", "temperature": 30.25}},
		`SELECT deviceInformation.model, deviceInformation.swVersion FROM dtmi:x:y;1`: {
			answerRow{"deviceInformation.model": "m1", "deviceInformation.swVersion": "1.1"}, answerRow{"deviceInformation.model": "m2", "deviceInformation.swVersion": "1.2"}},
		`SELECT $id, $provisioned, $simulated, owner FROM dtmi:x:y;1 WHERE owner != 'o1'`: {
			answerRow{"$id": "sample-002", "$provisioned": false, "$simulated": false, "owner": "o2"}},
		// And more.
		`SELECT COUNT(temperature), SUM(temperature), MIN(temperature), MAX(temperature), FIRST(temperature), LAST(temperature) FROM dtmi:x:y;1`: {
			answerRow{"count_temperature": 4.0, "sum_temperature": 57.75, "min_temperature": -3.0, "max_temperature": 30.25, "first_temperature": 10.5, "last_temperature": 30.25}},
		`SELECT $id, PERCENTILE(pressure, 50) AS median, STDDEV(pressure) FROM dtmi:x:y;1 GROUP BY $id ORDER BY median`: {
			answerRow{"$id": "sample-001", "median": 65.0, "stddev_pressure": 7.0710678118654755}, answerRow{"$id": "sample-002", "median": 69.5, "stddev_pressure": 41.71930009000631}},
		`SELECT owner, $tags.hall, MAX(pressure) FROM dtmi:x:y;1 WHERE $tags.hall LIKE 'h%' GROUP BY owner, $tags.hall ORDER BY MAX(pressure) DESC`: {
			answerRow{"owner": "o2", "$tags.hall": "h2", "max_pressure": 99.0}, answerRow{"owner": "o1", "$tags.hall": "h1", "max_pressure": 70.0}},
		`SELECT $id, pressure, owner FROM dtmi:x:y;1 WHERE (owner = 'o1' OR pressure > 90) AND NOT pressure = 60 ORDER BY pressure`: {
			answerRow{"$id": "sample-001", "pressure": 70.0, "owner": "o1"}, answerRow{"$id": "sample-002", "pressure": 99.0, "owner": "o2"}},
		`SELECT $id, place, state FROM dtmi:x:y;1 WHERE CONTAINS(state, '''') OR place.lat = 1 ORDER BY $id`: {
			answerRow{"$id": "sample-001", "place": answerRow{"lat": 1.0, "lon": 2.0}, "state": "up"}, answerRow{"$id": "sample-002", "place": nil, "state": "it's"}},
		`SELECT $id, deviceInformation.load FROM dtmi:x:y;1 WHERE deviceInformation.load < 1`:          {answerRow{"$id": "sample-001", "deviceInformation.load": 0.5}},
		`SELECT AVG(deviceInformation.load), COUNT(on) FROM dtmi:x:y;1`:                                {answerRow{"avg_deviceInformation.load": 0.5, "count_on": 3.0}},
		`SELECT COUNT(temperature) FROM dtmi:x:y;1 WHERE IN GROUP 'first'`:                             {answerRow{"count_temperature": 2.0}},
		`SELECT $id FROM devices WHERE $id IN GROUP 'first' AND owner IS NOT NULL`:                     {answerRow{"$id": "sample-001"}},
		`SELECT COUNT($id) AS n FROM devices WHERE $template IS NULL`:                                  {answerRow{"n": 1.0}},
		`SELECT $id, $telemetry.extra FROM dtmi:x:y;1 WHERE $telemetry.extra >= 7`:                     {answerRow{"$id": "sample-002", "$telemetry.extra": 7.0}},
		`SELECT $id, on FROM dtmi:x:y;1 WHERE on = true AND $ts >= '2026-11-23T13:00:00Z'`:             {answerRow{"$id": "sample-002", "on": true}},
		`SELECT $id FROM dtmi:x:y;1 WHERE temperature IS NOT NULL AND state IN ('up', 'down', 3)`:      {answerRow{"$id": "sample-001"}},
		`SELECT temperature FROM dtmi:x:y;1 WHERE STARTS_WITH($displayName, 'M1') AND temperature < 0`: {answerRow{"temperature": -3.0}},
		`SELECT AVG(pressure) AS p FROM dtmi:x:y;1 WHERE WITHIN_WINDOW('2026-11-23T11:00:00Z/2026-11-23T14:00:00Z') GROUP BY WINDOW(PT1H) FILL(NULL)`: {
			answerRow{"$ts": "2026-11-23T11:00:00.000Z", "p": nil}, answerRow{"$ts": "2026-11-23T12:00:00.000Z", "p": 170.0 / 3}, answerRow{"$ts": "2026-11-23T13:00:00.000Z", "p": 99.0}},
		`SELECT $id, AVG(temperature) AS t FROM dtmi:x:y;1 WHERE WITHIN_WINDOW('2026-11-23T12:00:00Z/2026-11-23T13:30:00Z') AND $id = 'sample-002' GROUP BY $id, WINDOW(PT30M) FILL(LINEAR)`: {
			answerRow{"$ts": "2026-11-23T12:00:00.000Z", "$id": "sample-002", "t": 20.0}, answerRow{"$ts": "2026-11-23T12:30:00.000Z", "$id": "sample-002", "t": 25.125}, answerRow{"$ts": "2026-11-23T13:00:00.000Z", "$id": "sample-002", "t": 30.25}},
		`SELECT SUM(temperature) AS t FROM dtmi:x:y;1 WHERE WITHIN_WINDOW('2026-11-23T12:00:00Z/2026-11-23T12:03:00Z') GROUP BY WINDOW(PT1M) FILL(PREVIOUS)`: {
			answerRow{"$ts": "2026-11-23T12:00:00.000Z", "t": 30.5}, answerRow{"$ts": "2026-11-23T12:01:00.000Z", "t": -3.0}, answerRow{"$ts": "2026-11-23T12:02:00.000Z", "t": -3.0}},
		`SELECT temperature FROM dtmi:x:y;1 WHERE pressure > 1000`: {},
	} {
		t.Run(query, func(t *testing.T) {
			require.Equal(t, want, (&api{t: t, url: a.url, token: a.token}).results(query))
		})
	}
}

// TestSumsAnswerAsMessagesDo asks the same of the tables of sums and of the messages.
func TestSumsAnswerAsMessagesDo(t *testing.T) {
	a := asked(t)
	for query, table := range map[string]string{
		`SELECT COUNT(pressure), SUM(pressure), AVG(pressure), MIN(pressure), MAX(pressure) FROM dtmi:x:y;1%s`:                                                       "telemetry_1h",
		`SELECT $id, AVG(pressure), MAX(temperature) FROM dtmi:x:y;1 WHERE WITHIN_WINDOW('2026-11-23T12:00:00Z/2026-11-23T14:00:00Z')%s GROUP BY $id, WINDOW(PT10M)`: "telemetry_10m",
		`SELECT owner, MIN(pressure), COUNT(on) FROM dtmi:x:y;1 WHERE WITHIN_WINDOW('2026-11-23T12:01:00Z/2026-11-23T14:00:00Z')%s GROUP BY owner, WINDOW(PT1M)`:     "telemetry_1m",
		`SELECT $id, AVG(deviceInformation.load), SUM(pressure) FROM dtmi:x:y;1 WHERE owner = 'o1'%s GROUP BY $id`:                                                   "telemetry_1h",
	} {
		condition := " AND (pressure > -1 OR temperature IS NULL OR pressure IS NULL)"
		if !strings.Contains(query, "WHERE") {
			condition = " WHERE" + strings.TrimPrefix(condition, " AND")
		}
		plan := a.ok(http.MethodPost, "/api/query/explain", fmt.Sprintf(`{"query":%q}`, fmt.Sprintf(query, "")))
		require.Equal(t, table, plan["table"], query)
		raw := a.ok(http.MethodPost, "/api/query/explain", fmt.Sprintf(`{"query":%q}`, fmt.Sprintf(query, condition)))
		require.Equal(t, "telemetry", raw["table"])
		want := a.results(fmt.Sprintf(query, condition))
		require.NotEmpty(t, want)
		require.Equal(t, want, a.results(fmt.Sprintf(query, "")), query)
	}
	last := `SELECT $id, LAST(pressure), LAST(on) FROM dtmi:x:y;1%s GROUP BY $id`
	plan := a.ok(http.MethodPost, "/api/query/explain", fmt.Sprintf(`{"query":%q}`, fmt.Sprintf(last, "")))
	require.Equal(t, "telemetry_latest", plan["table"])
	require.Equal(t, a.results(fmt.Sprintf(last, " WHERE WITHIN_WINDOW('2020-01-01T00:00:00Z/2030-01-01T00:00:01.5Z')")), a.results(fmt.Sprintf(last, "")))
	explained := a.results("EXPLAIN " + fmt.Sprintf(last, ""))[0].(answerRow)
	require.Equal(t, plan["sql"], explained["sql"])
}

func TestQueryErrors(t *testing.T) {
	a := asked(t)
	for query, says := range map[string]string{
		`SELECT`:                         "1:7: expected a name",
		`SELECT a FROM dtmi:none:none;1`: "1:15: there is no published device template",
		`SELECT temperature, nope FROM dtmi:x:y;1`:                                                          "1:21: template dtmi:x:y;1 has no telemetry or property nope",
		`SELECT $nope FROM devices`:                                                                         "1:8: there is no $nope",
		`SELECT temperature, temperature FROM dtmi:x:y;1`:                                                   "1:21: temperature is selected twice",
		`SELECT temperature, AVG(pressure) FROM dtmi:x:y;1`:                                                 "1:8: temperature is neither",
		`SELECT temperature AS t, AVG(pressure) AS p FROM dtmi:x:y;1 WHERE p > 1 GROUP BY t`:                "1:67: p is the result of AVG",
		`SELECT AVG($id) FROM devices`:                                                                      "1:8: AVG needs numbers",
		`SELECT FIRST(floor) FROM devices`:                                                                  "1:8: FIRST is of telemetry",
		`SELECT $id FROM devices WHERE $provisioned = 1`:                                                    "1:46: $provisioned is true or false",
		`SELECT $id FROM devices WHERE $id = 1`:                                                             "1:37: $id is a text",
		`SELECT $id FROM devices WHERE IN GROUP 'none'`:                                                     "does not exist",
		`SELECT temperature FROM dtmi:x:y;1 WHERE $ts > 'now'`:                                              "1:48: $ts is a time",
		`SELECT temperature FROM dtmi:x:y;1 WHERE $ts IN ('x')`:                                             "1:42: IN is not for times",
		`SELECT temperature FROM dtmi:x:y;1 WHERE on > true`:                                                "1:47: true and false have no order",
		`SELECT AVG(temperature) FROM dtmi:x:y;1 ORDER BY MAX(temperature)`:                                 "1:50: MAX(temperature) is not selected",
		`SELECT AVG(temperature) FROM dtmi:x:y;1 GROUP BY $id FILL(0)`:                                      "1:54: FILL needs GROUP BY WINDOW",
		`SELECT AVG(temperature) FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(P3660D) GROUP BY WINDOW(PT1S) FILL(0)`: "more than 100000 windows",
	} {
		status, answer, _ := a.call(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":%q}`, query))
		require.Contains(t, []int{400, 404}, status, "%s: %v", query, answer)
		require.Contains(t, message(answer), says, query)
	}
	status, answer, _ := a.call(http.MethodPost, "/api/query", `{"query":"SELECT $id FROM devices","format":"xml"}`)
	require.Equal(t, 400, status, answer)
	status, answer, _ = a.call(http.MethodPost, "/api/query", `{"query":"SELECT $id FROM devices","format":"csv","maxpagesize":3}`)
	require.Equal(t, 400, status, answer)
	status, _, _ = a.call(http.MethodPost, "/api/query", `{"query":"SELECT $id FROM devices"}`, "Authorization", "Bearer nope")
	require.Equal(t, 401, status)
}

func TestAnswersInEveryFormat(t *testing.T) {
	a := asked(t)
	const query = `SELECT $id, temperature, state, place, owner FROM dtmi:x:y;1 WHERE temperature > 0 ORDER BY temperature`
	post := func(body, accept string) (string, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+"/api/query", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", a.token)
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		content, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s", content)
		return string(content), resp.Header.Get("Content-Type")
	}
	csv, kind := post(fmt.Sprintf(`{"query":%q}`, query), "text/csv")
	require.Equal(t, "text/csv; charset=utf-8", kind)
	lines := bufio.NewScanner(strings.NewReader(csv))
	require.True(t, lines.Scan())
	require.Equal(t, `"$id","temperature","state","place","owner"`, lines.Text())
	require.True(t, lines.Scan())
	require.Equal(t, `"sample-001",10.5,"up","{""lat"":1,""lon"":2}","o1"`, lines.Text())
	arrow, kind := post(fmt.Sprintf(`{"query":%q,"format":"arrow"}`, query), "*/*")
	require.Equal(t, "application/vnd.apache.arrow.stream", kind)
	require.True(t, strings.HasPrefix(arrow, "\xff\xff\xff\xff"), "%.20q", arrow)
	require.Contains(t, arrow, "sample-001")
	stream, err := apiv1.NewQueryServiceClient(a.rpc).StreamQuery(a.authorized(t), &apiv1.StreamQueryRequest{Query: query})
	require.NoError(t, err)
	rows, err := stream.Recv()
	require.NoError(t, err)
	require.Len(t, rows.GetRows(), 3)
	require.Equal(t, map[string]any{"$id": "sample-001", "temperature": 10.5, "state": "up", "place": map[string]any{"lat": 1.0, "lon": 2.0}, "owner": "o1"}, rows.GetRows()[0].AsMap())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// TestPagesAreOfOneMoment: rows that come meanwhile neither repeat nor move others.
func TestPagesAreOfOneMoment(t *testing.T) {
	a := asked(t)
	for _, query := range []string{`SELECT $id, $ts, temperature FROM dtmi:x:y;1`, `SELECT $ts, COUNT(temperature) FROM dtmi:x:y;1 GROUP BY WINDOW(PT1M)`} {
		want := a.results(query)
		require.Greater(t, len(want), 2)
		var got []any
		for token := ""; ; {
			page := a.ok(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":%q,"maxpagesize":2,"pageToken":%q}`, query, token))
			got = append(got, page["results"].([]any)...)
			require.LessOrEqual(t, len(page["results"].([]any)), 2)
			next, more := page["nextPageToken"].(string)
			if !more {
				break
			}
			token = next
			a.insert("default", [3]any{"sample-001", 7200 + len(got), `{"temperature":1}`})
		}
		require.Equal(t, want, got, query)
		status, answer, _ := a.call(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":"SELECT $id FROM devices","pageToken":%q}`, encodeToken(questionToken{After: []string{"m"}, Of: 1})))
		require.Equal(t, 400, status)
		require.Contains(t, message(answer), "of another query")
		require.NoError(t, a.db.Exec(t.Context(), "ALTER TABLE telemetry DELETE WHERE ts >= '2026-11-23 14:00:00' SETTINGS mutations_sync = 1"))
	}
}

// TestLimitsOfQueries are enforced by ClickHouse, and one query too many is refused.
func TestLimitsOfQueries(t *testing.T) {
	a := asked(t)
	limits := questionLimits
	limits.readRows = 2
	tight := &queryService{db: a.db, limits: limits, gate: newTurnstile(1)}
	err := tight.stream(t.Context(), answerPlan{plan: plan{sql: "SELECT device FROM telemetry"}}, "JSONEachRow", func(io.Reader) error { return nil })
	require.ErrorContains(t, err, "more than is allowed")
	leave, ok := tight.gate.enter("t")
	require.True(t, ok)
	err = tight.stream(t.Context(), answerPlan{plan: plan{parameters: map[string]string{"tenant": "t"}}}, "JSONEachRow", nil)
	require.ErrorContains(t, err, "wait for one to end")
	leave()
	require.Empty(t, tight.gate.running)
}

// TestTheSQLOfQueries keeps what queries become in testdata.
func TestTheSQLOfQueries(t *testing.T) {
	a := asked(t)
	var text strings.Builder
	for _, query := range []string{
		`SELECT $id, $ts, temperature AS t FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(` + day + `) AND t > 0 AND $id IN ['a']`,
		`SELECT AVG(temperature) FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(` + day + `) GROUP BY WINDOW(PT10M)`,
		`SELECT $id, LAST(pressure) FROM dtmi:x:y;1 GROUP BY $id`,
		`SELECT owner, deviceInformation.model FROM dtmi:x:y;1 AS OF '2026-11-01T00:00:00Z' WHERE owner LIKE 'o%'`,
	} {
		plan := a.ok(http.MethodPost, "/api/query/explain", fmt.Sprintf(`{"query":%q}`, query))
		fmt.Fprintf(&text, "-- %s\n%s\n\n", query, plan["sql"])
	}
	const golden = "testdata/questions.sql"
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(golden, []byte(text.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), text.String())
}
