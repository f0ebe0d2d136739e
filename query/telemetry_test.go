package query

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// insert writes rows as the projection would: device, seconds after noon, body.
// Offsets count up in the order given.
func (a *api) insert(tenant string, rows ...[3]any) {
	a.t.Helper()
	for i, r := range rows {
		at := noon.Add(time.Duration(r[1].(int)) * time.Second)
		require.NoError(a.t, a.db.Exec(a.t.Context(), fmt.Sprintf(
			"INSERT INTO telemetry (tenant, device, ts, body, partition, offset) SETTINGS type_json_skip_duplicated_paths = 1, input_format_try_infer_dates = 0, input_format_try_infer_datetimes = 0 SELECT '%s', '%s', fromUnixTimestamp64Milli(%d, 'UTC'), '%s'::JSON, 0, %d",
			tenant, r[0], at.UnixMilli(), r[2], i)))
	}
}

func TestLatestTelemetry(t *testing.T) {
	a := newAPI(t)
	for _, id := range []string{"d", "silent"} {
		status, answer, _ := a.call(http.MethodPut, "/api/devices/"+id, "{}")
		require.Equal(t, http.StatusOK, status, answer)
	}
	a.insert("default",
		[3]any{"d", 10, `{"temperature":20,"ok":true,"label":"a","location":{"lat":1.5,"lon":2},"list":[1,2]}`},
		[3]any{"d", 30, `{"temperature":21.5}`},
		[3]any{"d", 20, `{"temperature":99,"ok":false}`},
		[3]any{"d", 30, `{"temperature":22,"select":1}`}, // the same moment, later on the log
	)
	a.insert("other", [3]any{"d", 60, `{"temperature":666}`})
	for name, want := range map[string]any{
		"temperature": 22.0, "ok": false, "label": "a", "location": map[string]any{"lat": 1.5, "lon": 2.0}, "location.lat": 1.5,
		"list": []any{1.0, 2.0}, "select": 1.0,
	} {
		status, v, _ := a.call(http.MethodGet, "/api/devices/d/telemetry/"+name, "")
		require.Equal(t, http.StatusOK, status, "%s: %v", name, v)
		require.Equal(t, want, v["value"], name)
	}
	_, v, _ := a.call(http.MethodGet, "/api/devices/d/telemetry/temperature", "")
	require.Equal(t, "2026-11-23T12:00:30Z", v["timestamp"])
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/api/devices/d/telemetry/humidity":                    {404, "never sent"},
		"/api/devices/silent/telemetry/temperature":            {404, "never sent"},
		"/api/devices/none/telemetry/temperature":              {404, "does not exist"},
		"/api/devices/d/telemetry/a%60b":                       {400, "telemetry name"},
		"/api/devices/d/telemetry/a%27--":                      {400, "telemetry name"},
		"/api/devices/d/telemetry/1a":                          {400, "telemetry name"},
		"/api/devices/d/telemetry/" + strings.Repeat("x", 200): {400, "128"},
	} {
		status, answer, _ := a.call(http.MethodGet, path, "")
		require.Equal(t, want.status, status, "%s: %v", path, answer)
		require.Contains(t, message(answer), want.says)
	}
}

