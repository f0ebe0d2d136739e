package projections

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlans(t *testing.T) {
	for _, block := range []offsets{{0, 0}, {5, 9}, {1 << 60, 1<<60 + 50_000}} {
		got, err := decodePlan(block.first, encodePlan(block))
		require.NoError(t, err)
		require.Equal(t, block, got)
	}
	_, err := decodePlan(5, "")
	require.ErrorIs(t, err, errNoPlan)
	for metadata, wrong := range map[string]string{
		"member-1":                           "no plan",
		`{"v":2,"first":5,"last":9}`:         "version 2",
		`{"v":1,"first":4,"last":9}`:         "does not fit",
		`{"v":1,"first":5,"last":4}`:         "does not fit",
		`{"v":1,"first":5}`:                  "does not fit",
		`{"v":1,"first":5,"last":1e99}`:      "no plan",
		string(make([]byte, maxPlanBytes+1)): "no plan",
	} {
		_, err := decodePlan(5, metadata)
		require.ErrorContains(t, err, wrong)
	}
}

func FuzzDecodePlan(f *testing.F) {
	f.Add(int64(5), encodePlan(offsets{5, 9}))
	f.Add(int64(-1), `{"v":1,"first":-1,"last":0}`)
	f.Fuzz(func(t *testing.T, committed int64, metadata string) {
		if block, err := decodePlan(committed, metadata); err == nil {
			require.Equal(t, committed, block.first)
			require.LessOrEqual(t, block.first, block.last)
			require.GreaterOrEqual(t, block.first, int64(0))
		}
	})
}
