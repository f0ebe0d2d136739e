package simulation

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/dtdl/sample"
)

// description is the `ad` of all that a simulated device acknowledges.
const description = "simulated"

// Codes of acknowledgements (FEATURES.md PAY-23).
const (
	ackCompleted = 200
	ackInitial   = 203 // set by the device itself, with version 0
)

// imitation makes up what a device of a model would say. It is pure: the same device
// and model, asked the same at the same times, say the same.
type imitation struct {
	parts  []part // the device itself, then its components
	random *rand.Rand
	last   map[string]any // telemetry's newest values, by component/name
}

// part is the device itself (name "") or one of its components.
type part struct {
	name      string
	contents  *dtdl.Interface
	telemetry []*dtdl.Content
}

// message is telemetry of one part.
type message struct {
	component string
	body      []byte
}

func newImitation(tenant, id string, model *dtdl.Model) *imitation {
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(tenant + "/" + id)) // never fails
	i := &imitation{
		random: rand.New(rand.NewPCG(seed.Sum64(), 1)), //nolint:gosec // a simulation, not a secret
		last:   map[string]any{},
	}
	i.add("", model.Root)
	for _, c := range model.Root.All {
		if c.Kind == dtdl.Component && c.Interface != nil {
			i.add(c.Name, c.Interface)
		}
	}
	return i
}

func (i *imitation) add(name string, contents *dtdl.Interface) {
	p := part{name: name, contents: contents}
	for _, c := range contents.All {
		if c.Kind == dtdl.Telemetry && c.Schema != nil {
			p.telemetry = append(p.telemetry, c)
		}
	}
	i.parts = append(i.parts, p)
}

// measure is the telemetry of a moment: one message for each part that has any
// (FEATURES.md PAY-04).
func (i *imitation) measure(at time.Time) ([]message, error) {
	var messages []message
	for _, p := range i.parts {
		if len(p.telemetry) == 0 {
			continue
		}
		values := map[string]any{}
		for _, c := range p.telemetry {
			key := p.name + "/" + c.Name
			i.last[key] = sample.Value(c, i.random, at, i.last[key])
			values[c.Name] = i.last[key]
		}
		body, err := json.Marshal(values)
		if err != nil {
			return nil, fmt.Errorf("telemetry of %q: %w", p.name, err)
		}
		messages = append(messages, message{p.name, body})
	}
	return messages, nil
}

// acknowledgement is a device's answer to a desired property (FEATURES.md PAY-22).
type acknowledgement struct {
	Value       any    `json:"value"`
	Code        int    `json:"ac"`
	Version     uint64 `json:"av"`
	Description string `json:"ad"`
}

// introduce is what a device that has just connected reports, given its twin: values
// of its properties, and that it has taken over what is desired.
func (i *imitation) introduce(at time.Time, twin []byte) (patch []byte, err error) {
	var sections struct {
		Desired json.RawMessage `json:"desired"`
	}
	if err := json.Unmarshal(twin, &sections); err != nil {
		return nil, fmt.Errorf("twin: %w", err)
	}
	report := map[string]any{}
	for _, p := range i.parts {
		own := report
		if p.name != "" {
			own = map[string]any{"__t": "c"}
		}
		for _, c := range p.contents.All {
			if c.Kind == dtdl.Property && !c.Cloud && c.Schema != nil {
				own[c.Name] = i.initial(c, at)
			}
		}
		if p.name != "" && len(own) > 1 {
			report[p.name] = own
		}
	}
	if err := i.takeOver(report, sections.Desired); err != nil {
		return nil, err
	}
	return encode(report)
}

func (i *imitation) initial(c *dtdl.Content, at time.Time) any {
	value := sample.Value(c, i.random, at, nil)
	if c.Writable {
		return acknowledgement{value, ackInitial, 0, description}
	}
	return value
}

// acknowledge is what a device reports that has taken over a change of its desired
// properties; nil when there is nothing to say.
func (i *imitation) acknowledge(desired []byte) (patch []byte, err error) {
	report := map[string]any{}
	if err := i.takeOver(report, desired); err != nil {
		return nil, err
	}
	return encode(report)
}

// takeOver adds acknowledgements of the desired values to a report.
func (i *imitation) takeOver(report map[string]any, desired []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(desired, &values); err != nil {
		return fmt.Errorf("desired properties: %w", err)
	}
	var version uint64
	if err := json.Unmarshal(values["$version"], &version); err != nil {
		return fmt.Errorf("version of the desired properties: %w", err)
	}
	for name, value := range values {
		if inner, ok := i.component(name, value); ok {
			own, ok := report[name].(map[string]any)
			if !ok {
				own = map[string]any{"__t": "c"}
			}
			if accept(own, inner, version); len(own) > 1 {
				report[name] = own
			}
			delete(values, name)
		}
	}
	accept(report, values, version)
	return nil
}

// accept acknowledges single properties. One that is taken back, null, is left as it
// was reported.
func accept(report map[string]any, values map[string]json.RawMessage, version uint64) {
	for name, value := range values {
		if !strings.HasPrefix(name, "$") && name != "__t" && string(value) != "null" {
			report[name] = acknowledgement{value, ackCompleted, version, description}
		}
	}
}

// component is the desired values of a component: the model has one of that name, or
// the value says so (FEATURES.md PAY-21).
func (i *imitation) component(name string, value json.RawMessage) (map[string]json.RawMessage, bool) {
	var inner map[string]json.RawMessage
	if json.Unmarshal(value, &inner) != nil || inner == nil {
		return nil, false
	}
	return inner, string(inner["__t"]) == `"c"` || name != "" && i.part(name) != nil
}

func (i *imitation) part(name string) *part {
	for n := range i.parts {
		if i.parts[n].name == name {
			return &i.parts[n]
		}
	}
	return nil
}

// answer is what a device answers to a command, `name` or `component*name`: a value
// of the response's schema, empty when it has none.
func (i *imitation) answer(at time.Time, method string) (status int, body []byte, err error) {
	component, name, ok := strings.Cut(method, "*")
	if !ok {
		component, name = "", method
	}
	var command *dtdl.Content
	if p := i.part(component); p != nil {
		command = p.contents.Find(dtdl.Command, name)
	}
	switch {
	case command == nil:
		return http.StatusNotFound, nil, nil
	case command.Response == nil || command.Response.Schema == nil:
		return http.StatusOK, nil, nil
	}
	body, err = json.Marshal(sample.Payload(command.Response, i.random, at))
	if err != nil {
		return 0, nil, fmt.Errorf("answer to %s: %w", method, err)
	}
	return http.StatusOK, body, nil
}

func encode(report map[string]any) ([]byte, error) {
	if len(report) == 0 {
		return nil, nil
	}
	patch, err := json.Marshal(report)
	if err != nil {
		return nil, fmt.Errorf("reported properties: %w", err)
	}
	return patch, nil
}
