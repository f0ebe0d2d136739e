package query

import (
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/devicefilter"
	"github.com/fleetlog/fleetlog/internal/template"
	"github.com/fleetlog/fleetlog/query/fleetql"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// anyName draws a name that means something for devices of the template machines.
func anyName(t *rapid.T) string {
	return rapid.SampledFrom([]string{
		"temperature", "pressure", "on", "state", "place", "place.lat", "floor", "owner", "deviceInformation.model", "deviceInformation.load", "$id", "$ts",
		"$displayName", "$template", "$provisioned", "$enabled", "$organization", "$tags.hall", "$property.extra", "$telemetry.extra",
	}).Draw(t, "name")
}

func anyValue(t *rapid.T) string {
	return rapid.SampledFrom([]string{"1", "-2.5e3", "'a'", `"it's"`, "true", "false", "'2026-11-23T12:00:00Z'", "''", `'\'`, "1e300"}).Draw(t, "value")
}

func anyCondition(t *rapid.T, depth int) string {
	kinds := 10
	if depth == 0 {
		kinds = 7
	}
	name := anyName(t)
	switch rapid.IntRange(0, kinds-1).Draw(t, "condition") {
	case 0, 1:
		return name + " " + rapid.SampledFrom([]string{"=", "!=", "<>", "<", "<=", ">", ">="}).Draw(t, "operator") + " " + anyValue(t)
	case 2:
		return name + " IN [" + anyValue(t) + ", " + anyValue(t) + "]"
	case 3:
		return rapid.SampledFrom([]string{"CONTAINS(" + name + ", 'a')", "STARTS_WITH(" + name + ", '%')", name + " LIKE 'a%_'", name + " NOT LIKE '\\'"}).Draw(t, "match")
	case 4:
		return name + rapid.SampledFrom([]string{" IS NULL", " IS NOT NULL"}).Draw(t, "is")
	case 5:
		return "WITHIN_WINDOW(" + rapid.SampledFrom([]string{"P1D", "PT90S", "P520W", day, "'2026-11-23T12:00:30Z/2026-11-23T12:07:00.5Z'"}).Draw(t, "window") + ")"
	case 6:
		return "IN GROUP 'first'"
	case 7:
		return "NOT " + anyCondition(t, depth-1)
	case 8:
		return "(" + anyCondition(t, depth-1) + " OR " + anyCondition(t, depth-1) + ")"
	}
	return anyCondition(t, depth-1) + " AND " + anyCondition(t, depth-1)
}

// anyQuery draws a query that the parser takes.
func anyQuery(t *rapid.T) string {
	maybe := func(what string) bool { return rapid.Bool().Draw(t, what) }
	var items, groups, orders []string
	grouped := maybe("group")
	if grouped {
		groups = rapid.SliceOfN(rapid.Custom(anyName), 0, 2).Draw(t, "groups")
	}
	for i, name := range groups {
		items = append(items, fmt.Sprintf("%s AS g%d", name, i))
		orders = append(orders, fmt.Sprintf("g%d", i), name)
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "items") {
		name := anyName(t)
		item := name
		switch f := rapid.SampledFrom([]string{"", "SUM", "MIN", "MAX", "COUNT", "AVG", "FIRST", "LAST", "STDDEV", "PERCENTILE"}).Draw(t, "function"); {
		case f == "PERCENTILE" && grouped:
			item = "PERCENTILE(" + name + ", 95.5)"
		case f != "" && grouped:
			item = f + "(" + name + ")"
		}
		items = append(items, fmt.Sprintf("%s AS i%d", item, i))
		orders = append(orders, fmt.Sprintf("i%d", i), item, anyName(t))
	}
	query := "SELECT "
	fill := ""
	if grouped && (maybe("window") || len(groups) == 0) {
		groups = append(groups, "WINDOW("+rapid.SampledFrom([]string{"PT1S", "PT1M", "PT10M", "PT1H", "P1D", "PT7M"}).Draw(t, "width")+")")
		if maybe("fill") {
			fill = " FILL(" + rapid.SampledFrom([]string{"NULL", "PREVIOUS", "LINEAR", "0", "-1.5"}).Draw(t, "fill") + ")"
		}
	}
	if maybe("top") {
		query += "TOP 5 "
	}
	query += strings.Join(items, ", ") + " FROM " + rapid.SampledFrom([]string{"dtmi:x:y;1", "devices"}).Draw(t, "from")
	if maybe("as of") {
		query += " AS OF '2026-11-23T12:00:00Z'"
	}
	if maybe("where") {
		query += " WHERE " + anyCondition(t, 2)
	}
	if len(groups) > 0 {
		query += " GROUP BY " + strings.Join(groups, ", ") + fill
	}
	if maybe("order") {
		query += " ORDER BY " + rapid.SampledFrom(orders).Draw(t, "order") + rapid.SampledFrom([]string{"", " DESC"}).Draw(t, "descending")
	}
	return query
}

// TestAnyQueryIsAnsweredOrRefused: ClickHouse takes whatever is made of a query, in
// every format; what cannot be answered is refused with the place in the query.
func TestAnyQueryIsAnsweredOrRefused(t *testing.T) {
	a := asked(t)
	if !a.has("device_versions") {
		require.NoError(t, a.db.Exec(t.Context(), "CREATE TABLE device_versions AS devices"))
		require.NoError(t, a.db.Exec(t.Context(), "ALTER TABLE device_versions ADD COLUMN at DateTime64(6, 'UTC')"))
	}
	answered := 0
	rapid.Check(t, func(r *rapid.T) {
		query := anyQuery(r)
		more := rapid.SampledFrom([]string{"", `,"format":"csv"`, `,"format":"arrow"`, `,"maxpagesize":2`}).Draw(r, "more")
		code, answer, _ := a.call(http.MethodPost, "/api/query", fmt.Sprintf(`{"query":%q%s}`, query, more))
		switch code {
		case http.StatusOK:
			answered++
		case http.StatusBadRequest:
			require.Regexp(r, regexp.MustCompile(`^\d+:\d+: `), message(answer), query)
		default:
			r.Fatalf("%d for %s %s: %v", code, query, more, answer)
		}
	})
	require.Greater(t, answered, 10)
}

// has reports whether there is such a table.
func (a *api) has(table string) bool {
	a.t.Helper()
	var n uint64
	require.NoError(a.t, a.db.QueryRow(a.t.Context(), "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = ?", table).Scan(&n))
	return n > 0
}

var placeholder = regexp.MustCompile(`\{(\w+):[A-Za-z0-9()]+\}`)

// FuzzQuestions has any text become a statement with all its parameters, or an error;
// what is in quotes never gets into the statement.
func FuzzQuestions(f *testing.F) {
	machine, err := template.Parse([]byte(machines))
	require.NoError(f, err)
	group, err := devicefilter.ParseGroup(`SELECT * FROM devices WHERE owner = "o1"`)
	require.NoError(f, err)
	for i := range 50 {
		f.Add(rapid.Custom(anyQuery).Example(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, text string, paged bool) {
		parsed, err := fleetql.Parse(text)
		if err != nil {
			return
		}
		q := &question{
			Query: parsed, text: text, now: noon, limit: 100, filterSQL: filterSQL{parameters: map[string]string{"tenant": "t"}, scope: access.WholeTenant()},
			group: func(string) (devicefilter.Expr, error) { return group, nil },
		}
		if len(parsed.From) > 0 {
			q.templates = []*template.Template{machine}
		}
		if paged {
			q.page = &questionPage{size: 10, pinned: noon.Add(-time.Minute)}
		}
		p, err := q.answer()
		if err != nil {
			return
		}
		used := map[string]bool{}
		for _, found := range placeholder.FindAllStringSubmatch(p.sql, -1) {
			require.Contains(t, p.parameters, found[1])
			used[found[1]] = true
		}
		require.Contains(t, used, "tenant")
		require.NotContains(t, p.sql, ";")
		require.NotContains(t, p.sql, "--")
		require.NotContains(t, p.sql, "/*")
		require.Zero(t, strings.Count(p.sql, "`")%2)
	})
}
