package fleetql

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const window = "'2021-06-13T13:00:00Z/2021-06-13T15:30:00Z'"

// examples are the shapes of IoT Central's documentation (FEATURES.md QRY-02, QRY-10),
// and ours.
var examples = []string{
	`SELECT $id, $ts, temperature AS t, pressure AS p FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(P1D) AND t > 0 AND p > 50 AND $id IN ['sample-002','sample-003']`,
	`SELECT AVG(temperature), AVG(pressure) FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(P1D) AND $id='sample-001' GROUP BY WINDOW(PT10M)`,
	`SELECT TOP 10 $id AS ID, $ts AS timestamp, temperature FROM dtmi:x:y;1 ORDER BY timestamp DESC`,
	`SELECT deviceInformation.model, deviceInformation.swVersion FROM dtmi:x:y;1`,
	`SELECT SUM(a), MAX(a), MIN(a), COUNT(a), FIRST(a), LAST(a) FROM dtmi:x:y;1 WHERE WITHIN_WINDOW(` + window + `) GROUP BY WINDOW(PT5H)`,
	`explain select stddev(a), percentile(a, 99.5) as p99 from dtmi:x:y;1, dtmi:x:z;2 as of '2026-01-01T00:00:00Z' where not (a is null or b like 'x%') group by $id, window(P1W) fill(linear) order by p99 desc, $id asc`,
	`SELECT $id FROM devices WHERE $id IN GROUP 'west' AND CONTAINS($displayName, "a") AND floor NOT IN (1, -2.5e3, 'x''y', true) AND STARTS_WITH(name, '') AND enabled <> false`,
}

func TestParse(t *testing.T) {
	for _, text := range examples {
		_, err := Parse(text)
		require.NoError(t, err, text)
	}
	q, err := Parse(examples[0])
	require.NoError(t, err)
	require.Equal(t, []string{"$id", "$ts", "t", "p"}, keys(q))
	at := func(part string) Pos { return Pos(strings.Index(examples[0], part)) }
	require.Equal(t, []Source{{at("dtmi"), "dtmi:x:y;1"}}, q.From)
	require.Equal(t, And{
		Within{Pos: at("WITHIN"), Last: 24 * time.Hour}, Compare{Ref{at("t > 0"), "t"}, ">", Value{at("0 AND"), 0.0}}, Compare{Ref{at("p > 50"), "p"}, ">", Value{at("50"), 50.0}},
		In{Ref{at("$id IN"), "$id"}, []Value{{at("'sample-002"), "sample-002"}, {at("'sample-003"), "sample-003"}}},
	}, q.Where)
	q, err = Parse(examples[1])
	require.NoError(t, err)
	require.Equal(t, []string{"avg_temperature", "avg_pressure"}, keys(q))
	require.Equal(t, 10*time.Minute, q.Window)
	q, err = Parse(examples[5])
	require.NoError(t, err)
	require.True(t, q.Explain)
	require.Equal(t, []string{"stddev_a", "p99"}, keys(q))
	require.Equal(t, "LINEAR", q.Fill.How)
	require.Equal(t, []bool{true, false}, []bool{q.Order[0].Descending, q.Order[1].Descending})
	require.Equal(t, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), *q.AsOf)
	require.Equal(t, 7*24*time.Hour, q.Window)
}

func keys(q *Query) (all []string) {
	for _, it := range q.Items {
		all = append(all, it.Key())
	}
	return all
}

