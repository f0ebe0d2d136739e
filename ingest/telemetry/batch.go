package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// BatchType is the content type (`$.ct`) of a message that is a JSON array of
// events: `[{"ts":"2026-01-02T03:04:05Z","body":{…}}, …]`. `body` is any JSON;
// `ts`, or `iothub-creation-time-utc`, is its time in UTC with `Z`, and may be left
// out. Each event becomes a record of its own, with the message's properties.
const BatchType = "application/vnd.fleetlog.batch+json"

// MaxBatch bounds the events of one batch.
const MaxBatch = 1000

// ErrBatch is returned, with the reason, for a message that is said to be a batch
// and is none.
var ErrBatch = errors.New(`a batch is an array of {"ts":"2026-01-02T03:04:05Z","body":{}}`)

// Event is one event of a batch.
type Event struct {
	At   time.Time // zero: the message's
	Body []byte
}

// SplitBatch reads the events of a batch: all of them, or none.
func SplitBatch(payload []byte) ([]Event, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	if open, err := decoder.Token(); err != nil || open != json.Delim('[') {
		return nil, fmt.Errorf("%w; this is no JSON array", ErrBatch)
	}
	var events []Event
	for decoder.More() {
		if len(events) == MaxBatch {
			return nil, fmt.Errorf("%w; this has more than %d events", ErrBatch, MaxBatch)
		}
		e, err := readEvent(decoder)
		if err != nil {
			return nil, fmt.Errorf("%w; event %d: %w", ErrBatch, len(events)+1, err)
		}
		events = append(events, e)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("%w; this is not JSON: %w", ErrBatch, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w; something follows the array", ErrBatch)
	}
	if len(events) == 0 {
		return nil, fmt.Errorf("%w; this is empty", ErrBatch)
	}
	return events, nil
}

func readEvent(decoder *json.Decoder) (Event, error) {
	var raw struct {
		Timestamp *string         `json:"ts"`
		Created   *string         `json:"iothub-creation-time-utc"`
		Body      json.RawMessage `json:"body"`
	}
	if err := decoder.Decode(&raw); err != nil {
		return Event{}, err
	}
	if raw.Body == nil {
		return Event{}, errors.New("it has no body")
	}
	e := Event{Body: raw.Body}
	stamp := raw.Timestamp
	if stamp == nil {
		stamp = raw.Created
	}
	if stamp == nil {
		return e, nil
	}
	at, ok := ParseEventTime(*stamp)
	if !ok {
		return Event{}, fmt.Errorf("time %.64q is not RFC 3339 in UTC with Z", *stamp)
	}
	e.At = at
	return e, nil
}

// Split makes a message that is a batch the messages of its events, which have its
// properties; one that is none stays as it is.
func (m Message) Split() ([]Message, error) {
	if m.contentType() != BatchType {
		return []Message{m}, nil
	}
	events, err := SplitBatch(m.Payload)
	if err != nil {
		return nil, err
	}
	messages := make([]Message, len(events))
	for i, e := range events {
		messages[i] = m
		messages[i].Payload, messages[i].At = e.Body, e.At
	}
	return messages, nil
}

func (m Message) contentType() string {
	for _, p := range m.Properties {
		if p.Name == ContentType {
			return p.Value
		}
	}
	return ""
}
