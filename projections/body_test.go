package projections

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/projections/schema"
)

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
}

// bodies are payloads a device may send, and what is wrong with them; nothing
// where the wrong is empty.
var bodies = []struct{ name, body, wrong string }{
	{"object", `{"temperature":21.5,"deep":{"a":[1,"x",{"b":null}]},"ok":true}`, ""},
	{"empty object", `{}`, ""},
	{"space around", " \r\n\t{\"a\":1} ", ""},
	{"duplicate names", `{"a":1,"a":{"b":2}}`, ""},
	{"a dot and an object of the same path", `{"a":{"b":1},"a.b":2}`, ""},
	{"empty name", `{"":1}`, ""},
	{"largest Int64", `{"a":9223372036854775807,"b":-9223372036854775808}`, ""},
	{"largest UInt64", `{"a":18446744073709551615}`, ""},
	{"many digits in a float", `{"a":0.12345678901234567890123,"b":123456789012345678901.5,"c":1e308}`, ""},
	{"tiny float", `{"a":1e-400}`, ""},
	{"surrogate pair", `{"a":"\ud83d\ude00","b":"\uD83D\uDE00"}`, ""},
	{"digits in text", `{"a":"18446744073709551616 1e400 \\ud800 [[[[ \" 1e400"}`, ""},
	{"as deep as allowed", nested(maxDepth), ""},

	{"nothing", "", "empty"},
	{"space", " \n", "empty"},
	{"cut off", `{"a":`, "not JSON at byte 4"},
	{"two objects", `{"a":1}{"b":2}`, "not JSON at byte 7"},
	{"text behind", `{"a":1} x`, "not JSON at byte 8"},
	{"single quotes", `{'a':1}`, "not JSON at byte 1"},
	{"NaN", `{"a":NaN}`, "not JSON at byte 5"},
	{"leading zero", `{"a":01}`, "not JSON at byte 6"},
	{"control character", "{\"a\":\"\x01\"}", "not JSON at byte 6"},
	{"byte order mark", "\ufeff{\"a\":1}", "not JSON at byte 0"},
	{"protobuf", "\x0a\x03abc", "not JSON"},
	{"not UTF-8", "{\"a\":\"\xff\"}", "not UTF-8 at byte 6"},
	{"number", ` 42`, "not an object at byte 1"},
	{"text", `"x"`, "not an object"},
	{"null", `null`, "not an object"},
	{"array", `[{"a":1}]`, "not an object"},
	{"larger than UInt64", `{"a":18446744073709551616}`, "byte 5: whole number is too large"},
	{"smaller than Int64", `{"a":-9223372036854775809}`, "byte 5: whole number is too large"},
	{"exponent too large", `{"a":1e400}`, "byte 5: number is too large"},
	{"negative exponent too large", `{"a":[1,-1E+400]}`, "byte 8: number is too large"},
	{"half a surrogate pair", `{"a":"x\ud800"}`, "byte 7: half a surrogate pair"},
	{"the other half", `{"a":"\udc00"}`, "byte 6: half a surrogate pair"},
	{"two first halves", `{"a":"\ud800\ud800"}`, "byte 6: half a surrogate pair"},
	{"half a pair at the end", `{"a":"\ud800\u"}`, "not JSON"},
	{"too deep", nested(maxDepth + 1), "nest deeper than 128"},
	{"hostile depth", strings.Repeat("[", 1<<20), "nest deeper than 128"},
}

func TestBodies(t *testing.T) {
	for _, test := range bodies {
		t.Run(test.name, func(t *testing.T) {
			err := checkBody([]byte(test.body))
			if test.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.wrong)
			}
		})
	}
}

// inserter gives a function that inserts a body alone.
func inserter(t testing.TB) func(body []byte) error {
	t.Helper()
	addr, database := enginetest.ClickHouse(t)
	conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, schema.Migrate(t.Context(), conn))
	sink := &clickHouse{conn, &telemetry}
	return func(body []byte) error {
		b := newBlock(0, &telemetry)
		b.add(goodRecord(), recordTime)
		b.filler.(*telemetryRows).body.of[0] = body // unchecked
		return sink.insert(context.Background(), b.rows, "")
	}
}

// TestClickHouseAgreesAboutBodies: what passes the check is taken, so that no
// device can make ClickHouse refuse a block; what does not pass for a reason
// ClickHouse gives is refused by it too, so that nothing is refused in vain.
func TestClickHouseAgreesAboutBodies(t *testing.T) {
	insert := inserter(t)
	for _, test := range bodies {
		t.Run(test.name, func(t *testing.T) {
			err := insert([]byte(test.body))
			if test.wrong == "" {
				require.NoError(t, err)
			} else if strings.Contains(test.wrong, "too large") || strings.Contains(test.wrong, "surrogate") || strings.Contains(test.wrong, "not JSON") {
				if test.name == "byte order mark" {
					return // stricter than ClickHouse (RFC 8259 §8.1)
				}
				require.True(t, isRefusal(err), "%v", err)
			}
		})
	}
}

// TestColumnsAreTheTables: names and types as ClickHouse has them, for else it
// would convert.
func TestColumnsAreTheTables(t *testing.T) {
	addr, database := enginetest.ClickHouse(t)
	conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, schema.Migrate(t.Context(), conn))
	for _, table := range []*table{&telemetry, &deviceEvents, &devices, &deviceStateHistory} {
		b := newBlock(0, table)
		for _, c := range b.rows.columns {
			name, want := c.about()
			var kind string
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT type FROM system.columns WHERE database = ? AND table = ? AND name = ?", database, table.name, name).Scan(&kind), name)
			require.Equal(t, kind, want, "%s.%s", table.name, name)
		}
		var columns uint64
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count() FROM system.columns WHERE database = ? AND table = ?", database, table.name).Scan(&columns))
		require.Len(t, b.rows.columns, int(columns), table.name)
	}
}

// FuzzBody: no input crashes or overflows the stack, and what passes is JSON by
// the standard library's strict parser.
func FuzzBody(f *testing.F) {
	for _, test := range bodies {
		if len(test.body) < 1<<10 {
			f.Add([]byte(test.body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkBody(body) == nil && !json.Valid(body) {
			t.Fatalf("passes, but is not JSON: %q", body)
		}
	})
}

// FuzzBodyAgainstClickHouse: whatever passes the check ClickHouse takes.
func FuzzBodyAgainstClickHouse(f *testing.F) {
	for _, test := range bodies {
		if len(test.body) < 1<<10 {
			f.Add([]byte(test.body))
		}
	}
	insert := inserter(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkBody(body) != nil {
			return
		}
		if err := insert(body); err != nil {
			t.Fatalf("passes, but ClickHouse refuses it: %q: %v", body, err)
		}
	})
}

func BenchmarkCheckBody(b *testing.B) {
	for name, body := range map[string]string{
		"meter": `{"pulseCounter":123456,"leakage":false,"batteryLevel":87}`,
		"mixed": `{"pulseCounter":123456,"leakage":false,"batteryLevel":87,"site":"building-12","temperature":21.5,"ok":true,"nested":{"a":[1,2,3],"b":"text with spaces"}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := checkBody([]byte(body)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
