package kafka

import (
	"encoding/binary"
	"net"
	"sync"
)

// durableListener gives connections whose answers to writes wait for the disk.
type durableListener struct {
	net.Listener
	disk *groupSync
}

func (l durableListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &durableConn{Conn: conn, disk: l.disk}, nil
}

// durableConn looks at the heads of requests and answers as they pass: an answer
// to a request that writes is held back until what was written is on disk. The
// broker serves a connection's requests one after the other, and writes each
// answer with one call.
type durableConn struct {
	net.Conn
	disk *groupSync

	// Where the reader is in the stream of requests.
	head    [headBytes]byte
	have    int   // of head
	missing int64 // bytes of the request after its head

	mu      sync.Mutex
	waiting []requestHead // read and not answered
}

// headBytes are a request's size, API key, version and correlation id (Kafka
// protocol guide, "Request Header").
const headBytes = 12

// maxWaiting bounds what a client that asks for no answers (acks=0) leaves in the
// list.
const maxWaiting = 1024

type requestHead struct {
	correlation int32
	writes      bool
}

// Read follows the heads of the requests.
func (c *durableConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if c.missing > 0 {
			skipped := min(c.missing, int64(len(rest)))
			c.missing -= skipped
			rest = rest[skipped:]
			continue
		}
		copied := copy(c.head[c.have:], rest)
		c.have += copied
		rest = rest[copied:]
		if c.have == headBytes {
			c.noteRequest()
		}
	}
	return n, err
}

func (c *durableConn) noteRequest() {
	const afterSize = headBytes - 4
	c.have = 0
	c.missing = max(int64(binary.BigEndian.Uint32(c.head[0:]))-afterSize, 0)
	key, correlation := int16(binary.BigEndian.Uint16(c.head[4:])), int32(binary.BigEndian.Uint32(c.head[8:]))
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == maxWaiting {
		c.waiting = c.waiting[1:]
	}
	c.waiting = append(c.waiting, requestHead{correlation, !onlyReads(key)})
}

// onlyReads reports whether requests of the API key leave nothing on disk that an
// answer could promise: of the frequent ones these (Kafka protocol guide, "Api
// Keys").
func onlyReads(key int16) bool {
	switch key {
	case 1, 2, 3, 10, 12, 18, 23, 60: // Fetch, ListOffsets, Metadata, FindCoordinator, Heartbeat, ApiVersions, OffsetForLeaderEpoch, DescribeCluster
		return true
	}
	return false
}

// Write holds an answer back until what it promises is on disk; when that cannot
// be, the connection ends without it.
func (c *durableConn) Write(p []byte) (int, error) {
	if c.promises(p) {
		if err := c.disk.wait(); err != nil {
			_ = c.Conn.Close()
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// promises finds the request an answer belongs to. Requests before it asked for no
// answer.
func (c *durableConn) promises(answer []byte) bool {
	const correlationEnd = 8
	if len(answer) < correlationEnd {
		return true
	}
	correlation := int32(binary.BigEndian.Uint32(answer[4:]))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, request := range c.waiting {
		if request.correlation == correlation {
			c.waiting = append(c.waiting[:0], c.waiting[i+1:]...)
			return request.writes
		}
	}
	return true
}
