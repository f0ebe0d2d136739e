package chdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
)

func clientOptions(url string) *clickhouse.Options {
	return &clickhouse.Options{
		Addr:     []string{strings.TrimPrefix(url, "http://")},
		Protocol: clickhouse.HTTP,
	}
}

func connectClient(t testing.TB, url string) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(clientOptions(url))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestClientInsertsAndSelects(t *testing.T) {
	_, url := startEngine(t)
	conn := connectClient(t, url)
	ctx := t.Context()

	require.NoError(t, conn.Ping(ctx))
	require.NoError(t, conn.Exec(ctx, `CREATE TABLE t (
		n UInt64, s String, l LowCardinality(String), o Nullable(Int32), at DateTime64(3), m Map(String, Int64),
		a Array(Nullable(String)), id UUID, body JSON) ENGINE = MergeTree ORDER BY n`))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
	require.NoError(t, err)
	at := time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC)
	for i := range 3 {
		require.NoError(t, batch.Append(uint64(i), "text", "low", nil, at, map[string]int64{"a": 1}, []*string{nil},
			"0190163d-8694-739b-aea5-966c26f8ad91", `{"a":1,"b":{"c":[1,2]}}`))
	}
	require.NoError(t, batch.Send())

	rows, err := conn.Query(ctx, "SELECT n, s, l, o, at, m, a, id, body::String FROM t WHERE n < ? ORDER BY n", 2)
	require.NoError(t, err)
	count := 0
	for rows.Next() {
		var (
			n           uint64
			s, l, id, b string
			o           *int32
			got         time.Time
			m           map[string]int64
			a           []*string
		)
		require.NoError(t, rows.Scan(&n, &s, &l, &o, &got, &m, &a, &id, &b))
		require.Equal(t, uint64(count), n)
		require.Equal(t, []string{"text", "low", "0190163d-8694-739b-aea5-966c26f8ad91"}, []string{s, l, id})
		require.Nil(t, o)
		require.Equal(t, at, got.UTC())
		require.Equal(t, map[string]int64{"a": 1}, m)
		require.Equal(t, []*string{nil}, a)
		require.JSONEq(t, `{"a":1,"b":{"c":[1,2]}}`, b)
		count++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 2, count)
}

func TestClientReadsTypesThatBelongToNoColumnOfOurs(t *testing.T) {
	_, url := startEngine(t)
	conn := connectClient(t, url)
	ask(t, url, "CREATE TABLE j (n Int32, body JSON, d Dynamic) ENGINE = MergeTree ORDER BY n")
	ask(t, url, `INSERT INTO j VALUES (1, '{"a":1,"b":{"d":"x"}}', 5), (2, '{"a":"s"}', 'x')`)

	for _, settings := range []clickhouse.Settings{{}, {"output_format_native_use_flattened_dynamic_and_json_serialization": 1}} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(settings))
		var object clickhouse.JSON
		require.NoError(t, conn.QueryRow(ctx, "SELECT body FROM j WHERE n = 1").Scan(&object))
		value, ok := object.ValueAtPath("b.d")
		require.True(t, ok)
		require.Equal(t, "x", fmt.Sprint(value.(clickhouse.Dynamic).Any()))
		var dynamic clickhouse.Dynamic
		require.NoError(t, conn.QueryRow(ctx, "SELECT d FROM j WHERE n = 2").Scan(&dynamic))
		require.Equal(t, "x", dynamic.Any())
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"output_format_native_write_json_as_string": 1}))
	var text string
	require.NoError(t, conn.QueryRow(ctx, "SELECT body FROM j WHERE n = 1").Scan(&text))
	require.JSONEq(t, `{"a":1,"b":{"d":"x"}}`, text)

	var decimal, ip, enum, fixed, tuple, nested string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT toString(toDecimal64(1.5, 3)), toString(toIPv6('::1')), CAST('a', 'Enum8(\'a\' = 1)'),
		toFixedString('ab', 2), toString((1, 2)), toString([[1, 2], [3]])`).Scan(&decimal, &ip, &enum, &fixed, &tuple, &nested))
	require.Equal(t, []string{"1.5", "::1", "a", "ab", "(1,2)", "[[1,2],[3]]"}, []string{decimal, ip, enum, fixed, tuple, nested})

	err := conn.QueryRow(t.Context(), "SELECT sumState(n), 1 FROM j").Scan(new(string), new(uint8))
	require.ErrorContains(t, err, "cast it, e.g. to String")
}

func TestClientGetsErrorsWithCodes(t *testing.T) {
	_, url := startEngine(t)
	conn := connectClient(t, url)
	var exception *clickhouse.Exception
	require.ErrorAs(t, conn.Exec(t.Context(), "DROP TABLE nope"), &exception)
	require.Equal(t, int32(60), exception.Code)

	// In the middle of a result too.
	rows, err := conn.Query(t.Context(), "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 65536")
	require.NoError(t, err)
	for rows.Next() {
		continue
	}
	exception = nil
	require.True(t, errors.As(rows.Err(), &exception), rows.Err())
	require.Equal(t, int32(395), exception.Code)
}

func TestClientThroughDatabaseSQL(t *testing.T) {
	_, url := startEngine(t)
	db := clickhouse.OpenDB(clientOptions(url))
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	ctx := t.Context()
	_, err := db.ExecContext(ctx, "CREATE TABLE t (n Int64, s String) ENGINE = MergeTree ORDER BY n")
	require.NoError(t, err)
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	insert, err := tx.PrepareContext(ctx, "INSERT INTO t")
	require.NoError(t, err)
	for i := range 10 {
		_, err := insert.ExecContext(ctx, int64(i), "x")
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	var sum int64
	require.NoError(t, db.QueryRowContext(ctx, "SELECT sum(n) FROM t WHERE s = ?", "x").Scan(&sum))
	require.Equal(t, int64(45), sum)
}

func TestClientReadsLargeResults(t *testing.T) {
	_, url := startEngine(t)
	conn := connectClient(t, url)
	rows, err := conn.Query(t.Context(), "SELECT number, toString(number) FROM numbers(1000000)")
	require.NoError(t, err)
	var expected uint64
	for rows.Next() {
		var n uint64
		var s string
		require.NoError(t, rows.Scan(&n, &s))
		require.Equal(t, expected, n)
		expected++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, uint64(1_000_000), expected)
}

func TestDeduplicationTokenDropsTheSecondInsert(t *testing.T) {
	_, url := startEngine(t)
	conn := connectClient(t, url)
	ask(t, url, "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100")
	ask(t, url, "CREATE TABLE sums (day Int64, total Int64) ENGINE = SummingMergeTree ORDER BY day SETTINGS non_replicated_deduplication_window = 100")
	ask(t, url, "CREATE MATERIALIZED VIEW v TO sums AS SELECT 1 AS day, sum(n) AS total FROM t")
	insert := func(token string, from, to int64) {
		t.Helper()
		ctx := clickhouse.Context(context.Background(), clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1}))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
		require.NoError(t, err)
		for n := from; n < to; n++ {
			require.NoError(t, batch.Append(n))
		}
		require.NoError(t, batch.Send())
	}
	insert("a", 0, 10)
	insert("a", 0, 10)
	insert("a", 5, 7)
	require.Equal(t, "10\t45\n", ask(t, url, "SELECT count(), (SELECT sum(total) FROM sums) FROM t"), "the token decides, not the rows")
	insert("b", 0, 10)
	require.Equal(t, "20\t90\n", ask(t, url, "SELECT count(), (SELECT sum(total) FROM sums) FROM t"), "same rows, other token")
}
