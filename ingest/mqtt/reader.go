package mqtt

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// readBufferBytes is what one read from a busy socket can take: a full window
	// of 64 small messages in one system call.
	readBufferBytes = 32 << 10
	// smallBufferBytes is what an idle TLS connection keeps to wait with.
	smallBufferBytes = 512
)

// errTooLarge is returned for a packet beyond the limit, before anything is
// allocated for it.
var errTooLarge = errors.New("packet is larger than the limit")

var readBuffers = sync.Pool{New: func() any { return new([readBufferBytes]byte) }}

// packetReader cuts a byte stream into MQTT packets. It holds a pooled buffer
// only while bytes are waiting in it: a connection that is idle, which most of a
// fleet's are at any moment, costs no buffer at all on a plain socket.
type packetReader struct {
	source io.Reader
	raw    syscall.RawConn // set on plain TCP
	pooled *[readBufferBytes]byte
	large  []byte // a packet that outgrew the pooled buffer
	small  []byte // waits for the first bytes of a TLS connection
	buf    []byte // the one in use
	r, w   int
	limit  int // of a packet's remaining length

	readReady func(fd uintptr) bool // readSocket, bound once
	n         int                   // what readSocket read
	err       error
	// waiting is called before each wait for more bytes.
	waiting func() error
}

func newPacketReader(conn net.Conn, limit int, waiting func() error) *packetReader {
	p := &packetReader{source: conn, limit: limit, waiting: waiting}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			p.raw = raw
			p.readReady = p.readSocket
		}
	}
	return p
}

// next returns the fixed header's first byte and the body of the next packet.
// The body is valid until the call after.
func (p *packetReader) next() (first byte, body []byte, err error) {
	for {
		head, length, ok, err := remainingLength(p.buf[p.r:p.w])
		if err != nil {
			return 0, nil, err
		}
		if ok && length > p.limit {
			return 0, nil, fmt.Errorf("%w: %d bytes, at most %d", errTooLarge, length, p.limit)
		}
		if ok && p.w-p.r >= head+length {
			first, body = p.buf[p.r], p.buf[p.r+head:p.r+head+length]
			p.r += head + length
			return first, body, nil
		}
		need := 0
		if ok {
			need = head + length
		}
		if err := p.fill(need); err != nil {
			return 0, nil, err
		}
	}
}

// buffered reports whether bytes are waiting that have been read already.
func (p *packetReader) buffered() bool { return p.r < p.w }

// remainingLength reads a fixed header (MQTT 3.1.1 §2.2.3). It is not ok while
// bytes are missing.
func remainingLength(b []byte) (head, length int, ok bool, err error) {
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return i + 1, length, true, nil
		}
		if i == 4 {
			return 0, 0, false, packets.ErrMalformedVariableByteInteger
		}
	}
	return 0, 0, false, nil
}

// fill reads more bytes behind the ones that are waiting. need is how many the
// packet at hand has in all, 0 when that is not known yet.
func (p *packetReader) fill(need int) error {
	if err := p.waiting(); err != nil {
		return err
	}
	p.makeRoom(need)
	if p.raw != nil {
		p.n, p.err = 0, nil
		if err := p.raw.Read(p.readReady); err != nil {
			return err
		}
		p.w += p.n
		return p.err
	}
	if p.r == p.w {
		p.release()
		p.useSmall()
	} else {
		p.outgrowSmall()
	}
	n, err := p.source.Read(p.buf[p.w:])
	p.w += n
	if n > 0 {
		return nil
	}
	return err
}

// readSocket reads once; false waits for the socket to become readable, without
// a buffer when nothing is held in it.
func (p *packetReader) readSocket(fd uintptr) bool {
	p.ensure()
	for {
		n, err := syscall.Read(int(fd), p.buf[p.w:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			p.release()
			return false
		case err != nil:
			p.err = err
		case n == 0:
			p.err = io.EOF
		default:
			p.n = n
		}
		return true
	}
}

// ensure has a buffer in use.
func (p *packetReader) ensure() {
	if p.buf == nil {
		p.pooled = readBuffers.Get().(*[readBufferBytes]byte)
		p.buf = p.pooled[:]
	}
}

// useSmall waits with the small buffer: a read through TLS cannot wait without
// one. What does not fit it stays in the TLS layer, for a read into a large one.
func (p *packetReader) useSmall() {
	if p.small == nil {
		p.small = make([]byte, smallBufferBytes)
	}
	p.buf, p.r, p.w = p.small, 0, 0
}

// outgrowSmall moves the beginning of a packet into a pooled buffer.
func (p *packetReader) outgrowSmall() {
	if p.pooled != nil || p.large != nil {
		return
	}
	begun := p.buf[p.r:p.w]
	p.buf = nil
	p.ensure()
	p.r, p.w = 0, copy(p.buf, begun)
}

// release gives an empty buffer back.
func (p *packetReader) release() {
	if p.r < p.w {
		return
	}
	if p.pooled != nil {
		readBuffers.Put(p.pooled)
	}
	p.pooled, p.large, p.buf, p.r, p.w = nil, nil, nil, 0, 0
}

// makeRoom leaves space behind the waiting bytes for the packet at hand.
func (p *packetReader) makeRoom(need int) {
	if p.r == p.w {
		p.r, p.w = 0, 0
		if p.large != nil {
			p.release()
		}
	}
	if need > len(p.buf) && need > readBufferBytes {
		large := make([]byte, need)
		p.w = copy(large, p.buf[p.r:p.w])
		p.r = 0
		if p.pooled != nil {
			readBuffers.Put(p.pooled)
			p.pooled = nil
		}
		p.large, p.buf = large, large
		return
	}
	if p.r > 0 && (p.w == len(p.buf) || p.r+need > len(p.buf)) {
		p.w = copy(p.buf, p.buf[p.r:p.w])
		p.r = 0
	}
}

// close gives the buffer back whatever it holds.
func (p *packetReader) close() {
	p.r, p.w = 0, 0
	p.release()
}
