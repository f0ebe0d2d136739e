package seal_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/fleetlog/fleetlog/internal/seal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// chunk is what Writer seals at a time, head the bytes before each, and more what
// sealing adds.
const chunk, head, more = 64 << 10, 5, 41

func sealStream(t require.TestingT, s *seal.Sealer, place string, content []byte) []byte {
	var sealed bytes.Buffer
	w := s.Writer(place, &sealed)
	_, err := w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return sealed.Bytes()
}

func TestStreamsComeBackWhole(t *testing.T) {
	s, err := seal.New(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		content := bytes.Repeat([]byte{7}, rapid.SampledFrom([]int{0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk}).Draw(t, "size"))
		var sealed bytes.Buffer
		w := s.Writer("place", &sealed)
		for rest := content; len(rest) > 0; {
			n := min(len(rest), rapid.IntRange(1, 2*chunk).Draw(t, "write"))
			written, err := w.Write(rest[:n])
			require.NoError(t, err)
			require.Equal(t, n, written)
			rest = rest[n:]
		}
		require.NoError(t, w.Close())
		opened, err := io.ReadAll(s.Reader("place", &sealed))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, opened))
	})
}

// TestStreamsThatWereTouchedDoNotOpen cuts, changes and moves what was sealed.
func TestStreamsThatWereTouchedDoNotOpen(t *testing.T) {
	s, err := seal.New(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	content := append(bytes.Repeat([]byte{1}, chunk), bytes.Repeat([]byte{2}, chunk)...)
	whole := sealStream(t, s, "place", content)
	const one = chunk + head + more
	swapped := bytes.Join([][]byte{whole[one : 2*one], whole[:one], whole[2*one:]}, nil)
	flipped := bytes.Clone(whole)
	flipped[one/2] ^= 1
	early := bytes.Clone(whole[:one])
	early[4] = 1 // says it is the last one
	for _, tc := range []struct {
		name, place string
		sealed      []byte
		want        error
	}{
		{"cut between chunks", "place", whole[:one], io.ErrUnexpectedEOF},
		{"cut in a chunk", "place", whole[:one+9], io.ErrUnexpectedEOF},
		{"nothing", "place", nil, io.ErrUnexpectedEOF},
		{"an early end", "place", early, seal.ErrOpen},
		{"chunks in another order", "place", swapped, seal.ErrOpen},
		{"a bit", "place", flipped, seal.ErrOpen},
		{"another place", "elsewhere", whole, seal.ErrOpen},
		{"a length that is none", "place", []byte{255, 255, 255, 255, 0}, seal.ErrOpen},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := io.ReadAll(s.Reader(tc.place, bytes.NewReader(tc.sealed)))
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// FuzzReader wants whatever bytes to end in an error, or to be what was sealed.
func FuzzReader(f *testing.F) {
	s, err := seal.New(bytes.Repeat([]byte{1}, 32))
	require.NoError(f, err)
	f.Add(sealStream(f, s, "place", []byte("content")))
	f.Add([]byte{0, 0, 0, 41, 1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if content, err := io.ReadAll(s.Reader("place", bytes.NewReader(sealed))); err == nil && string(content) != "content" {
			t.Fatalf("%q opened", content)
		}
	})
}
