package query

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// devicesTable is the table as the projection's migration makes it, with that of the
// devices' versions.
func devicesTable(t testing.TB, db *clickhouse.Conn) {
	t.Helper()
	for _, file := range []string{"0003_devices", "0009_device_versions"} {
		ddl, err := os.ReadFile("../projections/schema/migrations/" + file + ".sql")
		require.NoError(t, err)
		require.NoError(t, db.Exec(t.Context(), strings.ReplaceAll(string(ddl), "{database}", db.Database())))
	}
}

// deviceRow is a state as the projection writes it.
func deviceRow(s *eventsv1.DeviceState) (map[string]any, error) {
	properties, err := device.PropertiesOf(s, "")
	if err != nil {
		return nil, err
	}
	tags := json.RawMessage("{}")
	if len(s.GetTags()) > 0 {
		tags = s.GetTags()
	}
	row := map[string]any{
		"tenant": s.GetTenant(), "device": s.GetDevice(), "display_name": s.GetDisplayName(), "template": s.GetTemplate(), "enabled": s.GetEnabled(),
		"provisioned": s.GetProvisioned(), "simulated": s.GetSimulated(), "edge": s.GetEdge(), "waiting": s.GetWaiting(),
		"connected": s.GetSelf().GetConnection().GetConnected(), "enrollment_group": s.GetEnrollmentGroup(), "model_id": cmp.Or(s.GetSelf().GetTwin().GetModelId(), s.GetModelId()), "parent": s.GetParent(),
		"tags": tags, "properties": properties.Values(), "version": s.GetVersion(), "revision": s.GetRevision(), "deleted": 0,
	}
	if ids := s.GetOrganizations(); len(ids) > 0 {
		row["organization"] = ids[0]
	}
	if s.GetDeleted() {
		row["deleted"] = 1
	}
	return row, nil
}

// insertDevices writes rows of the states.
func insertDevices(ctx context.Context, engine, database string, states ...*eventsv1.DeviceState) error {
	var rows []map[string]any
	for _, s := range states {
		row, err := deviceRow(s)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return insertRows(ctx, engine, database, "devices", rows...)
}

func insertRows(ctx context.Context, engine, database, table string, rows ...map[string]any) error {
	var body bytes.Buffer
	for _, row := range rows {
		if err := json.NewEncoder(&body).Encode(row); err != nil {
			return err
		}
	}
	at := "http://" + engine + "/?" + url.Values{
		"database": {database}, "query": {"INSERT INTO " + table + " FORMAT JSONEachRow"}, "input_format_try_infer_dates": {"0"}, "input_format_try_infer_datetimes": {"0"},
	}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, &body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("insert into %s: %s", table, answer)
	}
	return nil
}

// insertVersion writes the row of a snapshot.
func (a *api) insertVersion(ctx context.Context, r *kgo.Record, snapshot *eventsv1.DeviceSnapshot) error {
	row, err := deviceRow(snapshot.GetState())
	if err != nil || snapshot.GetState().GetVersion() == 0 {
		return err
	}
	row["at"], row["partition"], row["offset"] = snapshot.GetTime().AsTime().Format("2006-01-02 15:04:05.000000"), r.Partition, r.Offset
	return insertRows(ctx, a.engine, a.db.Database(), "device_versions", row)
}

// projectDevices fills the table from the log, as the projection of another room
// does. It stands still while a test holds the lock.
func (a *api) projectDevices() *sync.Mutex {
	a.t.Helper()
	devicesTable(a.t, a.db)
	return a.project(func(ctx context.Context, _ *kgo.Record, snapshot *eventsv1.DeviceSnapshot) error {
		return insertDevices(ctx, a.engine, a.db.Database(), snapshot.GetState())
	})
}

// project does it with every snapshot.
func (a *api) project(do func(context.Context, *kgo.Record, *eventsv1.DeviceSnapshot) error) *sync.Mutex {
	a.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(a.t.Context()))
	held, ended := new(sync.Mutex), make(chan error, 1)
	go func() {
		ended <- a.log.Follow(ctx, eventlog.DeviceState, func(r *kgo.Record) {
			held.Lock()
			defer held.Unlock()
			snapshot := new(eventsv1.DeviceSnapshot)
			err := proto.Unmarshal(r.Value, snapshot)
			if err == nil && ctx.Err() == nil {
				err = do(ctx, r, snapshot)
			}
			if err != nil && ctx.Err() == nil {
				panic(err)
			}
		}, func() {})
	}()
	a.t.Cleanup(func() {
		stop()
		require.NoError(a.t, <-ended)
	})
	return held
}

