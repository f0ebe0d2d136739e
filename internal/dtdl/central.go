package dtdl

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// adjunct is a type an extension adds.
type adjunct struct {
	context string
	on      []string // the classes it goes with
	rule    string
}

func (t adjunct) in(l language) bool {
	switch t.context {
	case centralContext:
		return l.central
	case "dtmi:dtdl:extension:historization;1":
		return l.historization
	case "dtmi:dtdl:extension:annotation;1":
		return l.annotation
	}
	return l.streaming
}

// classes are those of elements that can stand among others; one cannot be two of them.
var classes = []string{
	"Interface", string(Telemetry), string(Property), string(Command), string(Component), string(Relationship),
	"CommandPayload", "CommandRequest", "CommandResponse", "Array", "Enum", "Map", "Object",
	"EnumValue", "Field", "MapKey", "MapValue",
}

const (
	centralRule = "FEATURES DTDL-12 / IoT Central extension v2"
	displayRule = "FEATURES TPL-20, TPL-21, TPL-25 / IoT Central's display types"
)

// adjuncts are the types of the extensions. Those of IoT Central that its document
// does not describe are from templates it exports (FEATURES.md TPL-02, TPL-09, TPL-23
// to TPL-25).
var adjuncts = func() map[string]adjunct {
	values := []string{string(Telemetry), string(Property)}
	payloads := []string{"CommandPayload", "CommandRequest", "CommandResponse"}
	t := map[string]adjunct{
		"Historized":      {"dtmi:dtdl:extension:historization;1", values, "DTDL v3 historization v1 §Historized adjunct type"},
		"ValueAnnotation": {"dtmi:dtdl:extension:annotation;1", values, "DTDL v3 annotation v1 §ValueAnnotation adjunct type"},
		"Streaming":       {"dtmi:dtdl:extension:streaming;1", []string{string(Property)}, "DTDL v3 streaming v1 §Streaming adjunct type"},
		"Cloud":           {centralContext, []string{string(Property)}, "FEATURES TPL-23"},
		"Initialized":     {centralContext, slices.Concat([]string{string(Property)}, payloads), "FEATURES TPL-25"},
		"EdgeModule":      {centralContext, []string{string(Relationship)}, "FEATURES TPL-09"},
		"GatewayDevice":   {centralContext, []string{string(Relationship)}, "FEATURES TPL-09"},
		"Acknowledged":    {centralContext, slices.Concat(values, []string{string(Command)}), displayRule},
		"Durable":         {centralContext, []string{string(Command)}, displayRule},
	}
	for _, name := range []string{"State", "Event", "Location", "VelocityVector", "AccelerationVector"} {
		t[name] = adjunct{centralContext, values, centralRule}
	}
	for _, name := range []string{"ModelDefinition", "DeviceModel", "EdgeModel", "GatewayModel"} {
		t[name] = adjunct{centralContext, []string{"Interface"}, "FEATURES TPL-02"}
	}
	for _, name := range words("String Number Boolean Date DateTime Time Duration Enum Event State Location Geopoint Vector Object Map Array") {
		if name == "Enum" { // EnumValue is the language's own
			continue
		}
		t[name+"Value"] = adjunct{centralContext, slices.Concat(values, payloads), displayRule}
	}
	return t
}()

// The members IoT Central adds.
var (
	centralValueMembers   = words("displayUnit decimalPlaces minValue maxValue color severity trueName falseName minLength maxLength trim")
	centralCommandMembers = words("durable")
	centralEnumMembers    = words("color")
)

// vectorUnit is the unit type of IoT Central's vectors; empty for other elements.
func (s *scope) vectorUnit(c cotypes) string {
	switch {
	case c.has("VelocityVector"):
		return "VelocityUnit"
	case c.has("AccelerationVector"):
		return "AccelerationUnit"
	}
	return ""
}

// centralSchemas are what the schema of an element with one of IoT Central's types
// has to be (FEATURES.md DTDL-12).
var centralSchemas = []struct {
	adjunct string
	kinds   []SchemaKind
}{
	{"State", []SchemaKind{Enum}},
	{"Event", []SchemaKind{Double, Float, Integer, Long, String}},
	{"Location", []SchemaKind{Geopoint, Point, MultiPoint, LineString, MultiLineString, Polygon, MultiPolygon}},
	{"VelocityVector", []SchemaKind{Vector}},
	{"AccelerationVector", []SchemaKind{Vector}},
}

