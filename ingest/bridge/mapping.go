package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
	"github.com/fleetlog/fleetlog/ingest/telemetry"
)

const (
	maxExpressionBytes = 8 << 10
	maxExpressionNodes = 1000
	// memoryBudget is in expr's unit, elements made; it bounds ranges and what
	// is built of them.
	memoryBudget = 1_000_000

	maxIDBytes         = 256
	maxPropertiesBytes = 16 << 10
)

// expression is compiled once, and safe for concurrent runs.
type expression struct {
	name    string // the setting
	program *vm.Program
}

// compile checks an expression against what it will see. The error shows the
// place.
func compile(name, source string, captures []string) (*expression, error) {
	if len(source) > maxExpressionBytes {
		return nil, fmt.Errorf("has %d bytes, allowed are %d", len(source), maxExpressionBytes)
	}
	program, err := expr.Compile(source, expr.Env(shape(captures)), expr.MaxNodes(maxExpressionNodes),
		expr.DisableBuiltin("now"), // a message repeated must give the same event; properties.received is there
		expr.Patch(limitLoops{}))
	if err != nil {
		return nil, err
	}
	return &expression{name: name, program: program}, nil
}

// limitLoops has every loop count its rounds: expr bounds what an expression
// allocates, but not how long it runs.
type limitLoops struct{}

// Visit puts the call to the counter in front of a loop's body.
func (limitLoops) Visit(node *ast.Node) {
	predicate, ok := (*node).(*ast.PredicateNode)
	if !ok {
		return
	}
	step := &ast.CallNode{Callee: &ast.IdentifierNode{Value: stepName}}
	predicate.Node = &ast.SequenceNode{Nodes: []ast.Node{step, predicate.Node}}
}

func (e *expression) run(env map[string]any) (any, error) {
	machine := vm.VM{MemoryBudget: memoryBudget}
	v, err := machine.Run(e.program, env)
	if err != nil {
		return nil, fmt.Errorf("expression `%s`: %w", e.name, err)
	}
	return v, nil
}

// text runs an expression that gives a string; "" when there is none.
func (e *expression) text(env map[string]any, most int) (string, error) {
	if e == nil {
		return "", nil
	}
	v, err := e.run(env)
	if err != nil {
		return "", err
	}
	s, err := asText(v)
	switch {
	case err != nil:
		return "", fmt.Errorf("expression `%s`: %w", e.name, err)
	case len(s) > most:
		return "", fmt.Errorf("expression `%s` gave %d bytes, allowed are %d", e.name, len(s), most)
	case !utf8.ValidString(s):
		return "", fmt.Errorf("expression `%s` gave something that is not UTF-8", e.name)
	}
	return s, nil
}

func asText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case int, float64, bool:
		return fmt.Sprint(v), nil
	}
	return "", fmt.Errorf("it gave %T, wanted is text", v)
}

// mapping says what becomes of a topic's messages. Without expressions the
// payload passes untouched and unread, as it does in the gateway.
type mapping struct {
	format     string
	telemetry  *expression
	device     *expression
	component  *expression
	id         *expression
	time       *expression
	properties []property
}

type property struct {
	name  string
	value *expression
}

// reads reports whether any expression needs the payload parsed.
func (m *mapping) reads() bool {
	return m.telemetry != nil || m.device != nil || m.component != nil || m.id != nil || m.time != nil || len(m.properties) > 0
}

// mapped is what the expressions made of a message.
type mapped struct {
	skip       bool // the mapping does not want it
	device     string
	id         string
	component  string
	properties string // percent-encoded, as a device would send it
	payload    []byte
	json       bool // the payload was made here
	at         time.Time
}

// apply runs the expressions.
func (m *mapping) apply(msg *message, names, values []string) (mapped, error) {
	out := mapped{payload: msg.payload, at: msg.received}
	if i := slices.Index(names, deviceCapture); i >= 0 {
		out.device = values[i]
	}
	if !m.reads() {
		return out, nil
	}
	env, err := environment(msg, m.format, names, values)
	if err != nil {
		return mapped{}, err
	}
	if err := m.applyTelemetry(&out, env); err != nil || out.skip {
		return out, err
	}
	return out, m.applyAttributes(&out, env)
}

