package query

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tile is a tile's JSON.
func tile(configuration string) string {
	return `{"displayName":"t","x":0,"y":0,"width":2,"height":2,"configuration":` + configuration + `}`
}

func TestDashboardsOverREST(t *testing.T) {
	a := newAPI(t)
	a.organizations("north", "south", "berlin")
	const home = "/api/dashboards/dtmi:home;1"
	markdown := tile(`{"type":"markdown","description":"# Hi","href":"/devices","image":""}`)
	d := a.ok(http.MethodPut, home, `{"displayName":"Home","favorite":true,"organizations":["north"],"tiles":[`+markdown+`]}`)
	require.Equal(t, []any{"dtmi:home;1", "v1", "Home", true, false, []any{"north"}}, []any{d["id"], d["etag"], d["displayName"], d["favorite"], d["personal"], d["organizations"]})
	first := d["tiles"].([]any)[0].(map[string]any)
	require.NotEmpty(t, first["id"])
	require.Equal(t, map[string]any{"type": "markdown", "description": "# Hi", "href": "/devices", "image": ""}, first["configuration"])
	require.Equal(t, d, a.ok(http.MethodGet, home, ""))
	d = a.ok(http.MethodPatch, home, `{"displayName":"H","favorite":false,"etag":"v1"}`)
	require.Equal(t, []any{"v2", "H", false, []any{first}}, []any{d["etag"], d["displayName"], d["favorite"], d["tiles"]}, "the tiles stay, with their ids")
	a.ok(http.MethodPut, "/api/dashboards/a", `{"displayName":"A"}`)
	page := a.ok(http.MethodGet, "/api/dashboards?maxpagesize=1", "")
	require.Equal(t, []string{"a"}, ids(page))
	require.Equal(t, []string{"dtmi:home;1"}, ids(a.ok(http.MethodGet, page["nextLink"].(string), "")))
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"none":          {http.MethodGet, "/api/dashboards/none", "", 404, "does not exist"},
		"data of none":  {http.MethodGet, "/api/dashboards/none/data", "", 404, "does not exist"},
		"old etag":      {http.MethodPatch, home, `{"displayName":"x","etag":"v1"}`, 412, "read it again"},
		"id":            {http.MethodPut, "/api/dashboards/a.b", `{"displayName":"x"}`, 400, "id is not valid"},
		"personal":      {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","personal":true}`, 400, "personal"},
		"no name":       {http.MethodPut, "/api/dashboards/b", `{}`, 400, "displayName"},
		"type":          {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","tiles":[` + tile(`{"type":"nope"}`) + `]}`, 400, "tiles[0].configuration.type"},
		"function":      {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","tiles":[` + tile(`{"type":"kpi","capabilities":[{"capability":"t","aggregateFunction":"mean"}]}`) + `]}`, 400, "aggregateFunction"},
		"name":          {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","tiles":[` + tile("{\"type\":\"kpi\",\"capabilities\":[{\"capability\":\"t`)\",\"aggregateFunction\":\"avg\"}]}") + `]}`, 400, "capability"},
		"duration":      {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","tiles":[` + tile(`{"type":"kpi","capabilities":[{"capability":"t","aggregateFunction":"avg"}],"queryRange":{"type":"time","duration":"P9D"}}`) + `]}`, 400, "P30D"},
		"link":          {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","tiles":[` + tile(`{"type":"image","href":"javascript:alert(1)"}`) + `]}`, 400, "href"},
		"content":       {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","tiles":[` + tile(`{"type":"externalContent","sourceUrl":"http://x"}`) + `]}`, 400, "https://"},
		"place":         {http.MethodPut, "/api/dashboards/b", `{"displayName":"x","tiles":[{"displayName":"t","x":-1,"y":0,"width":2,"height":2,"configuration":{"type":"label"}}]}`, 400, "x and y"},
		"split by what": {http.MethodPut, "/api/explorerQueries/q", `{"displayName":"x","configuration":{"capabilities":[{"capability":"t","aggregateFunction":"avg"}],"splitBy":"a b"}}`, 400, "splitBy"},
		"query of none": {http.MethodGet, "/api/explorerQueries/none/data", "", 404, "does not exist"},
		"explore what":  {http.MethodPost, "/api/explorerQueries/data", `{"configuration":{}}`, 400, "capabilities"},
	} {
		status, answer, _ := a.call(tc.method, tc.path, tc.body)
		require.Equal(t, tc.status, status, "%s: %v", name, answer)
		require.Contains(t, message(answer), tc.says, name)
	}
	status, _, _ := a.call(http.MethodDelete, home, "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = a.call(http.MethodGet, home, "")
	require.Equal(t, http.StatusNotFound, status)
}

// addUp makes the tables of sums and latest values of the messages there are.
func (a *api) addUp(paths ...string) {
	a.t.Helper()
	for file, width := range map[string]string{"0006_telemetry_1m": "60", "0019_telemetry_10m": "600", "0007_telemetry_1h": "3600", "0008_telemetry_latest": ""} {
		ddl, err := os.ReadFile("../projections/schema/migrations/" + file + ".sql")
		require.NoError(a.t, err)
		require.NoError(a.t, a.db.Exec(a.t.Context(), strings.ReplaceAll(string(ddl), "{database}", a.db.Database())))
		table := file[len("0006_"):]
		for _, path := range paths {
			v := "body." + path
			ends, endValues := "", ""
			if width != "60" {
				ends, endValues = ", first, last", ", min((ts, offset, v)), max((ts, offset, v))"
			}
			statement := fmt.Sprintf(`INSERT INTO %[1]s (tenant, path, device, component, module, ts, count, nonzero, sum, min, max%[5]s)
				SELECT tenant, '%[2]s', device, component, module, toStartOfInterval(ts, INTERVAL %[4]s SECOND), count(), countIf(v != 0), sum(v), min(v), max(v)%[6]s
				FROM (SELECT *, coalesce(%[3]s.:Float64, toFloat64(%[3]s.:Int64), toFloat64(%[3]s.:Bool)) AS v FROM telemetry) WHERE isNotNull(v) GROUP BY ALL`, table, path, v, width, ends, endValues)
			if width == "" {
				statement = fmt.Sprintf(`INSERT INTO %s (tenant, path, device, component, module, ts, offset, value, number, kind)
					SELECT tenant, '%s', device, component, module, ts, offset, toJSONString(%s), coalesce(%[3]s.:Float64, toFloat64(%[3]s.:Int64), toFloat64(%[3]s.:Bool), 0),
						multiIf(isNotNull(%[3]s.:Bool), 1, isNotNull(%[3]s.:String), 2, 0) FROM telemetry WHERE isNotNull(%[3]s)`, table, path, v)
			}
			require.NoError(a.t, a.db.Exec(a.t.Context(), statement))
		}
	}
}

// points are the values of a series, with their seconds since noon.
func points(series any) (out [][2]any) {
	for _, p := range series.(map[string]any)["points"].([]any) {
		at, when := any(nil), p.(map[string]any)["timestamp"]
		if when != nil {
			parsed, err := time.Parse(time.RFC3339Nano, when.(string))
			if err != nil {
				panic(err)
			}
			at = int(parsed.Sub(noon).Seconds())
		}
		out = append(out, [2]any{at, p.(map[string]any)["value"]})
	}
	return out
}

// TestTheTilesOfADashboard has each kind of tile answered in one call, for one tenant.
func TestTheTilesOfADashboard(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	for _, id := range []string{"d1", "d2", "d3"} {
		a.ok(http.MethodPut, "/api/devices/"+id, fmt.Sprintf(`{"displayName":%q,"tags":{"room":"r%s"}}`, id, id[1:]))
		a.ok(http.MethodPatch, "/api/devices/"+id+"/properties", fmt.Sprintf(`{"floor":%s,"home":{"lat":1,"lon":%[1]s}}`, id[1:]))
	}
	a.ok(http.MethodPut, "/api/deviceGroups/two", `{"displayName":"Two","filter":"SELECT * FROM devices WHERE floor <= 2"}`)
	a.insert("default",
		[3]any{"d1", 0, `{"temperature":10,"state":"on"}`}, [3]any{"d1", 30, `{"temperature":20}`}, [3]any{"d1", 90, `{"temperature":5,"place":{"lat":1,"lon":2}}`},
		[3]any{"d2", 30, `{"temperature":60.5,"state":"off"}`}, [3]any{"d3", 0, `{"temperature":1000}`})
	a.insert("other", [3]any{"d1", 10, `{"temperature":666}`})
	a.addUp("temperature", "place.lat", "place.lon", "state")
	const caps = `"capabilities":[{"capability":"temperature","aggregateFunction":"max"},{"capability":"temperature","aggregateFunction":"avg"}]`
	const hour = `"queryRange":{"type":"time","duration":"PT1H","resolution":"PT1M"}`
	a.ok(http.MethodPut, "/api/explorerQueries/q", `{"displayName":"Q","description":"by floor","configuration":{"group":"two","splitBy":"floor","capabilities":[{"capability":"temperature","aggregateFunction":"sum"}],`+hour+`}}`)
	tiles := []string{
		`{"type":"lineChart","group":"two",` + caps + `,` + hour + `}`,
		`{"type":"barChart","devices":["d1","d3"],"capabilities":[{"capability":"temperature","aggregateFunction":"count"}],"queryRange":{"type":"time","duration":"PT1H","resolution":"PT10M"}}`,
		`{"type":"kpi","group":"two",` + caps + `,"queryRange":{"type":"time","duration":"PT1H"}}`,
		`{"type":"kpi","group":"two","capabilities":[{"capability":"state","aggregateFunction":"count"}],"queryRange":{"type":"time","duration":"PT1H"}}`,
		`{"type":"lkv","devices":["d1"],"capabilities":[{"capability":"temperature"},{"capability":"place"}]}`,
		`{"type":"stateHistoryChart","devices":["d1","d2"],"capabilities":[{"capability":"state"}],` + hour + `}`,
		`{"type":"mapTelemetry","group":"two","capabilities":[{"capability":"place"}],` + hour + `}`,
		`{"type":"property","devices":["d2"],"capabilities":[{"capability":"floor"},{"capability":"home.lon"},{"capability":"none"}]}`,
		`{"type":"deviceCount","group":"two"}`,
		`{"type":"dataExplorer","query":"q","queryRange":{"type":"time","duration":"PT30M","resolution":"PT10M"}}`,
		`{"type":"label","text":"hi"}`,
		`{"type":"deviceCount","group":"gone"}`,
		`{"type":"lineChart","devices":["d1"],"capabilities":[{"capability":"temperature","aggregateFunction":"avg"}],"queryRange":{"type":"count","count":100}}`,
	}
	for i := range tiles {
		tiles[i] = tile(tiles[i])
	}
	a.ok(http.MethodPut, "/api/dashboards/d", `{"displayName":"D","tiles":[`+strings.Join(tiles, ",")+`]}`)
	answer := a.ok(http.MethodGet, "/api/dashboards/d/data?to="+query(noon.Add(10*time.Minute)), "")
	shown := answer["tiles"].([]any)
	require.Len(t, shown, len(tiles))
	series := func(i int) []any { return shown[i].(map[string]any)["series"].([]any) }
	for i, want := range [][][][2]any{
		0:  {{{0, 60.5}, {60, 5.0}}, {{0, 90.5 / 3}, {60, 5.0}}},
		1:  {{{0, 3.0}}, {{0, 1.0}}},
		2:  {{{nil, 60.5}}, {{nil, 95.5 / 4}}},
		3:  {{{nil, 2.0}}},
		4:  {{{90, 5.0}, {30, 20.0}}, {{90, map[string]any{"lat": 1.0, "lon": 2.0}}}},
		5:  {{{0, "on"}}, {{30, "off"}}},
		6:  {{{90, map[string]any{"lat": 1.0, "lon": 2.0}}}},
		7:  {{{nil, 2.0}}, {{nil, 2.0}}, {{nil, nil}}},
		8:  {},
		9:  {{{0, 35.0}}, {{0, 60.5}}},
		10: {},
		11: {},
		12: {{{90, 5.0}, {30, 20.0}, {0, 10.0}}},
	} {
		require.Len(t, series(i), len(want), "%d: %v", i, shown[i])
		for n, s := range series(i) {
			require.Equal(t, want[n], points(s), "%d", i)
		}
	}
	require.Equal(t, 0.0, shown[8].(map[string]any)["count"], "the devices came later")
	require.Equal(t, 2.0, a.ok(http.MethodGet, "/api/dashboards/d/data", "")["tiles"].([]any)[8].(map[string]any)["count"])
	require.Contains(t, shown[11].(map[string]any)["error"], "does not exist")
	require.Equal(t, "2026-11-23T11:40:00Z", shown[9].(map[string]any)["from"], "the tile's time, not the query's")
	require.Equal(t, "PT10M", shown[9].(map[string]any)["resolution"])
	require.Equal(t, 1.0, series(9)[0].(map[string]any)["split"])
	require.Equal(t, "d3", series(1)[1].(map[string]any)["device"])

	now := a.ok(http.MethodPost, "/api/explorerQueries/data", `{"configuration":{"devices":["d1"],"capabilities":[{"capability":"temperature","aggregateFunction":"min"}],"queryRange":{"type":"time","duration":"P30D"}},"to":"2026-11-23T13:00:00Z"}`)
	require.Equal(t, [][2]any{{-12 * 3600, 5.0}}, points(now["series"].([]any)[0]))
	require.Equal(t, "P1D", now["resolution"], "at most 50 points")
}

// TestLastKnownValuesHoweverOld: what has not been sent for long is in the table of
// latest values.
func TestLastKnownValuesHoweverOld(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	a.insert("default", [3]any{"d1", -90 * 24 * 3600, `{"temperature":10,"place":{"lat":1,"lon":2}}`}, [3]any{"d1", -80 * 24 * 3600, `{"temperature":11.5}`})
	a.addUp("temperature", "place.lat", "place.lon")
	a.ok(http.MethodPut, "/api/dashboards/d", `{"displayName":"D","tiles":[`+tile(`{"type":"lkv","devices":["d1"],"capabilities":[{"capability":"temperature"},{"capability":"place"},{"capability":"place.lon"}]}`)+`]}`)
	series := a.ok(http.MethodGet, "/api/dashboards/d/data", "")["tiles"].([]any)[0].(map[string]any)["series"].([]any)
	require.Len(t, series, 3)
	require.Equal(t, [][2]any{{-80 * 24 * 3600, 11.5}}, points(series[0]))
	require.Equal(t, [][2]any{{-90 * 24 * 3600, map[string]any{"lat": 1.0, "lon": 2.0}}}, points(series[1]))
	require.Equal(t, [][2]any{{-90 * 24 * 3600, 2.0}}, points(series[2]))
}