// TestFilterSQLAnswersAsTheFilterDoes compares both on devices and filters of every
// kind, and the pages of a list with the whole.
func TestFilterSQLAnswersAsTheFilterDoes(t *testing.T) {
	addr, database := enginetest.ClickHouse(t)
	db, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	devicesTable(t, db)
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		tenant := fmt.Sprintf("tenant-%d", round)
		states := drawStates(r, tenant, 2)
		require.NoError(r, insertDevices(t.Context(), addr, database, states...))
		require.NoError(r, insertDevices(t.Context(), addr, database, drawStates(r, tenant, 1)[:1]...), "what it was before comes late")
		for range 5 {
			e := drawExpr(r, 0)
			var want []string
			for _, s := range states {
				d, err := devicefilter.DeviceOf(s)
				require.NoError(r, err)
				if !s.GetDeleted() && devicefilter.Match(e, d) {
					want = append(want, s.GetDevice())
				}
			}
			page := fleetPage{filter: e, order: drawOrder(r), size: rapid.IntRange(1, 30).Draw(r, "size"), of: "x", scope: access.WholeTenant()}
			got := allPages(t, r, db, tenant, page)
			require.ElementsMatch(r, want, got, "%#v", e)
			f := fleet{db: db}
			sql := filterSQL{parameters: map[string]string{"tenant": tenant}}
			var n uint64
			require.NoError(r, f.query(t.Context(), plan{
				sql: "SELECT count() FROM devices FINAL WHERE tenant = {tenant:String} AND " + sql.condition(e), parameters: sql.parameters,
			}, func(rows driver.Rows) error { return rows.Scan(&n) }))
			require.EqualValues(r, len(want), n)
		}
	})
}

// allPages follows a list to its end.
func allPages(t *testing.T, r *rapid.T, db *clickhouse.Conn, tenant string, page fleetPage) []string {
	var all []string
	for {
		p, at, err := planDevices(tenant, page)
		require.NoError(r, err)
		rows, more := 0, false
		require.NoError(r, ask(t.Context(), db, p.sql, p.parameters, func(found driver.Rows) error {
			if rows++; rows > p.size {
				more = true
				return nil
			}
			var id string
			err := found.Scan(&id, &at.After)
			all = append(all, id)
			return err
		}))
		if !more {
			return all
		}
		page.token = encodeToken(at)
	}
}

// words are texts that languages could trip over.
var words = []string{
	"a", "A", "Ab", "b", "ä", "Ä", "a%b", "a_b", `a\b`, `\N`, "tab\tand\nline", "it's", `"q"`, "`", "x\x00y", "", " ", "1", "true", "null", "2026-01-31", "2026-02-31",
	"2026-01-31T10:00:00Z", "2026-01-31T10:00:00.123456789+02:00", "2026-01-31 10:00:00", "日本", "{f0:String}",
}

var segments = []string{"p", "q", "a b", "Int64", "null", "size0", "日"}

func drawJSON(r *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 9).Draw(r, "kind")
	switch {
	case kind < 3:
		return rapid.SampledFrom(words).Draw(r, "text")
	case kind < 6:
		return rapid.SampledFrom([]float64{0, -1, 1, 1.5, 0.1, 0.30000000000000004, 1e300, -2.5e-7, 9007199254740993, 1e19}).Draw(r, "number")
	case kind == 6:
		return rapid.Bool().Draw(r, "flag")
	case kind == 7:
		return nil
	case kind == 8 || depth > 1:
		return []any{1.0, "a"}
	}
	return drawObject(r, depth+1)
}

func drawObject(r *rapid.T, depth int) map[string]any {
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(r, "members") {
		object[rapid.SampledFrom(segments).Draw(r, "name")] = drawJSON(r, depth)
	}
	return object
}

func drawStates(r *rapid.T, tenant string, revision uint64) []*eventsv1.DeviceState {
	states := make([]*eventsv1.DeviceState, rapid.IntRange(1, 40).Draw(r, "devices"))
	flag := func() bool { return rapid.Bool().Draw(r, "flag") }
	word := func() string { return rapid.SampledFrom(words).Draw(r, "word") }
	object := func() []byte {
		content, err := json.Marshal(drawObject(r, 0))
		require.NoError(r, err)
		return content
	}
	for i := range states {
		states[i] = &eventsv1.DeviceState{
			Tenant: tenant, Device: fmt.Sprintf("d-%03d", i), DisplayName: word(), Template: word(), Enabled: flag(), Provisioned: flag(), Simulated: flag(), Edge: flag(),
			Waiting: flag(), EnrollmentGroup: word(), ModelId: word(), Parent: word(), Organizations: []string{word()}, Tags: object(), Cloud: object(), Revision: revision,
			Deleted: revision > 1 && rapid.IntRange(0, 9).Draw(r, "deleted") == 9,
			Self:    &eventsv1.Identity{Connection: &eventsv1.Connection{Connected: flag()}, Twin: &eventsv1.Twin{Reported: object(), ModelId: word()}},
		}
	}
	return states
}

