package projections

// arena keeps copies of many small byte slices in few large ones, and keeps
// these for the next block.
type arena struct {
	chunks [][]byte
	used   int // chunks that are full
	free   []byte
}

const (
	chunkBytes = 256 << 10
	// largeBytes and more get memory of their own, which is not kept.
	largeBytes = chunkBytes / 8
)

// keep gives a copy of b that is good until reset.
func (a *arena) keep(b []byte) []byte {
	n := len(b)
	switch {
	case n == 0:
		return nil
	case n >= largeBytes:
		return append([]byte(nil), b...)
	case n > len(a.free):
		if a.used == len(a.chunks) {
			a.chunks = append(a.chunks, make([]byte, chunkBytes))
		}
		a.free = a.chunks[a.used]
		a.used++
	}
	kept := a.free[:n:n]
	a.free = a.free[n:]
	copy(kept, b)
	return kept
}

// reset makes all of it free.
func (a *arena) reset() { a.used, a.free = 0, nil }
