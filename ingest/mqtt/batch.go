package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// contentTypeBatch is the content type (`$.ct`) of a message that is a JSON array
// of events: `[{"ts":"2026-01-02T03:04:05Z","body":{…}}, …]`. `body` is any JSON;
// `ts`, or `iothub-creation-time-utc`, is its time in UTC with `Z`, and may be left
// out. Each event becomes a record of its own, with the message's properties.
const contentTypeBatch = "application/vnd.fleetlog.batch+json"

// maxBatch bounds the events of one batch.
const maxBatch = 1000

// entry is one event of a batch.
type entry struct {
	at   time.Time // zero: the message's
	body []byte
}

// batch is a message whose PUBACK waits for all of its events.
type batch struct {
	packetID uint16
	left     atomic.Int32
}

// publishBatch appends each event of a batch. Nothing is appended of one that is
// malformed.
func (c *connection) publishBatch(ctx context.Context, payload []byte, packetID uint16, qos byte) error {
	entries, err := splitBatch(payload)
	if err != nil {
		return because(endBadBatch, err)
	}
	b := &batch{packetID: packetID}
	b.left.Store(int32(len(entries)))
	for _, e := range entries {
		if e.at.IsZero() {
			e.at = c.eventTime()
		}
		if err := c.append(ctx, e.body, e.at, packetID, qos, b); err != nil {
			return err
		}
	}
	return nil
}

// splitBatch reads the events of a batch.
func splitBatch(payload []byte) ([]entry, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	if open, err := decoder.Token(); err != nil || open != json.Delim('[') {
		return nil, errors.New("the batch is not a JSON array")
	}
	var entries []entry
	for decoder.More() {
		if len(entries) == maxBatch {
			return nil, fmt.Errorf("the batch has more than %d events", maxBatch)
		}
		e, err := readEntry(decoder)
		if err != nil {
			return nil, fmt.Errorf("event %d of the batch: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("the batch is not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the batch's array")
	}
	if len(entries) == 0 {
		return nil, errors.New("the batch is empty")
	}
	return entries, nil
}

func readEntry(decoder *json.Decoder) (entry, error) {
	var raw struct {
		Timestamp *string         `json:"ts"`
		Created   *string         `json:"iothub-creation-time-utc"`
		Body      json.RawMessage `json:"body"`
	}
	if err := decoder.Decode(&raw); err != nil {
		return entry{}, err
	}
	if raw.Body == nil {
		return entry{}, errors.New("it has no body")
	}
	e := entry{body: raw.Body}
	stamp := raw.Timestamp
	if stamp == nil {
		stamp = raw.Created
	}
	if stamp == nil {
		return e, nil
	}
	at, ok := parseEventTime(*stamp)
	if !ok {
		return entry{}, fmt.Errorf("time %q is not RFC 3339 in UTC with Z", clip(*stamp))
	}
	e.at = at
	return e, nil
}

// eventTime is when the message's event happened: the device says, else it
// arrived.
func (c *connection) eventTime() time.Time {
	if !c.bag.created.IsZero() {
		return c.bag.created
	}
	return c.arrived
}
