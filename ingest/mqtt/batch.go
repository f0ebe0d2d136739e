package mqtt

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
)

// batch is a message whose PUBACK waits for all of its events.
type batch struct {
	packetID uint16
	left     atomic.Int32
}

// publishBatch appends each event of a batch. Nothing is appended of one that is
// malformed.
func (c *connection) publishBatch(ctx context.Context, payload []byte, packetID uint16, qos byte) error {
	events, err := telemetry.SplitBatch(payload)
	if err != nil {
		return because(endBadBatch, err)
	}
	b := &batch{packetID: packetID}
	b.left.Store(int32(len(events)))
	for _, e := range events {
		if e.At.IsZero() {
			e.At = c.eventTime()
		}
		if err := c.append(ctx, e.Body, e.At, packetID, qos, b); err != nil {
			return err
		}
	}
	return nil
}

// eventTime is when the message's event happened: the device says, else it
// arrived.
func (c *connection) eventTime() time.Time {
	if !c.bag.created.IsZero() {
		return c.bag.created
	}
	return c.arrived
}