func TestListTelemetry(t *testing.T) {
	a := newAPI(t)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d", "{}")
	require.Equal(t, http.StatusOK, status, answer)
	var rows [][3]any
	for i := range 10 {
		rows = append(rows, [3]any{"d", i * 30, fmt.Sprintf(`{"n":%d,"half":%g,"word":"w%d"}`, i, float64(i)/2, i)})
	}
	rows = append(rows, [3]any{"d", 3600, `{"n":"not a number","unit":"x"}`})
	a.insert("default", rows...)
	list := func(query url.Values) (rows []map[string]any) {
		t.Helper()
		query.Set("from", noon.Format(time.RFC3339))
		if !query.Has("to") {
			query.Set("to", noon.Add(2*time.Hour).Format(time.RFC3339))
		}
		next := "/api/devices/d/telemetry?" + query.Encode()
		for pages := 0; next != ""; pages++ {
			require.Less(t, pages, 20)
			status, answer, _ := a.call(http.MethodGet, next, "")
			require.Equal(t, http.StatusOK, status, answer)
			for _, v := range answer["value"].([]any) {
				rows = append(rows, v.(map[string]any))
			}
			next, _ = answer["nextLink"].(string)
		}
		return rows
	}

	whole := list(url.Values{"maxpagesize": {"3"}})
	require.Len(t, whole, 11)
	require.Equal(t, map[string]any{"n": "not a number", "unit": "x"}, whole[0]["values"])
	require.Equal(t, map[string]any{"n": 0.0, "half": 0.0, "word": "w0"}, whole[10]["values"])
	require.Equal(t, "2026-11-23T12:00:00Z", whole[10]["timestamp"])

	some := list(url.Values{"names": {"half", "unit"}})
	require.Len(t, some, 11)
	require.Equal(t, map[string]any{"unit": "x"}, some[0]["values"])
	require.Equal(t, map[string]any{"half": 4.5}, some[1]["values"])

	require.Len(t, list(url.Values{"to": {noon.Add(60 * time.Second).Format(time.RFC3339)}}), 2, "the end is exclusive")

	windows := list(url.Values{"names": {"n"}, "interval": {"PT1M"}, "maxpagesize": {"2"},
		"aggregates": {"AGGREGATE_AVG", "AGGREGATE_MIN", "AGGREGATE_MAX", "AGGREGATE_SUM", "AGGREGATE_COUNT", "AGGREGATE_FIRST", "AGGREGATE_LAST"}})
	require.Len(t, windows, 6, "windows without a message are not there")
	require.Equal(t, map[string]any{"count_n": 1.0, "first_n": "not a number", "last_n": "not a number"}, windows[0]["values"], "what is no number has no average")
	require.Equal(t, map[string]any{"avg_n": 0.5, "min_n": 0.0, "max_n": 1.0, "sum_n": 1.0, "count_n": 2.0, "first_n": 0.0, "last_n": 1.0}, windows[5]["values"])
	require.Equal(t, "2026-11-23T12:00:00Z", windows[5]["timestamp"])

	for _, at := range []int64{math.MinInt64, math.MaxInt64} {
		for _, query := range []string{"", "&names=n&interval=PT1M"} {
			forged := encodeToken(telemetryToken{To: at, Before: at, Partition: -1, Offset: at})
			status, answer, _ := a.call(http.MethodGet, "/api/devices/d/telemetry?from=2026-11-23T12:00:00Z&to=2026-11-23T13:00:00Z&pageToken="+forged+query, "")
			require.Equal(t, http.StatusOK, status, answer)
		}
	}
	for query, says := range map[string]string{
		"interval=PT1M":                                     "names",
		"interval=1m&names=n":                               "ISO 8601",
		"interval=PT1S&names=n":                             "at most 10000",
		"aggregates=AGGREGATE_AVG&names=n":                  "interval",
		"names=n%20OR%201":                                  "telemetry name",
		"from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z": "not before",
		"from=yesterday":                                    "from",
		"pageToken=e30&maxpagesize=-1":                      "maxpagesize",
		"maxpagesize=-1":                                    "maxpagesize",
		"names=" + strings.Repeat("a&names=", 15) + "a":     "at most 15",
	} {
		status, answer, _ := a.call(http.MethodGet, "/api/devices/d/telemetry?"+query, "")
		require.Equal(t, http.StatusBadRequest, status, "%s: %v", query, answer)
		require.Contains(t, message(answer), says, query)
	}
}

// TestAggregatesTakeNumbersOnly mixes every type under one name.
func TestAggregatesTakeNumbersOnly(t *testing.T) {
	a := newAPI(t)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d", "{}")
	require.Equal(t, http.StatusOK, status, answer)
	bodies := []string{
		`{"n":1}`, `{"n":2.5}`, `{"n":9007199254740993}`, `{"n":18446744073709551615}`, `{"n":-4}`,
		`{"n":"100"}`, `{"n":"nan"}`, `{"n":true}`, `{"n":null}`, `{"n":{"deep":7}}`, `{"n":[1,2]}`, `{"other":1}`,
	}
	for i, body := range bodies {
		a.insert("default", [3]any{"d", i, body})
	}
	a.insert("default", [3]any{"d", 3600, `{"n":"only text"}`})
	query := "?from=2026-11-23T12:00:00Z&to=2026-11-23T14:00:00Z&interval=PT1H&names=n&names=other"
	for _, name := range []string{"AVG", "MIN", "MAX", "SUM", "COUNT", "FIRST", "LAST"} {
		query += "&aggregates=AGGREGATE_" + name
	}
	status, answer, _ = a.call(http.MethodGet, "/api/devices/d/telemetry"+query, "")
	require.Equal(t, http.StatusOK, status, answer)
	rows := answer["value"].([]any)
	require.Len(t, rows, 2)
	require.Equal(t, map[string]any{
		"count_n": 1.0, "first_n": "only text", "last_n": "only text", "count_other": 0.0,
	}, rows[0].(map[string]any)["values"])
	sum := 1 + 2.5 + 9007199254740993.0 + 18446744073709551615.0 - 4
	values := rows[1].(map[string]any)["values"].(map[string]any)
	require.InEpsilon(t, sum, values["sum_n"], 1e-12)
	require.InEpsilon(t, sum/5, values["avg_n"], 1e-12)
	delete(values, "sum_n")
	delete(values, "avg_n")
	require.Equal(t, map[string]any{
		"min_n": -4.0, "max_n": 18446744073709551615.0, "count_n": 10.0, "first_n": 1.0, "last_n": []any{1.0, 2.0},
		"avg_other": 1.0, "min_other": 1.0, "max_other": 1.0, "sum_other": 1.0, "count_other": 1.0, "first_other": 1.0, "last_other": 1.0,
	}, values)
}

