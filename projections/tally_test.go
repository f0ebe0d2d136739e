package projections

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func leavesOf(body string) (found []string) {
	var l leaves
	l.each([]byte(body), func(leaf leaf) { found = append(found, fmt.Sprintf("%s=%s", leaf.path, leaf.text)) })
	return found
}

func TestLeaves(t *testing.T) {
	deep := strings.Repeat(`{"a":`, maxDepth-1) + "1" + strings.Repeat("}", maxDepth-1)
	require.NoError(t, checkBody([]byte(deep)))
	for body, want := range map[string][]string{
		`{}`:    nil,
		` { } `: nil,
		`{"t":21.5,"on":true,"off" : false , "s":"a\"}b","n":null}`: {`t=21.5`, `on=true`, `off=false`, `s="a\"}b"`, `n=null`},
		`{"a":{"b":{"c":-1e3}},"d":0}`:                              {`a.b.c=-1e3`, `d=0`},
		`{"list":[1,{"x":"]"},[]],"after":1}`:                       {`list=[1,{"x":"]"},[]]`, `after=1`},
		`{"\u0061\"":1,"":{"":2}}`:                                  {`a"=1`, `.=2`},
		deep:                                                        {strings.Repeat("a.", maxDepth-2) + "a=1"},
		`{"` + strings.Repeat("x", maxPathBytes+1) + `":1,"y":2}`:   {"y=2"},
	} {
		require.Equal(t, want, leavesOf(body), body)
	}
	many := `{"a":[1]` + strings.Repeat(`,"a":1`, 2*maxLeaves) + `}`
	require.Len(t, leavesOf(many), maxLeaves)
}

// FuzzLeaves has each leaf of any body that is let in found, as encoding/json has it.
func FuzzLeaves(f *testing.F) {
	for _, body := range []string{`{"a":{"b":[1,2]},"c":"d"}`, `{"é":-0.0e-1,"\ud83d\ude00":[]}`, "{\n\t\"a\" :\r{ } }"} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if len(body) > maxPathBytes || checkBody([]byte(body)) != nil {
			return
		}
		var want, got [][2]string
		collect(t, body, "", &want)
		var l leaves
		l.each([]byte(body), func(l leaf) { got = append(got, [2]string{string(l.path), string(l.text)}) })
		require.Equal(t, want, got)
	})
}

// collect lists the leaves of the object.
func collect(t *testing.T, object, prefix string, found *[][2]string) {
	d := json.NewDecoder(strings.NewReader(object))
	_, err := d.Token()
	require.NoError(t, err)
	for d.More() {
		name, err := d.Token()
		require.NoError(t, err)
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		path := prefix + name.(string)
		if value[0] == '{' {
			collect(t, string(value), path+".", found)
			continue
		}
		*found = append(*found, [2]string{path, string(value)})
	}
}

// TestSumsAreOfSortedValues: the order in which values come does not matter.
func TestSumsAreOfSortedValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var values []value
		for row := range rapid.IntRange(1, 30).Draw(t, "values") {
			values = append(values, value{ts: rapid.Int64Range(0, 5).Draw(t, "ts"), offset: int64(row), number: float64(rapid.IntRange(-3, 3).Draw(t, "number"))})
		}
		var shuffled, sorted sum
		for _, v := range rapid.Permutation(values).Draw(t, "order") {
			shuffled.add(&v)
		}
		slices.SortFunc(values, func(a, b value) int { return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.offset, b.offset)) })
		for _, v := range values {
			sorted.add(&v)
		}
		require.Equal(t, sorted, shuffled)
		require.Equal(t, values[0], sorted.first)
		require.Equal(t, values[len(values)-1], sorted.last)
	})
}

func TestFloor(t *testing.T) {
	for at, want := range map[int64]int64{0: 0, 59: 0, 60: 60, -1: -60, -60: -60, -61: -120} {
		require.Equal(t, want, floor(at, 60), strconv.FormatInt(at, 10))
	}
}

// BenchmarkTally is what a message of five values costs the projection of sums, when
// most are of another minute than the device's message before.
func BenchmarkTally(b *testing.B) {
	const n = 50_000
	messages := make([]row, n)
	for i := range messages {
		messages[i] = row{
			tenant: []byte("default"), device: fmt.Appendf(nil, "meter-%05d", i%5000), timestamp: int64(i) * 10,
			body: fmt.Appendf(nil, `{"temperature":%d.5,"humidity":%d,"ok":true,"location":{"lat":51.5,"lon":0.12},"state":"running"}`, i%40, i%100),
		}
	}
	t := newTally()
	for b.Loop() {
		for i, m := range messages {
			t.add(m, int64(i))
		}
		t.clear()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/message")
}