func drawExpr(r *rapid.T, depth int) devicefilter.Expr {
	kind := rapid.IntRange(0, 5).Draw(r, "expression")
	if kind > 1 || depth > 2 {
		return drawCondition(r)
	}
	all := make([]devicefilter.Expr, rapid.IntRange(0, 3).Draw(r, "expressions"))
	for i := range all {
		all[i] = drawExpr(r, depth+1)
	}
	if kind == 0 {
		return devicefilter.And(all)
	}
	return devicefilter.Or(all)
}

// drawCondition writes a query and has it parsed, so that there is no condition that
// people could not write.
func drawCondition(r *rapid.T) devicefilter.Expr {
	quote := func(content any) string {
		text, err := json.Marshal(content)
		require.NoError(r, err)
		return string(text)
	}
	path := func() string {
		var quoted []string
		for range rapid.IntRange(1, 2).Draw(r, "depth") {
			quoted = append(quoted, "`"+rapid.SampledFrom(segments).Draw(r, "segment")+"`")
		}
		return strings.Join(quoted, ".")
	}
	word := func() string { return quote(rapid.SampledFrom(words).Draw(r, "text")) }
	scalar := func() string {
		for {
			if v := drawJSON(r, 2); v != nil {
				if _, list := v.([]any); !list {
					return quote(v)
				}
			}
		}
	}
	oneOf := func(all ...string) string { return rapid.SampledFrom(all).Draw(r, "one") }
	function := func(field string) string {
		return oneOf("CONTAINS", "STARTS_WITH", "ENDS_WITH") + "(" + field + ", " + word() + ")"
	}
	var where string
	switch field := oneOf("$id", "$displayName", "$template", "$organization", "$enrollmentGroup", "$modelId", "$parent"); rapid.IntRange(0, 10).Draw(r, "condition") {
	case 0:
		where = oneOf("$enabled", "$provisioned", "$simulated", "$edge", "$waiting", "$connected") + oneOf("=true", "!=true", " IN (true,false)", " IS NULL", " = false")
	case 1:
		where = field + oneOf("=", "!=", "<", "<=", ">", ">=") + word()
	case 2:
		where = field + oneOf(" IN (", " NOT IN (") + word() + "," + word() + ")"
	case 3:
		where = function(field)
	case 4:
		where = field + oneOf(" IS NULL", " IS NOT NULL", " MATCHES \"^[a-b]\"", " NOT MATCHES \"a.b|and.line\"")
	default:
		field = oneOf("", "$tags.") + path()
		switch rapid.IntRange(0, 5).Draw(r, "dynamic") {
		case 0:
			where = field + oneOf("=", "!=") + scalar()
		case 1:
			where = field + oneOf("<", "<=", ">", ">=") + oneOf(word(), quote(1.5), "0.1", `"2026-01-31"`, `"2026-01-31T08:00:00.123456Z"`)
		case 2:
			where = field + oneOf(" IN (", " NOT IN (") + scalar() + "," + scalar() + "," + scalar() + ")"
		case 3:
			where = function(field)
		case 4:
			where = field + oneOf(" IS NULL", " IS NOT NULL")
		case 5:
			where = field + oneOf(" MATCHES ", " NOT MATCHES ") + oneOf(`"^a"`, `"[0-9]+"`, `"(?i)B$"`)
		}
	}
	e, err := devicefilter.ParseGroup("SELECT * FROM devices WHERE " + oneOf("", "NOT ") + where)
	require.NoError(r, err)
	return e
}

func drawOrder(r *rapid.T) []devicefilter.Order {
	var order []devicefilter.Order
	for _, a := range []devicefilter.Attribute{devicefilter.DisplayName, devicefilter.Enabled, devicefilter.Template, devicefilter.ID} {
		if rapid.Bool().Draw(r, "order") {
			order = append(order, devicefilter.Order{Attribute: a, Descending: rapid.Bool().Draw(r, "descending")})
		}
	}
	return slices.Clip(order)
}
