package projections

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/projections/schema"
)

// jsonName favours names that meet again, with the characters that mean something
// in ClickHouse's paths.
func jsonName() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "a.b", "a.b.c", "", ".", "a.", "`", "[]", "a[]", "\"", "\\", "null", "ä", "\u0000"}), rapid.String())
}

// jsonValue is the text of any JSON value: duplicate names, mixed types, numbers
// at the edges.
func jsonValue(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		kind := rapid.IntRange(0, 9).Draw(t, "kind")
		if depth == 0 {
			kind %= 6
		}
		switch kind {
		case 0:
			return rapid.SampledFrom([]string{"null", "true", "false", "-0", "0.0", "1E5", "1e-999", "-1.5e+300", "9223372036854775808"}).Draw(t, "literal")
		case 1:
			return fmt.Sprint(rapid.Int64().Draw(t, "int"))
		case 2:
			return fmt.Sprint(rapid.Uint64().Draw(t, "uint"))
		case 3:
			f := rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).Draw(t, "float")
			return fmt.Sprint(f)
		case 4, 5:
			return quote(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"2026-01-02", "2026-01-02T03:04:05Z", "10:00", "1", "true", "\U0001F600"})).Draw(t, "text"))
		case 6, 7:
			return "[" + strings.Join(rapid.SliceOfN(jsonValue(depth-1), 0, 4).Draw(t, "array"), ",") + "]"
		default:
			return jsonObject(depth-1).Draw(t, "object")
		}
	})
}

func jsonObject(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var members []string
		for range rapid.IntRange(0, 5).Draw(t, "members") {
			members = append(members, quote(jsonName().Draw(t, "name"))+":"+jsonValue(depth).Draw(t, "value"))
		}
		return "{" + strings.Join(members, ", ") + "}"
	})
}

func quote(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(quoted)
}

// TestClickHouseTakesAnyObject: no device can write an object that passes our
// check and makes ClickHouse refuse the block it is in.
func TestClickHouseTakesAnyObject(t *testing.T) {
	addr, database := enginetest.ClickHouse(t)
	conn, err := clickhouse.Open(t.Context(), clickhouse.Config{Addr: addr, Database: database})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, schema.Migrate(t.Context(), conn))
	sink := &clickHouse{conn, &telemetry}
	rapid.Check(t, func(t *rapid.T) {
		b := newBlock(0, &telemetry)
		for i, object := range rapid.SliceOfN(jsonObject(3), 1, 20).Draw(t, "objects") {
			require.NoError(t, checkBody([]byte(object)), object)
			r := goodRecord()
			r.Offset, r.Value = int64(i), []byte(object)
			b.add(r, recordTime)
		}
		require.NoError(t, sink.insert(t.Context(), b.rows, ""))
	})
}
