package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/types"
)

const (
	// maxPayloadBytes is what the gateway takes of a device (FEATURES.md HUB-07).
	maxPayloadBytes = 256 << 10
	// maxDepth is as deep as the telemetry projection takes a payload.
	maxDepth = 128
	// maxSteps bounds how often the bodies of an expression's loops run.
	maxSteps = 100_000
)

// Payload formats.
const (
	formatJSON = "json"
	formatText = "text"
)

// stepName is the function that every loop's body calls; see [limitLoops].
const stepName = "__step"

var errTooManySteps = fmt.Errorf("the expression's loops ran more than %d times: send smaller arrays, or look at less of them", maxSteps)

// shape is the type of an expression's environment, by which a wrong name is
// found before the first message.
func shape(captures []string) types.Map {
	named := types.Map{}
	for _, name := range captures {
		named[name] = types.String
	}
	return types.Map{
		"payload":  types.Any,
		"captures": named,
		"properties": types.Map{
			"topic": types.String, "qos": types.Int, "retained": types.Bool, "duplicate": types.Bool,
			"received": types.TypeOf(time.Time{}),
		},
		stepName: types.TypeOf(func() (bool, error) { return true, nil }),
	}
}

// environment is what the expressions see of one message.
func environment(m *message, format string, names, values []string) (map[string]any, error) {
	payload, err := parsePayload(m.payload, format)
	if err != nil {
		return nil, err
	}
	captures := make(map[string]any, len(names))
	for i, name := range names {
		captures[name] = values[i]
	}
	steps := 0
	return map[string]any{
		"payload":  payload,
		"captures": captures,
		"properties": map[string]any{
			"topic": m.topic, "qos": int(m.qos), "retained": m.retained, "duplicate": m.duplicate, "received": m.received,
		},
		stepName: func() (bool, error) {
			if steps++; steps > maxSteps {
				return false, errTooManySteps
			}
			return true, nil
		},
	}, nil
}

// parsePayload makes a value of the payload. Whole numbers stay whole.
func parsePayload(payload []byte, format string) (any, error) {
	if !utf8.Valid(payload) {
		return nil, errors.New("payload is not UTF-8")
	}
	if format == formatText {
		return string(payload), nil
	}
	if tooDeep(payload) {
		return nil, fmt.Errorf("payload nests deeper than %d levels", maxDepth)
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, fmt.Errorf("payload is not JSON: %w; send JSON, or set `format: text` on the bridge's topic", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("payload is not JSON: something follows the value")
	}
	return numbers(v)
}

// tooDeep looks at the brackets outside strings, before anything recurses.
func tooDeep(payload []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(payload); i++ {
		switch c := payload[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// numbers replaces each number by an int where it is one, else by a float64.
func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if whole, err := v.Int64(); err == nil {
			return int(whole), nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("payload has a number no float64 holds: %.40s", v)
		}
		return f, nil
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = numbers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
