package template

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
)

// Generated is a template made up from what a device sends.
type Generated struct {
	JSON []byte
	// LeftOut are the names that cannot be modeled, with the reason.
	LeftOut map[string]string
}

const (
	maxSamples   = 1000
	maxInferred  = 300 // contents of an interface, DTDL v2
	maxNameBytes = 64
	// maxTextLength is DTDL's of a display name, in characters.
	maxTextLength = 64
	// maxContentsBytes leaves room for what a template has around its contents.
	maxContentsBytes = MaxBytes - 16<<10
)

var inferable = regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?$`)

// reservedNames are those whose telemetry IoT Central ignores (FEATURES.md PAY-03).
var reservedNames = []string{"EventEnqueuedUtcTime", "EventProcessedUtcTime", "PartitionId", "EventHub", "User", "$metadata", "$version"}

// Generate makes a template of a device's latest messages and its reported
// properties, JSON objects each (FEATURES.md DEV-53). Components are left out, and
// so is what fits no schema.
func Generate(id, displayName string, messages [][]byte, reported []byte) (*Generated, error) {
	g := generator{schemas: map[string]any{}, kinds: map[string]string{}, left: map[string]bool{}, out: &Generated{LeftOut: map[string]string{}}}
	for _, m := range messages[:min(len(messages), maxSamples)] {
		g.take(m, "Telemetry")
	}
	g.take(reported, "Property")
	contents, err := g.contents()
	if err != nil {
		return nil, fmt.Errorf("generate template: %w", err)
	}
	displayName = firstOf(displayName, maxTextLength) // a device's may be longer
	document, err := json.Marshal(map[string]any{
		"@id": id, "@type": []string{"ModelDefinition", "DeviceModel"}, "@context": []string{"dtmi:iotcentral:context;2", "dtmi:dtdl:context;2"},
		"displayName":     displayName,
		"capabilityModel": map[string]any{"@id": modelOf(id), "@type": "Interface", "displayName": displayName, "contents": contents},
	})
	if err != nil {
		return nil, fmt.Errorf("generate template: %w", err)
	}
	if _, err := Parse(document); err != nil {
		return nil, fmt.Errorf("generate template %s: %w", id, err)
	}
	g.out.JSON = document
	return g.out, nil
}

// modelOf is the id of the model that a template is made up with.
func modelOf(id string) string {
	path, version := dtdl.Version(id)
	return dtdl.WithVersion(path+":model", max(version, 1))
}

type generator struct {
	schemas map[string]any    // by name
	kinds   map[string]string // by name
	left    map[string]bool   // all names left out; those told are bounded
	out     *Generated
}

// contents are what was seen, by name, as many as a template can have.
func (g *generator) contents() ([]json.RawMessage, error) {
	contents, size := []json.RawMessage{}, 0
	for _, name := range sorted(g.schemas) {
		if g.left[name] {
			continue
		}
		content, err := json.Marshal(map[string]any{"@type": g.kinds[name], "name": name, "displayName": name, "schema": g.schemas[name]})
		if err != nil {
			return nil, fmt.Errorf("content %s: %w", name, err)
		}
		if len(contents) == maxInferred || size+len(content) > maxContentsBytes {
			g.leave(name, "the template is full: it has at most 300 contents and 200 KiB")
			continue
		}
		contents, size = append(contents, content), size+len(content)+1
	}
	return contents, nil
}

func (g *generator) take(document []byte, kind string) {
	var members map[string]any
	if json.Unmarshal(document, &members) != nil {
		return
	}
	for name, value := range members {
		object, _ := value.(map[string]any)
		if kind == "Property" && object["__t"] == "c" {
			continue
		}
		if _, hasCode := object["ac"]; kind == "Property" && hasCode {
			value = object["value"]
		}
		if value == nil {
			continue
		}
		g.see(name, value, kind)
	}
}

func (g *generator) see(name string, value any, kind string) {
	switch {
	case len(name) > maxNameBytes || !inferable.MatchString(name):
		g.leave(name, "its name is not one of the language: letters, digits and '_', at most 64")
		return
	case slices.Contains(reservedNames, name):
		g.leave(name, "its name is the system's own")
		return
	case g.kinds[name] != "" && g.kinds[name] != kind:
		g.leave(name, "it is telemetry and a property too")
		return
	}
	schema := infer(value, kind, 1)
	if schema == nil {
		g.leave(name, "its value fits no schema")
		return
	}
	known, seen := g.schemas[name]
	if seen {
		if schema = widen(known, schema); schema == nil {
			g.leave(name, "its values are of different schemas")
			return
		}
	}
	g.schemas[name], g.kinds[name] = schema, kind
}

func (g *generator) leave(name, why string) {
	g.left[name] = true
	if len(g.out.LeftOut) < maxInferred {
		g.out.LeftOut[clip(name)] = why
	}
}

func clip(s string) string {
	if short := firstOf(s, maxNameBytes); short != s {
		return short + "…"
	}
	return s
}

func firstOf(s string, characters int) string {
	if r := []rune(s); len(r) > characters {
		return string(r[:characters])
	}
	return s
}

// maxInferredDepth is DTDL v2's of schemas.
const maxInferredDepth = 5

// infer is the schema of a value, as DTDL has it; nil when there is none.
func infer(value any, kind string, depth int) any {
	if depth > maxInferredDepth {
		return nil
	}
	switch v := value.(type) {
	case bool:
		return "boolean"
	case float64:
		return "double"
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return "dateTime"
		}
		return "string"
	case []any:
		if kind == "Property" || len(v) == 0 {
			return nil
		}
		element := infer(v[0], kind, depth+1)
		for _, item := range v[1:] {
			if element = widen(element, infer(item, kind, depth+1)); element == nil {
				break
			}
		}
		if element == nil {
			return nil
		}
		return map[string]any{"@type": "Array", "elementSchema": element}
	case map[string]any:
		return inferObject(v, kind, depth)
	}
	return nil
}

func inferObject(members map[string]any, kind string, depth int) any {
	if hasNumbers(members, "lat", "lon") && len(members) <= 3 {
		if _, three := members["alt"]; three || len(members) == 2 {
			return "geopoint"
		}
	}
	if hasNumbers(members, "x", "y", "z") && len(members) == 3 {
		return "vector"
	}
	const maxFields = 30
	if len(members) == 0 || len(members) > maxFields {
		return nil
	}
	fields := []any{}
	for _, name := range sorted(members) {
		schema := infer(members[name], kind, depth+1)
		if schema == nil || len(name) > maxNameBytes || !inferable.MatchString(name) {
			return nil
		}
		fields = append(fields, map[string]any{"name": name, "schema": schema})
	}
	return map[string]any{"@type": "Object", "fields": fields}
}

func hasNumbers(members map[string]any, names ...string) bool {
	for _, name := range names {
		if _, ok := members[name].(float64); !ok {
			return false
		}
	}
	return true
}

func sorted(members map[string]any) []string {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// widen is a schema for the values of both; nil when there is none.
func widen(a, b any) any {
	if a == nil || b == nil {
		return nil
	}
	nameA, plainA := a.(string)
	nameB, plainB := b.(string)
	switch {
	case plainA && plainB && nameA == nameB:
		return a
	case plainA && plainB && (nameA == "string" && nameB == "dateTime" || nameA == "dateTime" && nameB == "string"):
		return "string"
	case plainA || plainB:
		return nil
	}
	objectA, objectB := a.(map[string]any), b.(map[string]any)
	if objectA["@type"] != objectB["@type"] {
		return nil
	}
	if objectA["@type"] == "Array" {
		if element := widen(objectA["elementSchema"], objectB["elementSchema"]); element != nil {
			return map[string]any{"@type": "Array", "elementSchema": element}
		}
		return nil
	}
	return widenFields(objectA["fields"].([]any), objectB["fields"].([]any))
}

// widenFields has the fields of both.
func widenFields(a, b []any) any {
	const maxFields = 30
	schemas := map[string]any{}
	for _, f := range a {
		field := f.(map[string]any)
		schemas[field["name"].(string)] = field["schema"]
	}
	for _, f := range b {
		field := f.(map[string]any)
		name, schema := field["name"].(string), field["schema"]
		if known, both := schemas[name]; both {
			schema = widen(known, schema)
		}
		if schema == nil {
			return nil
		}
		schemas[name] = schema
	}
	if len(schemas) > maxFields {
		return nil
	}
	fields := []any{}
	for _, name := range sorted(schemas) {
		fields = append(fields, map[string]any{"name": name, "schema": schemas[name]})
	}
	return map[string]any{"@type": "Object", "fields": fields}
}
