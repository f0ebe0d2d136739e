package mqtt

import (
	"context"
	"strconv"
	"strings"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxHeaders is how many headers a telemetry record can have.
const maxHeaders = 8

// pending is one message between its arrival and the log's acknowledgement. It
// owns everything the record points to and is used again and again.
type pending struct {
	record    kgo.Record
	headers   [maxHeaders]kgo.RecordHeader
	bytes     []byte // id, time and payload
	conn      *connection
	packetID  uint16
	qos       byte
	completed func(*kgo.Record, error) // p.complete, bound once
}

func newPending() any {
	p := new(pending)
	p.completed = p.complete
	return p
}

var typeTelemetry = []byte(eventlog.TypeTelemetry)

// timeFormat is RFC 3339 to the millisecond, in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// publish hands one message to the log. It blocks while the log, or this
// device's own window, is full: that is the back-pressure to the socket.
func (c *connection) publish(ctx context.Context, topic string, payload []byte, packetID uint16, qos byte) error {
	if topic != c.topic {
		b, err := parseTopic(topic, c.prefix)
		if err != nil {
			return err
		}
		c.setTopic(topic, b)
	}
	if err := c.window.Acquire(ctx, 1); err != nil {
		return because(endShutdown, err)
	}
	p := c.gateway.pendings.Get().(*pending)
	p.conn, p.packetID, p.qos = c, packetID, qos
	c.sequence++
	p.fill(c, payload)
	c.gateway.log.Append(ctx, &p.record, p.completed)
	return nil
}

// fill makes the pending message a CloudEvents record. Its variable bytes share
// one allocation, kept for the next message.
func (p *pending) fill(c *connection, payload []byte) {
	at := c.arrived
	if !c.bag.created.IsZero() {
		at = c.bag.created
	}
	if !at.Equal(c.stamped) { // many messages of a busy device share a millisecond
		c.stamped, c.stamp = at, at.UTC().AppendFormat(c.stamp[:0], timeFormat)
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
		kgo.RecordHeader{Key: eventlog.HeaderSource, Value: c.source},
		kgo.RecordHeader{Key: eventlog.HeaderType, Value: typeTelemetry},
		kgo.RecordHeader{Key: eventlog.HeaderTime, Value: b[idEnd:timeEnd]},
	)
	h = append(h, c.bagHeaders...)
	p.record = kgo.Record{
		Topic:     c.gateway.topic,
		Key:       c.key,
		Value:     b[timeEnd:],
		Headers:   h,
		Timestamp: c.arrived,
	}
}

// setTopic keeps what a topic says, because a device's next message most often
// has the very same one.
func (c *connection) setTopic(topic string, b bag) {
	c.topic, c.bag = strings.Clone(topic), b
	c.bagHeaders = c.bagHeaders[:0]
	add := func(key, value string) {
		if value != "" {
			c.bagHeaders = append(c.bagHeaders, kgo.RecordHeader{Key: key, Value: []byte(value)})
		}
	}
	add(eventlog.HeaderContentType, b.contentType)
	add(eventlog.HeaderSubject, b.component)
	add(eventlog.HeaderProperties, b.raw)
}

// complete is the log's answer. A message that failed closes the connection
// without a PUBACK: the device sends it again when it is back.
func (p *pending) complete(_ *kgo.Record, err error) {
	c, packetID, qos := p.conn, p.packetID, p.qos
	p.conn, p.record = nil, kgo.Record{}
	if cap(p.bytes) <= 4<<10 { // a rare large message must not keep its memory
		c.gateway.pendings.Put(p)
	}
	switch {
	case err != nil:
		c.gateway.metrics.appendErrors.Inc()
		c.drop(endLogFailed)
	case qos > 0:
		c.gateway.metrics.messages.Inc()
		c.acknowledge(packetID)
	default:
		c.gateway.metrics.messages.Inc()
	}
	c.window.Release(1)
}
