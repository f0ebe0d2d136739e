package chdb

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
)

func connectClient(t testing.TB, url string) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr:     []string{strings.TrimPrefix(url, "http://")},
		Protocol: clickhouse.HTTP,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestClientInsertsAndSelects(t *testing.T) {
	_, server := startEngine(t)
	conn := connectClient(t, server.URL)
	ctx := context.Background()

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
		require.Equal(t, at, got.UTC())
		require.JSONEq(t, `{"a":1,"b":{"c":[1,2]}}`, b)
		count++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 2, count)
}
