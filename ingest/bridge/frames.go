package bridge

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
)

const (
	readBufferBytes = 64 << 10
	packetPublish   = 3
	// maxPublishBytes is a PUBLISH with the longest topic, a packet id and a
	// payload that is just too large.
	maxPublishBytes = 2 + 65535 + 2 + maxPayloadBytes + 1
	// maxControlBytes bounds every other packet a broker sends.
	maxControlBytes = 64 << 10
)

var (
	errPacketTooLarge = errors.New("the broker sent a control packet of an impossible size: is it an MQTT broker?")
	errBadLength      = errors.New("the broker sent a packet whose length cannot be read (MQTT 3.1.1 §2.2.3)")
)

// boundedConn cuts the end off PUBLISH packets that are too large, because the
// client library allocates whatever length a packet claims. What is left of the
// payload still shows that it was too large.
type boundedConn struct {
	net.Conn
	in      *bufio.Reader
	head    []byte // of the packet under way, rewritten, not yet read
	body    int    // bytes of it to pass on
	discard int    // bytes after those to drop
}

func newBoundedConn(conn net.Conn) *boundedConn {
	return &boundedConn{Conn: conn, in: bufio.NewReaderSize(conn, readBufferBytes)}
}

// Read gives the bytes of at most one packet.
func (c *boundedConn) Read(p []byte) (int, error) {
	if len(c.head) == 0 && c.body == 0 {
		if err := c.nextPacket(); err != nil {
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.body)])
	c.body -= n
	return n, err
}

// nextPacket drops what is left of the last packet and reads the next one's
// fixed header.
func (c *boundedConn) nextPacket() error {
	for c.discard > 0 {
		n, err := c.in.Discard(c.discard)
		c.discard -= n
		if err != nil {
			return err
		}
	}
	first, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	length, err := c.readLength()
	if err != nil {
		return err
	}
	kept := length
	switch {
	case first>>4 == packetPublish:
		kept = min(length, maxPublishBytes)
	case length > maxControlBytes:
		return errPacketTooLarge
	}
	c.head = binary.AppendUvarint(append(c.head[:0], first), uint64(kept)) // the same encoding as MQTT's
	c.body, c.discard = kept, length-kept
	return nil
}

// readLength reads the remaining length, at most four bytes.
func (c *boundedConn) readLength() (int, error) {
	length := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := c.in.ReadByte()
		if err != nil {
			return 0, err
		}
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			return length, nil
		}
	}
	return 0, errBadLength
}
