package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

func TestTableSaysWhatWasMissed(t *testing.T) {
	rows := []row{
		{"ingest", "10/s", "5/s", times(2), "≥ 5 ×", judge(false), "a|b"},
		{"memory", "1 KiB", "–", "–", "–", judge(true), ""},
		{"stretch", "1", "–", "–", "–", noted, ""},
	}
	require.Equal(t, 1, misses(rows))
	require.Equal(t, strings.Join([]string{
		"| what | Fleetlog | compared with | ratio | target | result |",
		"|---|---:|---:|---:|---:|---|",
		`| ingest | 10/s | 5/s | 2.00 × | ≥ 5 × | **miss** (a\|b) |`,
		"| memory | 1 KiB | – | – | – | pass |",
		"| stretch | 1 | – | – | – | – |",
		"",
	}, "\n"), table(rows))
}

func TestReportReplacesWhatIsBetweenTheMarks(t *testing.T) {
	text, err := between("a\n"+beginMark+"\nold\n"+endMark+"\nb\n", "new\n")
	require.NoError(t, err)
	require.Equal(t, "a\n"+beginMark+"\n\nnew\n\n"+endMark+"\nb\n", text)
	for _, text := range []string{"", beginMark, endMark, endMark + beginMark} {
		_, err := between(text, "new")
		require.ErrorContains(t, err, "lacks the marks", text)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1: "-1", -123: "-123", -123456: "-123,456"} {
		require.Equal(t, want, thousands(n))
	}
	require.Equal(t, "1,235/s", perSecond(1234.6))
	require.Equal(t, "1.5 ms", millis(1500*time.Microsecond))
}

func TestStatistics(t *testing.T) {
	require.InDelta(t, 2.0, median([]float64{3, 1, 2}), 0)
	values := make([]time.Duration, 100)
	for i := range values {
		values[i] = time.Duration(100 - i)
	}
	require.EqualValues(t, 51, percentile(values, 50))
	require.EqualValues(t, 100, percentile(values, 99))
	require.EqualValues(t, 100, percentile(values, 100))
	require.Zero(t, percentile(nil, 99))
}

func TestSlopeOfTheGap(t *testing.T) {
	for name, c := range map[string]struct {
		gap  func(at float64) float64
		want float64
	}{
		"steady":             {func(float64) float64 { return 40_000 }, 0},
		"growing":            {func(at float64) float64 { return 10 * at }, 10},
		"shrinking":          {func(at float64) float64 { return 1000 - at }, -1},
		"after a slow start": {func(at float64) float64 { return min(at, 10) * 100 }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var points []point
			for at := range 100 {
				points = append(points, point{float64(at), c.gap(float64(at))})
			}
			require.InDelta(t, c.want, slope(points), 1e-6)
		})
	}
	require.Zero(t, slope(nil))
	require.Zero(t, slope([]point{{1, 1}}))
}

func TestPayloads(t *testing.T) {
	for _, size := range []int{0, ingestPayload} {
		payload := meterPayload(size)
		require.Equal(t, 1, strings.Count(payload, load.Counter))
		require.True(t, json.Valid([]byte(strings.Replace(payload, load.Counter, firstCounter, 1))), payload)
	}
	require.Len(t, meterPayload(ingestPayload), ingestPayload)
}

func TestSectionsAreChosenByName(t *testing.T) {
	all, err := settings{}.chosen()
	require.NoError(t, err)
	require.Len(t, all, 10)
	some, err := settings{run: "memory, ingest"}.chosen()
	require.NoError(t, err)
	require.Equal(t, "memory", some[0].name)
	require.Equal(t, "ingest", some[1].name)
	_, err = settings{run: "all"}.chosen()
	require.ErrorContains(t, err, "use some of ingest")
}