func (m *mapping) applyTelemetry(out *mapped, env map[string]any) error {
	if m.telemetry == nil {
		return nil
	}
	v, err := m.telemetry.run(env)
	if err != nil {
		return err
	}
	if v == nil {
		out.skip = true
		return nil
	}
	if _, ok := v.(map[string]any); !ok {
		return fmt.Errorf("expression `telemetry` gave %T, wanted is an object: write { \"name\": payload }, or nil to leave a message out", v)
	}
	out.payload, err = encode(v)
	out.json = true
	return err
}

// encode writes JSON, and no more of it than a device may send: a value can hold
// the payload many times over, so it is measured first.
func encode(v any) ([]byte, error) {
	if spend(v, maxPayloadBytes) < 0 {
		return nil, fmt.Errorf("what expression `telemetry` gave is larger than %d bytes", maxPayloadBytes)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("what expression `telemetry` gave cannot be written as JSON: %w", err)
	}
	if b.Len() > maxPayloadBytes+1 {
		return nil, fmt.Errorf("what expression `telemetry` gave is larger than %d bytes", maxPayloadBytes)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// spend takes the least that v needs in JSON off what is left, and stops when
// that is negative.
func spend(v any, left int) int {
	switch v := v.(type) {
	case string:
		return left - len(v) - 2
	case []any:
		for i := 0; i < len(v) && left >= 0; i++ {
			left = spend(v[i], left-1)
		}
	case map[string]any:
		for name, value := range v {
			if left < 0 {
				break
			}
			left = spend(value, left-len(name)-4)
		}
	default:
		left--
	}
	return left
}

func (m *mapping) applyAttributes(out *mapped, env map[string]any) (err error) {
	if m.device != nil {
		if out.device, err = m.device.text(env, maxIDBytes); err != nil {
			return err
		}
	}
	if out.id, err = m.id.text(env, maxIDBytes); err != nil {
		return err
	}
	if out.component, err = m.component.text(env, telemetry.MaxComponentBytes); err != nil {
		return err
	}
	if m.time != nil {
		if out.at, err = m.eventTime(env, out.at); err != nil {
			return err
		}
	}
	var bag strings.Builder
	for _, p := range m.properties {
		value, err := p.value.text(env, maxPropertiesBytes)
		if err != nil {
			return err
		}
		if bag.Len() > 0 {
			bag.WriteByte('&')
		}
		bag.WriteString(escapeProperty(p.name) + "=" + escapeProperty(value))
		if bag.Len() > maxPropertiesBytes {
			return fmt.Errorf("the properties have more than %d bytes", maxPropertiesBytes)
		}
	}
	out.properties = bag.String()
	return nil
}

// escapeProperty leaves no character that takes a property bag apart; unlike
// QueryEscape it writes a space as devices do, %20.
func escapeProperty(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

var errNoTime = errors.New("expression `time` gave no time between 1900 and 2299: give RFC 3339 text, Unix milliseconds, or date(…)")

// eventTime is the expression's time: RFC 3339 text, Unix milliseconds or a
// time; without any, when the message was received.
func (m *mapping) eventTime(env map[string]any, received time.Time) (time.Time, error) {
	v, err := m.time.run(env)
	if err != nil {
		return time.Time{}, err
	}
	var at time.Time
	switch v := v.(type) {
	case nil:
		return received, nil
	case time.Time:
		at = v
	case int:
		at = time.UnixMilli(int64(v))
	case float64:
		if v < float64(telemetry.Earliest.UnixMilli()) || v > float64(telemetry.Latest.UnixMilli()) {
			return time.Time{}, errNoTime
		}
		at = time.UnixMilli(int64(v))
	case string:
		if at, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return time.Time{}, errNoTime
		}
	}
	if !at.After(telemetry.Earliest) || !at.Before(telemetry.Latest) {
		return time.Time{}, errNoTime
	}
	return at, nil
}
