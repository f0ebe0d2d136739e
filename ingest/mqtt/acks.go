package mqtt

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// writeTimeout bounds how long a device may leave what we sent it unread.
const writeTimeout = 20 * time.Second

const (
	// maxUnread bounds what gathers for a device that sends and does not read. The
	// largest command has room in it.
	maxUnread = 192 << 10
	// maxSpare bounds the buffer an outbox keeps for what comes next.
	maxSpare = 4 << 10
)

// outbox collects what goes to a device. Acknowledgements come one by one from
// the log's goroutine and leave together: while they wait for a flusher the next
// ones gather, and no goroutine exists for a connection while there is nothing to
// write. What can gather is bounded by maxUnread.
type outbox struct {
	conn     net.Conn
	raw      syscall.RawConn // set on plain TCP
	flushers *flushers
	mu       sync.Mutex
	gathered []byte
	spare    []byte
	writing  bool // handed to a flusher, or being written by its own goroutine
	failed   bool
	over     bool           // the last packet is queued
	patience *time.Timer    // runs while the last packet is on its way
	writers  sync.WaitGroup // counts while writing
}

// acknowledge queues a PUBACK (MQTT 3.1.1 §3.4).
func (c *connection) acknowledge(packetID uint16) {
	if !c.out.send(packets.Puback<<4, 2, byte(packetID>>8), byte(packetID)) {
		c.drop(endSlowReader)
	}
}

// send queues bytes in order and never blocks; false means that the device has
// left too much unread.
func (o *outbox) send(packet ...byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed || o.over {
		return true
	}
	return o.queue(packet)
}

// queue is send for who holds the lock.
func (o *outbox) queue(packet []byte) bool {
	if len(o.gathered)+len(packet) > maxUnread {
		return false
	}
	o.gathered = append(o.gathered, packet...)
	if o.writing {
		return true
	}
	o.writing = true
	o.writers.Add(1)
	if o.raw == nil {
		go o.write() // TLS may have to wait even for a little; writers counts it
		return true
	}
	o.flushers.add(o)
	return true
}

// abort closes the socket at once, without a farewell that could block.
func (o *outbox) abort() {
	conn := o.conn
	for {
		layer, ok := conn.(interface{ NetConn() net.Conn }) // TLS, WebSocket
		if !ok {
			break
		}
		conn = layer.NetConn()
	}
	_ = conn.Close()
}

// flush writes what has gathered as far as the socket takes it at once. The rare
// device that does not read gets a goroutine to wait for it.
func (o *outbox) flush() {
	for {
		out := o.next()
		if out == nil {
			return
		}
		n, err := 0, error(nil)
		rawErr := o.raw.Write(func(fd uintptr) bool {
			n, err = syscall.Write(int(fd), out)
			return true
		})
		switch {
		case rawErr != nil:
			err = rawErr
		case n == len(out) && err == nil:
		default: // full, or interrupted half-way
			o.mu.Lock()
			rest := append(append([]byte(nil), out[max(n, 0):]...), o.gathered...)
			o.gathered, o.spare = rest, out
			o.mu.Unlock()
			go o.write()
			return
		}
		o.wrote(out, err)
	}
}

// write empties the outbox, waiting for the socket, and ends.
func (o *outbox) write() {
	for {
		out := o.next()
		if out == nil {
			return
		}
		err := o.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = o.conn.Write(out)
		}
		if err == nil && o.raw != nil { // the next flush must not meet an old deadline
			err = o.conn.SetWriteDeadline(time.Time{})
		}
		o.wrote(out, err)
	}
}

// next takes what has gathered; nil ends the writing.
func (o *outbox) next() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.gathered) == 0 || o.failed {
		o.writing = false
		o.writers.Done()
		return nil
	}
	out := o.gathered
	o.gathered, o.spare = o.spare[:0], nil
	return out
}

func (o *outbox) wrote(out []byte, err error) {
	if cap(out) > maxSpare { // a rare large delivery must not keep its memory
		out = nil
	}
	o.mu.Lock()
	o.spare, o.failed = out, err != nil
	o.mu.Unlock()
	if err != nil {
		// The reader notices: its next read fails.
		_ = o.conn.Close()
	}
}

// drained waits until everything queued so far is written or has failed.
func (o *outbox) drained() { o.writers.Wait() }

// flushers write the outboxes of all plain connections: a goroutine for each
// would put thousands in front of everything else whenever the log acknowledges a
// batch.
type flushers struct {
	mu      sync.Mutex
	waiting []*outbox
	wake    chan struct{}
}

func newFlushers() *flushers { return &flushers{wake: make(chan struct{}, 1)} }

// add hands over an outbox. It never blocks; each outbox waits at most once.
func (f *flushers) add(o *outbox) {
	f.mu.Lock()
	f.waiting = append(f.waiting, o)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run flushes until ctx ends, and then what still waits.
func (f *flushers) run(ctx context.Context) {
	var batch []*outbox
	for {
		f.mu.Lock()
		batch, f.waiting = f.waiting, batch[:0]
		f.mu.Unlock()
		for i, o := range batch {
			o.flush()
			batch[i] = nil
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return
		}
	}
}
