package kafka

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSplitFrames: whatever a torn or damaged state log holds, its whole frames
// are read and appending behind them works.
func FuzzSplitFrames(f *testing.F) {
	whole := appendFrame(appendFrame(nil, []byte(`{"type":"init"}`)), []byte(`{}`))
	f.Add([]byte{})
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		texts, n := splitFrames(raw)
		require.LessOrEqual(t, n, len(raw))
		again, m := splitFrames(appendFrame(bytes.Clone(raw[:n]), []byte("{}")))
		require.Equal(t, append(texts, []byte("{}")), again)
		require.Equal(t, n+frameHead+2, m)
	})
}

// FuzzScanPartition: a segment may end in anything; what is whole stays, and a
// second scan agrees with the first.
func FuzzScanPartition(f *testing.F) {
	commit := markerBatch(producer{7, 1}, true, 0, 0, 1000)
	abort := markerBatch(producer{7, 2}, false, 1, 0, 1001)
	both := append(bytes.Clone(commit), abort...)
	f.Add([]byte{})
	f.Add(commit)
	f.Add(both)
	f.Add(both[:len(both)-3])
	f.Add(append(bytes.Clone(both), bytes.Repeat([]byte{0xff}, 80)...))
	f.Add(append(bytes.Clone(both), make([]byte, 80)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "0.dat"), raw, 0o600))
		first, err := scanPartition(dir)
		require.NoError(t, err)
		if first == nil {
			return
		}
		require.NoError(t, first.end(nil))
		require.NoError(t, first.writeSnapshot())
		second, err := scanPartition(dir)
		require.NoError(t, err)
		require.Empty(t, second.open)
		require.Equal(t, first.next, second.next)
		require.Equal(t, first.segments, second.segments)
	})
}
