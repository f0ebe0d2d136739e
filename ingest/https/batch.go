package https

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
)

const (
	// batchType is the content type of several messages in one request.
	batchType = "application/vnd.microsoft.iothub.json"
	// maxBatch is how many messages one may have.
	maxBatch = 500
	// maxBatchBytes has room for 256 KiB of messages in base64.
	maxBatchBytes = 512 << 10
)

// errBatch is returned, with the reason, for a body that is no batch.
var errBatch = errors.New(`a batch is an array of {"body":"<base64>","properties":{"name":"value"}}`)

// entry is one message of a batch.
type entry struct {
	Body string `json:"body"`
	// Base64 is false when the body is the text itself; Azure's SDK for C says so.
	Base64     *bool             `json:"base64Encoded"`
	Properties map[string]string `json:"properties"`
}

// parseBatch reads a batch. What its messages have together is bounded as one
// message is.
func parseBatch(body []byte) ([]telemetry.Message, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('[') {
		return nil, fmt.Errorf("%w; this is no array", errBatch)
	}
	var messages []telemetry.Message
	size := 0
	for decoder.More() {
		if len(messages) == maxBatch {
			return nil, fmt.Errorf("%w; at most %d of them", errBatch, maxBatch)
		}
		var e entry
		if err := decoder.Decode(&e); err != nil {
			return nil, fmt.Errorf("%w; entry %d is not", errBatch, len(messages)+1)
		}
		m, err := e.message()
		if err != nil {
			return nil, fmt.Errorf("%w; entry %d: %w", errBatch, len(messages)+1, err)
		}
		if size += m.Size(); size > telemetry.MaxBytes {
			return nil, telemetry.ErrTooLarge
		}
		messages = append(messages, m)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("%w; it does not end", errBatch)
	}
	if decoder.More() || len(messages) == 0 {
		return nil, fmt.Errorf("%w; this is empty, or more than one", errBatch)
	}
	return messages, nil
}

func (e entry) message() (telemetry.Message, error) {
	m := telemetry.Message{Payload: []byte(e.Body)}
	if e.Base64 == nil || *e.Base64 {
		payload, err := base64.StdEncoding.DecodeString(e.Body)
		if err != nil {
			return m, errors.New("its body is not base64")
		}
		m.Payload = payload
	}
	for key, value := range e.Properties {
		name := key
		if len(key) >= len(appPrefix) && strings.EqualFold(key[:len(appPrefix)], appPrefix) {
			name = key[len(appPrefix):]
		} else if system, known := systemProperties[strings.ToLower(key)]; known {
			m.Properties = append(m.Properties, telemetry.Property{Name: system, Value: value})
			continue
		}
		name = strings.TrimPrefix(name, "$.") // no system property by the back door
		if name == "" {
			return m, errors.New("a property has no name")
		}
		m.Properties = append(m.Properties, telemetry.Property{Name: name, Value: value})
	}
	sortBag(m.Properties)
	return m, nil
}
