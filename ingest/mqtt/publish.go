package mqtt

import (
	"context"
	"strconv"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxHeaders is how many headers a telemetry record can have.
const maxHeaders = 9

// pending is one message between its arrival and the log's acknowledgement. It
// owns everything the record points to and is used again and again.
type pending struct {
	record    kgo.Record
	headers   [maxHeaders]kgo.RecordHeader
	bytes     []byte // id, time and payload
	conn      *connection
	packetID  uint16
	qos       byte
	batch     *batch                   // nil for a message of one event
	completed func(*kgo.Record, error) // p.complete, bound once
}

func newPending() any {
	p := new(pending)
	p.completed = p.complete
	return p
}

var typeTelemetry = []byte(eventlog.TypeTelemetry)

// publish hands one message to the log. It blocks while the log, or this
// device's own window, is full: that is the back-pressure to the socket.
func (c *connection) publish(ctx context.Context, topic string, payload []byte, packetID uint16, qos byte) error {
	if topic != c.topic || topic == "" || c.outdated() {
		if err := c.setTopic(topic); err != nil {
			return err
		}
	}
	if c.bag.batch {
		return c.publishBatch(ctx, payload, packetID, qos)
	}
	return c.append(ctx, payload, c.eventTime(), packetID, qos, nil)
}

// append hands one event to the log.
func (c *connection) append(ctx context.Context, payload []byte, at time.Time, packetID uint16, qos byte, b *batch) error {
	if err := c.window.Acquire(ctx, 1); err != nil {
		return because(endShutdown, err)
	}
	p := c.gateway.pendings.Get().(*pending)
	p.conn, p.packetID, p.qos, p.batch = c, packetID, qos, b
	c.sequence++
	p.fill(c, payload, at)
	c.gateway.log.Append(ctx, &p.record, p.completed)
	return nil
}

// fill makes the pending message a CloudEvents record. Its variable bytes share
// one allocation, kept for the next message.
func (p *pending) fill(c *connection, payload []byte, at time.Time) {
	if !at.Equal(c.stamped) { // many messages of a busy device share a millisecond
		c.stamped, c.stamp = at, at.UTC().AppendFormat(c.stamp[:0], eventlog.TimeFormat)
	}
	size := len(c.id) + 20 + len(c.stamp) + len(payload)
	if cap(p.bytes) < size {
		p.bytes = make([]byte, 0, size)
	}
	b := p.bytes[:0]
	b = append(b, c.id...)
	b = strconv.AppendUint(b, c.sequence, 10)
	idEnd := len(b)
	b = append(b, c.stamp...)
	timeEnd := len(b)
	b = append(b, payload...)
	p.bytes = b

	h := append(p.headers[:0],
		kgo.RecordHeader{Key: eventlog.HeaderSpecVersion, Value: eventlog.SpecVersion},
		kgo.RecordHeader{Key: eventlog.HeaderID, Value: b[:idEnd]},
		kgo.RecordHeader{Key: eventlog.HeaderSource, Value: c.from.source},
		kgo.RecordHeader{Key: eventlog.HeaderType, Value: typeTelemetry},
		kgo.RecordHeader{Key: eventlog.HeaderTime, Value: b[idEnd:timeEnd]},
	)
	h = append(h, c.bagHeaders...)
	p.record = kgo.Record{
		Topic:     c.gateway.topic,
		Key:       c.from.key,
		Value:     b[timeEnd:],
		Headers:   h,
		Timestamp: c.arrived,
	}
}

// complete is the log's answer. A message that failed closes the connection
// without a PUBACK: the device sends it again when it is back.
func (p *pending) complete(_ *kgo.Record, err error) {
	c, packetID, qos, whole := p.conn, p.packetID, p.qos, p.batch
	p.conn, p.batch, p.record = nil, nil, kgo.Record{}
	if cap(p.bytes) <= 4<<10 { // a rare large message must not keep its memory
		c.gateway.pendings.Put(p)
	}
	switch {
	case err != nil:
		c.gateway.metrics.appendErrors.Inc()
		c.drop(endLogFailed)
	case whole != nil && whole.left.Add(-1) > 0:
		c.gateway.metrics.messages.Inc() // the last of its events answers
	case qos > 0:
		c.gateway.metrics.messages.Inc()
		c.acknowledge(packetID)
	default:
		c.gateway.metrics.messages.Inc()
	}
	c.window.Release(1)
}
