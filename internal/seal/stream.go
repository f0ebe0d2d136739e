package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// chunkBytes is how much of a stream is sealed at a time, and held in memory.
	chunkBytes = 64 << 10
	// overhead is what sealing adds to a chunk.
	overhead = 1 + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	// headBytes are before each chunk: its sealed length, and whether it is the last.
	headBytes = 5
)

// Writer seals what is written to it, chunk by chunk, for a place. Each chunk is
// bound to its number and the last one is marked, so that a stream that was cut,
// or whose chunks were moved, does not open. Close writes the last chunk; it does
// not close what is below.
func (s *Sealer) Writer(place string, to io.Writer) io.WriteCloser {
	return &writer{sealer: s, place: place, to: to, chunk: make([]byte, 0, chunkBytes)}
}

type writer struct {
	sealer *Sealer
	place  string
	to     io.Writer
	chunk  []byte
	count  uint64
}

// Write seals and passes on each chunk that is full.
func (w *writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), chunkBytes-len(w.chunk))
		w.chunk = append(w.chunk, p[:n]...)
		p, written = p[n:], written+n
		if len(w.chunk) == chunkBytes {
			if err := w.flush(false); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// Close seals what is left.
func (w *writer) Close() error { return w.flush(true) }

func (w *writer) flush(last bool) error {
	sealed := w.sealer.Seal(chunkPlace(w.place, w.count, last), w.chunk)
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, headBytes+len(sealed)), uint32(len(sealed)))
	end := byte(0)
	if last {
		end = 1
	}
	w.chunk, w.count = w.chunk[:0], w.count+1
	if _, err := w.to.Write(append(append(frame, end), sealed...)); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

func chunkPlace(place string, number uint64, last bool) string {
	return fmt.Sprintf("%s/%d/%t", place, number, last)
}

// Reader opens what a Writer has sealed for the same place. It gives [ErrOpen] for
// anything else, and io.ErrUnexpectedEOF for a stream without its end.
func (s *Sealer) Reader(place string, from io.Reader) io.Reader {
	return &reader{sealer: s, place: place, from: from}
}

type reader struct {
	sealer *Sealer
	place  string
	from   io.Reader
	chunk  []byte
	count  uint64
	last   bool
}

// Read opens one chunk after the other.
func (r *reader) Read(p []byte) (int, error) {
	for len(r.chunk) == 0 {
		if r.last {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

func (r *reader) next() error {
	head := make([]byte, headBytes)
	if _, err := io.ReadFull(r.from, head); err != nil {
		return cut(err)
	}
	size := binary.BigEndian.Uint32(head)
	if size < overhead || size > chunkBytes+overhead || head[4] > 1 {
		return ErrOpen
	}
	sealed := make([]byte, size)
	if _, err := io.ReadFull(r.from, sealed); err != nil {
		return cut(err)
	}
	last := head[4] == 1
	chunk, err := r.sealer.Open(chunkPlace(r.place, r.count, last), sealed)
	if err != nil {
		return err
	}
	r.chunk, r.last, r.count = chunk, last, r.count+1
	return nil
}

// cut is the error of a stream that ends before its last chunk.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