// TestTelemetryIsOfOneSender gives two tenants a device of one name, and it, its
// components, its module and the module's component telemetry of one name.
func TestTelemetryIsOfOneSender(t *testing.T) {
	a := newAPI(t)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d", "{}")
	require.Equal(t, http.StatusOK, status, answer)
	a.call(http.MethodPut, "/api/devices/d/modules/m", "")
	for i, r := range [][4]string{
		{"default", "", "", "mine"}, {"default", "", "gps", "gps's"}, {"default", "m", "", "m's"}, {"default", "m", "gps", "gps of m's"},
		{"other", "", "", "theirs"}, {"other", "", "gps", "theirs"}, {"other", "m", "", "theirs"},
	} {
		require.NoError(t, a.db.Exec(t.Context(), "INSERT INTO telemetry (tenant, device, ts, module, component, body, partition, offset) SELECT ?, 'd', ?, ?, ?, ?::JSON, 0, ?",
			r[0], noon, r[1], r[2], `{"of":"`+r[3]+`"}`, i))
	}
	const span = "from=2026-11-23T12:00:00Z&to=2026-11-23T13:00:00Z"
	for path, want := range map[string]string{
		"/api/devices/d/": "mine", "/api/devices/d/components/gps/": "gps's",
		"/api/devices/d/modules/m/": "m's", "/api/devices/d/modules/m/components/gps/": "gps of m's",
	} {
		_, latest, _ := a.call(http.MethodGet, path+"telemetry/of", "")
		require.Equal(t, want, latest["value"], latest)
		for _, query := range []string{"", "&names=of"} {
			_, list, _ := a.call(http.MethodGet, path+"telemetry?"+span+query, "")
			require.Equal(t, map[string]any{"value": []any{map[string]any{"timestamp": "2026-11-23T12:00:00Z", "values": map[string]any{"of": want}}}}, list)
		}
		_, windows, _ := a.call(http.MethodGet, path+"telemetry?"+span+"&names=of&interval=PT1H&aggregates=AGGREGATE_COUNT", "")
		require.Equal(t, map[string]any{"count_of": 1.0}, windows["value"].([]any)[0].(map[string]any)["values"])
	}
	status, answer, _ = a.call(http.MethodGet, "/api/devices/d/components/none/telemetry/of", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, message(answer), "never sent")
	status, answer, _ = a.call(http.MethodGet, "/api/devices/d/modules/none/telemetry/of", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, message(answer), "no module")
	status, _, _ = a.call(http.MethodGet, "/api/devices/d/components/"+strings.Repeat("x", 129)+"/telemetry/of", "")
	require.Equal(t, http.StatusBadRequest, status)
}

// TestPagesAreStableUnderInserts reads a list page by page while newer and older
// rows come in: each row that was there is read once.
func TestPagesAreStableUnderInserts(t *testing.T) {
	a := newAPI(t)
	status, answer, _ := a.call(http.MethodPut, "/api/devices/d", "{}")
	require.Equal(t, http.StatusOK, status, answer)
	for i := range 9 {
		a.insert("default", [3]any{"d", 100 + i, fmt.Sprintf(`{"n":%d}`, i)})
	}
	seen := map[float64]int{}
	next := "/api/devices/d/telemetry?maxpagesize=2&from=2026-11-23T12:00:00Z&to=2026-11-23T13:00:00Z"
	for late := 0; next != ""; late++ {
		require.Less(t, late, 20)
		_, answer, _ := a.call(http.MethodGet, next, "")
		for _, v := range answer["value"].([]any) {
			seen[v.(map[string]any)["values"].(map[string]any)["n"].(float64)]++
		}
		a.insert("default", [3]any{"d", 200 + late, `{"n":-1}`})
		next, _ = answer["nextLink"].(string)
	}
	for n := range 9 {
		require.Equal(t, 1, seen[float64(n)], n)
	}
	require.Zero(t, seen[-1])
}

// FuzzPlanList wants every plan of foreign names and intervals to hold nothing
// of them but quoted identifiers.
func FuzzPlanList(f *testing.F) {
	f.Add("temperature", "PT1M", "")
	f.Add("a.b_c", "", "e30")
	f.Add("x`; DROP TABLE telemetry --", "P1D", "!!")
	f.Fuzz(func(t *testing.T, name, interval, token string) {
		req := &apiv1.ListTelemetryRequest{DeviceId: "d", Names: []string{name}, Interval: interval, PageToken: token, From: timestamppb.New(noon.Add(-time.Hour))}
		p, _, err := planList("default", req, noon)
		if err != nil {
			return
		}
		if !namePattern.MatchString(name) {
			t.Fatalf("name %q became SQL", name)
		}
		if strings.Count(p.sql, "`")%2 != 0 || strings.ContainsAny(p.sql, ";\x00\\") {
			t.Fatalf("statement is not as planned: %s", p.sql)
		}
	})
}

func TestInterval(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT1M": time.Minute, "P1D": 24 * time.Hour, "P1W": 7 * 24 * time.Hour, "P2DT12H": 60 * time.Hour, "PT5H": 5 * time.Hour, "PT1M30S": 90 * time.Second,
	} {
		got, err := parseInterval(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "P", "PT", "1M", "P1M", "P1Y", "PT0S", "PT-1M", "PT1.5S", "P99999D", "pt1m", "PT1M "} {
		_, err := parseInterval(text)
		require.Error(t, err, text)
	}
}
