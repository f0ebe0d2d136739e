package mqtt

import (
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// writeTimeout bounds how long a device may leave what we sent it unread.
const writeTimeout = 20 * time.Second

// outbox collects what goes to a device. Acknowledgements come one by one from
// the log's goroutine and leave together: while one write is under way the next
// ones gather, and no goroutine exists while there is nothing to write. What can
// gather is bounded by the connection's window.
type outbox struct {
	conn     net.Conn
	mu       sync.Mutex
	gathered []byte
	spare    []byte
	writing  bool
	failed   bool
	writers  sync.WaitGroup
}

// acknowledge queues a PUBACK (MQTT 3.1.1 §3.4).
func (c *connection) acknowledge(packetID uint16) {
	c.out.send(packets.Puback<<4, 2, byte(packetID>>8), byte(packetID))
}

// send queues bytes in order. It never blocks.
func (o *outbox) send(packet ...byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed {
		return
	}
	o.gathered = append(o.gathered, packet...)
	if !o.writing {
		o.writing = true
		o.writers.Go(o.write)
	}
}

// write empties the outbox and ends.
func (o *outbox) write() {
	for {
		o.mu.Lock()
		if len(o.gathered) == 0 || o.failed {
			o.writing = false
			o.mu.Unlock()
			return
		}
		out := o.gathered
		o.gathered = o.spare[:0]
		o.mu.Unlock()
		err := o.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = o.conn.Write(out)
		}
		o.mu.Lock()
		o.spare, o.failed = out, err != nil
		o.mu.Unlock()
		if err != nil {
			// The reader notices: its next read fails.
			_ = o.conn.Close()
		}
	}
}

// drained waits until everything queued so far is written or has failed.
func (o *outbox) drained() { o.writers.Wait() }