// TestErrorsSayWhereAndWhat has the place, and what would be right there.
func TestErrorsSayWhereAndWhat(t *testing.T) {
	for text, want := range map[string]string{
		``:                                                 "1:1: expected SELECT, but the query ends",
		`SELECT`:                                           "1:7: expected a name or a function to select, but the query ends",
		`SELECT * FROM devices`:                            "1:8: * cannot be selected",
		`SELECT a`:                                         "1:9: expected FROM",
		`SELECT a, FROM devices`:                           "1:16: expected FROM, not devices",
		"SELECT a\nFROM x":                                 "2:6: expected the id of a device template",
		`SELECT TOP 0 a FROM devices`:                      "1:12: expected a whole number after TOP",
		`SELECT MEAN(a) FROM devices`:                      "1:8: there is no function MEAN",
		`SELECT PERCENTILE(a, 101) FROM devices`:           "1:22: expected a number from 0 to 100",
		`SELECT a AS b.c FROM devices`:                     "1:13: expected an alias",
		`SELECT a FROM devices WHERE`:                      "1:28: expected a name",
		`SELECT a FROM devices WHERE a`:                    "1:30: expected =, !=",
		`SELECT a FROM devices WHERE a = `:                 "1:33: expected a value",
		`SELECT a FROM devices WHERE a = NULL`:             "write a IS NULL",
		`SELECT a FROM devices WHERE a = 'x`:               "1:33: the text has no closing '",
		`SELECT a FROM devices WHERE a = 1 b`:              "1:35: expected AND, OR",
		`SELECT a FROM devices WHERE (a = 1`:               "1:35: expected ')'",
		`SELECT a FROM devices WHERE a IN []`:              "1:35: expected a value",
		`SELECT a FROM devices WHERE a IN (1]`:             "1:36: expected a comma or ')'",
		`SELECT a FROM devices WHERE WITHIN_WINDOW(P1Y)`:   "1:43: \"P1Y\" is not a duration",
		`SELECT a FROM devices WHERE WITHIN_WINDOW('a/b')`: "is not a time",
		`SELECT a FROM devices WHERE WITHIN_WINDOW('2026-01-02T00:00:00Z/2026-01-01T00:00:00Z')`: "ends",
		`SELECT a FROM devices AS OF 'yesterday'`:                                                "1:29: \"yesterday\" is not a time",
		`SELECT a FROM devices GROUP BY WINDOW(PT1M), WINDOW(PT1M)`:                              "1:46: there is a WINDOW already",
		`SELECT a FROM devices GROUP BY a FILL(x)`:                                               "1:39: expected NULL, PREVIOUS, LINEAR or a number",
		`SELECT a FROM devices ORDER BY a, `:                                                     "1:35: expected a name or an item",
		`SELECT é FROM devices`:                                                                  "1:8: unexpected character 'é'",
		`SELECT a FROM devices; DROP TABLE x`:                                                    "1:22: unexpected character ';'",
		"SELECT a`b FROM devices":                                                                "1:9: unexpected character '`'",
		`SELECT a FROM devices WHERE ` + strings.Repeat("(", 100):                                "nest deeper",
		"SELECT a FROM devices WHERE a = '\xff'":                                                 "not UTF-8",
		strings.Repeat(" ", MaxBytes+1):                                                          "use at most",
		`SELECT ` + strings.Repeat("a, ", 200) + `b FROM devices`:                                "more than 100 items",
	} {
		_, err := Parse(text)
		require.Error(t, err, text)
		require.Contains(t, err.Error(), want, text)
		var located *Error
		require.True(t, errors.As(err, &located))
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"PT10M": 10 * time.Minute, "P1D": 24 * time.Hour, "P2DT12H": 60 * time.Hour, "P1W": 168 * time.Hour, "PT5H": 5 * time.Hour, "PT1S": time.Second} {
		got, ok := Duration(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "P", "PT", "1D", "P1M", "P1Y", "PT0S", "P9999D", "p1d", "P1DT"} {
		_, ok := Duration(text)
		require.False(t, ok, text)
	}
}

// FuzzParse has any text end in a query or in an error that says where.
func FuzzParse(f *testing.F) {
	for _, text := range examples {
		f.Add(text)
	}
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			var located *Error
			require.ErrorAs(t, err, &located)
			require.Positive(t, located.Line*located.Column)
			return
		}
		require.NotEmpty(t, q.Items)
		for _, it := range q.Items {
			require.Regexp(t, Name, it.Of.Name)
			require.NotEmpty(t, it.Key())
		}
		require.NotEmpty(t, fmt.Sprint(q))
	})
}
