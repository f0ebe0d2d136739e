package sample

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func everything(t require.TestingT) []*dtdl.Content {
	var contents []*dtdl.Content
	for _, file := range []string{"../testdata/valid/everything.json", "../testdata/valid/temperature-controller-v3.json"} {
		document, err := os.ReadFile(file)
		require.NoError(t, err)
		model, err := dtdl.Parse(document)
		require.NoError(t, err)
		for _, i := range model.Interfaces {
			contents = append(contents, i.All...)
		}
	}
	return contents
}

func TestValuesAreOfTheirSchema(t *testing.T) {
	contents := everything(t)
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), 0)
		for _, c := range contents {
			if c.Schema == nil {
				continue
			}
			bounded := *c
			if rapid.Bool().Draw(t, "bounded") && numeric(c.Schema.Kind) {
				low := float64(rapid.IntRange(-1000, 1000).Draw(t, "low"))
				high := low + float64(rapid.IntRange(1, 1000).Draw(t, "width"))
				bounded.Min, bounded.Max = &low, &high
			}
			var value any
			for range 20 {
				value = Value(&bounded, random, at, value)
				require.Empty(t, bounded.Check(value), "%s: %v", c.Name, value)
			}
		}
	})
}

func TestTheSameSeedGivesTheSameValues(t *testing.T) {
	run := func() (values []any) {
		random := rand.New(rand.NewPCG(7, 7))
		for _, c := range everything(t) {
			if c.Schema != nil && c.Name == "temperature" {
				for range 5 {
					values = append(values, Value(c, random, time.Unix(1e9, 0), nil))
				}
			}
		}
		return values
	}
	require.Equal(t, run(), run())
	require.InDelta(t, 21, run()[0], 3, "a room's temperature")
}