// centralValue reads what IoT Central adds to a telemetry or property. Without its
// extension the same members may be those of a type no one knows.
func (s *scope) centralValue(n *node, c *Content, types cotypes) {
	if !s.central {
		return
	}
	for _, want := range centralSchemas {
		if c.Schema != nil && types.has(want.adjunct) && !slices.Contains(want.kinds, c.Schema.Kind) {
			s.found.add(n.get("schema"), centralRule, "%s needs another schema than %s: write %s", a(want.adjunct), c.Schema.Kind, join(want.kinds))
		}
	}
	c.Cloud = types.has("Cloud")
	c.Min, c.Max = s.bound(n, "minValue", c.Schema), s.bound(n, "maxValue", c.Schema)
	if c.Min != nil && c.Max != nil && *c.Min > *c.Max {
		s.found.add(n.get("minValue"), displayRule, "minValue is greater than maxValue: swap them")
	}
	c.Display = Display{
		Unit:     s.text(n.get("displayUnit"), string(c.Kind), maxDisplayName),
		True:     s.text(n.get("trueName"), string(c.Kind), maxDisplayName),
		False:    s.text(n.get("falseName"), string(c.Kind), maxDisplayName),
		Color:    s.color(n),
		Severity: s.severity(n),
		Decimals: s.count(n, "decimalPlaces", 20),
	}
	s.count(n, "minLength", maxDocument)
	s.count(n, "maxLength", maxDocument)
	s.flag(n, "trim", displayRule)
	if c.Kind == Property {
		c.InitialValue = s.initial(n, c.Schema, types)
	}
}

func (s *scope) bound(n *node, member string, schema *Schema) *float64 {
	at := n.get(member).single()
	if at == nil {
		return nil
	}
	value, err := strconv.ParseFloat(at.text, 64)
	switch {
	case at.kind != '0' || err != nil:
		s.found.add(at, displayRule, "%s is %s: write a number", member, at.what())
	case schema != nil && !schema.Numeric():
		s.found.add(at, displayRule, "%s is for numbers, and the schema is %s: remove it", member, schema.Kind)
	default:
		return &value
	}
	return nil
}

// count reads a whole number from 0 to most.
func (s *scope) count(n *node, member string, most int) *int {
	at := n.get(member).single()
	if at == nil {
		return nil
	}
	value, err := strconv.Atoi(at.text)
	if at.kind != '0' || err != nil || value < 0 || value > most {
		s.found.add(at, displayRule, "%s is %s: write a whole number from 0 to %d", member, at.what(), most)
		return nil
	}
	return &value
}

// flag reads a boolean, false when it is not there.
func (s *scope) flag(n *node, member, rule string) bool {
	at := n.get(member).single()
	if at == nil {
		return false
	}
	if at.kind != 't' {
		s.found.add(at, rule, "%s is %s: write true or false", member, at.what())
	}
	return at.text == "true"
}

func (s *scope) color(n *node) string {
	at := n.get("color").single()
	if at == nil {
		return ""
	}
	if at.kind != '"' || len(at.text) > maxDisplayName {
		s.found.add(at, displayRule, "the color is %s: write one like \"#1f77b4\"", at.what())
		return ""
	}
	return at.text
}

func (s *scope) severity(n *node) string {
	at := n.get("severity").single()
	if at == nil {
		return ""
	}
	severity := strings.ToLower(at.text)
	if at.kind != '"' || !slices.Contains([]string{"error", "warning", "information"}, severity) {
		s.found.add(at, "FEATURES TPL-20", "the severity is %s: write error, warning or information", at.what())
		return ""
	}
	return severity
}

// initial reads a value a property starts with or a command proposes; it has to fit
// the schema.
func (s *scope) initial(n *node, schema *Schema, types cotypes) json.RawMessage {
	at := n.get("initialValue")
	switch {
	case at == nil && types.has("Initialized"):
		s.found.add(n, "FEATURES TPL-25", "it is Initialized and has no initialValue: add one, or remove the type")
		return nil
	case at == nil || schema == nil || !s.central:
		return nil
	}
	raw := bytes.Clone(s.document[at.at:at.end])
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil // not reached: the document was read as JSON before
	}
	for _, problem := range schema.Check(value) {
		s.found.add(at, "FEATURES TPL-25", "the initialValue does not fit the schema: %s", problem)
	}
	return raw
}

func join[K ~string](kinds []K) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}
