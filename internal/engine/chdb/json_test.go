package chdb

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
)

// tolerantBody are columns that take any text as raw: what ClickHouse's JSON
// type takes goes to body, anything else is kept as it came in malformed. No
// text fails the block it is in.
const tolerantBody = `body JSON DEFAULT ifNull(accurateCastOrNull(raw, 'JSON'), CAST('{}', 'JSON')), raw String EPHEMERAL,
	malformed String DEFAULT if(accurateCastOrNull(raw, 'JSON') IS NULL, raw, '')`

// What ClickHouse's JSON type does with bodies a device may send.
func TestBodiesInJSONColumns(t *testing.T) {
	_, url := startEngine(t)
	conn := connectClient(t, url)
	ask(t, url, "CREATE TABLE tolerant (n Int32, "+tolerantBody+") ENGINE = MergeTree ORDER BY n")
	ask(t, url, "CREATE TABLE strict (n Int32, body JSON) ENGINE = MergeTree ORDER BY n")

	const malformed = ""
	nested := func(depth int) string { return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth) }
	tests := []struct {
		name, body string
		// stored is body as ClickHouse gives it back; malformed (empty) when
		// the JSON type does not take it.
		stored string
	}{
		{"object", `{"a":1,"b":{"c":[1,"x",{"d":null}]}}`, `{"a":1,"b":{"c":[1,"x",{}]}}`},
		{"empty object", `{}`, `{}`},
		{"null is an empty object", `null`, malformed},
		{"null values are dropped", `{"a":null,"b":1}`, `{"b":1}`},
		{"empty objects are dropped, empty arrays are not", `{"a":{},"b":[]}`, `{"b":[]}`},
		{"the first of duplicate keys counts", `{"a":1,"a":2}`, `{"a":1}`},
		{"a dot is a path", `{"a.b":1}`, `{"a":{"b":1}}`},
		{"a dot and an object of the same path", `{"a":{"b":1},"a.b":2}`, `{"a":{"b":1}}`},
		{"scalar and object under one key", `{"a":{"b":1},"a":2}`, `{"a":2,"a":{"b":1}}`},
		{"empty key", `{"":1}`, `{"":1}`},
		{"dates stay text", `{"a":"2024-01-02","b":"2024-01-02T03:04:05Z"}`, `{"a":"2024-01-02","b":"2024-01-02T03:04:05Z"}`},
		{"numbers in text stay text", `{"a":"1"}`, `{"a":"1"}`},
		{"whole floats lose their point", `{"a":1.0,"b":1e3}`, `{"a":1,"b":1000}`},
		{"largest Int64", `{"a":9223372036854775807}`, `{"a":9223372036854775807}`},
		{"largest UInt64", `{"a":18446744073709551615}`, `{"a":18446744073709551615}`},
		{"larger", `{"a":18446744073709551616}`, malformed},
		{"exponent too large", `{"a":1e400}`, malformed},
		{"NaN", `{"a":NaN}`, malformed},
		{"not UTF-8", "{\"a\":\"\xff\"}", malformed},
		{"half a surrogate pair", `{"a":"\ud800"}`, malformed},
		{"NUL", `{"a":"\u0000"}`, `{"a":"\u0000"}`},
		{"byte order mark", "\ufeff{\"a\":1}", `{"a":1}`},
		{"200 levels", nested(200), nested(200)},
		{"1,100 levels", nested(1100), malformed},
		{"number", `42`, malformed},
		{"text", `"x"`, malformed},
		{"array", `[{"a":1}]`, malformed},
		{"nothing", ``, malformed},
		{"cut off", `{"a":`, malformed},
		{"two", `{"a":1}{"b":2}`, malformed},
	}
	settings := clickhouse.WithSettings(clickhouse.Settings{"input_format_try_infer_dates": 0, "input_format_try_infer_datetimes": 0,
		"type_json_skip_duplicated_paths": 1})

	// All in one block.
	ctx := clickhouse.Context(t.Context(), settings,
		clickhouse.WithColumnNamesAndTypes([]clickhouse.ColumnNameAndType{{Name: "n", Type: "Int32"}, {Name: "raw", Type: "String"}}))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO tolerant (n, raw)")
	require.NoError(t, err)
	for n, test := range tests {
		require.NoError(t, batch.Append(int32(n), test.body))
	}
	require.NoError(t, batch.Send())

	for n, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var body, kept string
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT toString(body), malformed FROM tolerant WHERE n = ?", n).Scan(&body, &kept))
			if test.stored == malformed {
				require.Equal(t, []string{"{}", test.body}, []string{body, kept})
			} else {
				require.Equal(t, []string{test.stored, ""}, []string{body, kept})
			}

			// A plain JSON column gives the same, or fails the block.
			got := post(t, url, call{query: "INSERT INTO strict (n, body) FORMAT RowBinary", body: "\x01\x00\x00\x00" + varString(test.body),
				params: map[string]string{"input_format_binary_read_json_as_string": "1", "type_json_skip_duplicated_paths": "1"}})
			if test.stored == malformed && test.body != "null" {
				require.NotEqual(t, http.StatusOK, got.status, got.body)
				require.Contains(t, got.body, "Code: 117.")
			} else {
				require.Equal(t, http.StatusOK, got.status, got.body)
			}
		})
	}
}

// varString is a text as RowBinary has it.
func varString(text string) string {
	length := len(text)
	if length < 128 {
		return string([]byte{byte(length)}) + text
	}
	return string([]byte{byte(length&127 | 128), byte(length >> 7)}) + text
}
