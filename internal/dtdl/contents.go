package dtdl

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kinds of contents in the order they are looked for.
var kinds = []Kind{Telemetry, Property, Command, Component, Relationship}

// centralTypes may stand beside a content's kind with IoT Central's extension
// (FEATURES.md TPL-20..25, DTDL-12), with the kinds they may stand beside.
var centralTypes = map[string][]Kind{
	"Cloud": {Property}, "Initialized": {Property, Telemetry, Command},
	"StringValue": {Telemetry, Property}, "NumberValue": {Telemetry, Property}, "BooleanValue": {Telemetry, Property},
	"DateValue": {Telemetry, Property}, "EnumValue": {Telemetry, Property}, "LocationValue": {Telemetry, Property}, "VectorValue": {Telemetry, Property},
	"EventValue": {Telemetry}, "Event": {Telemetry}, "State": {Telemetry, Property}, "Location": {Telemetry, Property},
	"VelocityVector": {Telemetry, Property}, "AccelerationVector": {Telemetry, Property},
	"Acknowledged": {Property}, "Override": {Telemetry, Property, Command},
	"EdgeModule": {Relationship}, "GatewayDevice": {Relationship},
}

// extensionTypes are those of DTDL v3's extensions, with the member each adds.
var extensionTypes = map[string]string{"Historized": "", "ValueAnnotation": "annotates", "Override": "overrides"}

// centralMembers are the members that IoT Central's extension adds to telemetry and
// properties (FEATURES.md TPL-20, 21).
var centralMembers = []string{
	"displayUnit", "decimalPlaces", "minValue", "maxValue", "color", "initialValue", "severity", "trueName", "falseName", "visible",
}

var namePattern = regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?$`)

// buildContent makes a content of a node; nil when it has no kind or name.
func (p *parser) buildContent(n *node, parent string, depth int) *Content {
	section := p.rule("Interface")
	if n.kind != 'o' {
		p.problem(n, section, "a content is an object, not %s", quote(n))
		return nil
	}
	types := p.types(n)
	var found []Kind
	for _, k := range kinds {
		if slices.Contains(types, string(k)) {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		p.problem(n, section, "@type names %d of Telemetry, Property, Command, Component and Relationship: write one", len(found))
		return nil
	}
	c := &Content{Kind: found[0], Types: types, Path: n.path()}
	section = p.rule(string(c.Kind))
	c.Name = p.name(n, section)
	if c.Name == "" {
		return nil
	}
	c.ID = p.contentID(n, section, parent, c.Name)
	c.DisplayName, c.Description, c.Comment = p.texts(n)
	switch c.Kind {
	case Telemetry, Property:
		p.buildValue(n, c)
	case Command:
		p.buildCommand(n, c)
	case Component:
		p.buildComponent(n, c, depth)
	case Relationship:
		p.buildRelationship(n, c, depth)
	}
	p.checkTypes(n, c)
	return c
}

// name is what an element is called within its parent.
func (p *parser) name(n *node, section string) string {
	name := n.get("name")
	switch {
	case name == nil || name.kind != 's':
		p.problem(n, section, "name is missing: write letters, digits and '_', beginning with a letter")
		return ""
	case len(name.text) > p.maxName:
		p.problem(name, section, "the name has %d characters: use at most %d", len(name.text), p.maxName)
	case !namePattern.MatchString(name.text):
		p.problem(name, section, "name %q is not valid: use letters, digits and '_', beginning with a letter and not ending in '_'", clip(name.text))
	}
	return name.text
}

func (p *parser) contentID(n *node, section, parent, name string) string {
	id := n.get("@id")
	if id == nil {
		return childID(parent, "_contents", "__"+name)
	}
	if id.kind != 's' || !ValidID(id.text, p.version) {
		p.problem(id, section, "@id %s is not valid: write it like dtmi:contoso:Thermostat:temperature;1, or leave it out", quote(id))
		return childID(parent, "_contents", "__"+name)
	}
	return id.text
}

// buildValue reads what telemetry and properties have.
func (p *parser) buildValue(n *node, c *Content) {
	section := p.rule(string(c.Kind))
	members := []string{"name", "schema", "unit"}
	if c.Kind == Property {
		members = append(members, "writable")
	}
	if p.central {
		members = append(members, centralMembers...)
	}
	for t, member := range extensionTypes {
		if p.version == 3 && member != "" && slices.Contains(c.Types, t) {
			members = append(members, member)
		}
	}
	p.known(n, section, members...)
	c.Writable = p.flag(n.get("writable"), section)
	c.Cloud = slices.Contains(c.Types, "Cloud")
	where := place{section: string(c.Kind), telemetry: c.Kind == Telemetry, property: c.Kind == Property}
	if schema := n.get("schema"); schema == nil {
		p.problem(n, section, "schema is missing: write boolean, double, string or another schema")
	} else {
		c.Schema = p.buildSchema(schema, where, 1)
	}
	p.semantic(n, c)
	p.limits(n, c)
}

func (p *parser) flag(n *node, section string) bool {
	if n != nil && n.kind != 'b' {
		p.problem(n, section, "%s is neither true nor false", quote(n))
	}
	return n != nil && n.truth
}

// semantic checks the semantic type, its unit and its schema (FEATURES.md DTDL-09).
func (p *parser) semantic(n *node, c *Content) {
	section := p.rule("Semantic types")
	unit := n.get("unit")
	if unit != nil && unit.kind != 's' {
		p.problem(unit, section, "unit %s is no name of a unit", quote(unit))
		unit = nil
	}
	for _, t := range c.Types {
		unitType, known := semantics[t]
		if !known || p.version == 2 && onlyV3[t] {
			continue
		}
		if !p.quantitative {
			p.problem(n.get("@type"), section, "%q needs the extension: add %q to @context", t, contextQuantitative)
		}
		if c.Semantic != "" {
			p.problem(n.get("@type"), section, "%q and %q are both semantic types: use one", c.Semantic, t)
			continue
		}
		c.Semantic = t
		if c.Schema != nil && !numeric(c.Schema.Kind) {
			p.problem(n.get("schema"), section, "%q needs a number: use double, float, integer or long", t)
		}
		if unit == nil {
			p.problem(n, section, "%q needs a unit: %s", t, strings.Join(units[unitType], ", "))
			continue
		}
		p.unit(unit, c, section, unitType)
	}
	for t, unitType := range measures {
		if p.central && slices.Contains(c.Types, t) && unit != nil {
			p.unit(unit, c, section, unitType)
		}
	}
	if unit != nil && c.Unit == "" && c.Semantic == "" && !p.plainUnit(c) {
		p.problem(unit, section, "a unit needs a semantic type beside it in @type, such as Temperature")
	}
}

// plainUnit reports whether a unit may stand without a semantic type: IoT Central
// writes them so for vectors.
func (p *parser) plainUnit(c *Content) bool {
	return p.central && slices.ContainsFunc(c.Types, func(t string) bool { _, ok := measures[t]; return ok })
}

func (p *parser) unit(n *node, c *Content, section, unitType string) {
	if !slices.Contains(units[unitType], n.text) {
		p.problem(n, section, "%q is no unit of %s: use %s", clip(n.text), unitType, strings.Join(units[unitType], ", "))
		return
	}
	c.Unit = n.text
}

func numeric(k SchemaKind) bool { return k == Double || k == Float || k == Integer || k == Long }

// limits reads what IoT Central adds about values (FEATURES.md TPL-21, TPL-26).
func (p *parser) limits(n *node, c *Content) {
	const section = "IoT Central: device templates, FEATURES TPL-21"
	bound := func(name string) *float64 {
		m := n.get(name)
		if m == nil {
			return nil
		}
		f, err := strconv.ParseFloat(m.text, 64)
		if m.kind != 'n' || err != nil || c.Schema != nil && !numeric(c.Schema.Kind) {
			p.problem(m, section, "%s is a number, for a schema that is one", name)
			return nil
		}
		return &f
	}
	c.Min, c.Max = bound("minValue"), bound("maxValue")
	if c.Min != nil && c.Max != nil && *c.Min > *c.Max {
		p.problem(n.get("minValue"), section, "minValue is greater than maxValue")
	}
	if d := n.get("decimalPlaces"); d != nil {
		if places, err := strconv.Atoi(d.text); d.kind != 'n' || err != nil || places < 0 || places > 15 {
			p.problem(d, section, "decimalPlaces is a whole number from 0 to 15")
		}
	}
	if s := n.get("severity"); s != nil && !slices.Contains([]string{"error", "warning", "information"}, strings.ToLower(s.text)) {
		p.problem(s, "IoT Central: device templates, FEATURES TPL-20", "severity is error, warning or information")
	}
	if initial := n.get("initialValue"); initial != nil && c.Schema != nil {
		for _, wrong := range c.Check(initial.value()) {
			p.problem(initial, "IoT Central: device templates, FEATURES TPL-25", "initialValue%s %s", wrong.Path, wrong.Message)
		}
		c.InitialValue, _ = json.Marshal(initial.value())
	}
}

// checkTypes checks what else `@type` says.
func (p *parser) checkTypes(n *node, c *Content) {
	section := p.rule("Type")
	for _, t := range c.Types {
		_, isSemantic := semantics[t]
		allowed, isCentral := centralTypes[t]
		_, isExtension := extensionTypes[t]
		switch {
		case t == string(c.Kind):
		case isSemantic && (p.version == 3 || !onlyV3[t]):
			if c.Kind != Telemetry && c.Kind != Property {
				p.problem(n.get("@type"), p.rule("Semantic types"), "%q is for telemetry and properties only", t)
			}
		case isCentral && p.central:
			if !slices.Contains(allowed, c.Kind) {
				p.problem(n.get("@type"), "IoT Central extension, FEATURES DTDL-12", "%q cannot stand beside %s", t, c.Kind)
				continue
			}
			p.adjunct(n, c, t)
		case isExtension && p.version == 3:
		default:
			p.problem(n.get("@type"), section, "%q is no type that this version of the language knows", clip(t))
		}
	}
}

// adjuncts are IoT Central's types that need certain schemas (FEATURES.md DTDL-12).
var adjuncts = map[string][]SchemaKind{
	"State":              {Enum},
	"Event":              {Double, Float, Integer, Long, String},
	"Location":           {Geopoint, Point, MultiPoint, LineString, MultiLineString, Polygon, MultiPolygon},
	"VelocityVector":     {Vector},
	"AccelerationVector": {Vector},
}

func (p *parser) adjunct(n *node, c *Content, t string) {
	need, there := adjuncts[t]
	if there && c.Schema != nil && !slices.Contains(need, c.Schema.Kind) {
		p.problem(n.get("schema"), "IoT Central extension, FEATURES DTDL-12", "%q needs another schema: one of %v", t, need)
	}
}

func (p *parser) buildCommand(n *node, c *Content) {
	section := p.rule("Command")
	members := []string{"name", "request", "response"}
	if p.version == 2 {
		members = append(members, "commandType")
		if t := n.get("commandType"); t != nil && t.text != "synchronous" && t.text != "asynchronous" {
			p.problem(t, section, "commandType is synchronous or asynchronous")
		}
	}
	if p.central {
		members = append(members, "durable", "initialValue")
	}
	p.known(n, section, members...)
	c.Request, c.Response = p.payload(n.get("request"), "request"), p.payload(n.get("response"), "response")
	if p.central {
		c.Durable = p.flag(n.get("durable"), "IoT Central: device templates, FEATURES TPL-22")
	}
}

func (p *parser) payload(n *node, what string) *Payload {
	section := p.rule("CommandPayload")
	if n == nil || n.kind == 0 {
		return nil
	}
	if n.kind != 'o' {
		p.problem(n, section, "a %s is an object with a name and a schema, not %s", what, quote(n))
		return nil
	}
	members := []string{"name", "schema"}
	if p.nullable {
		members = append(members, "nullable")
	}
	if p.central {
		members = append(members, "initialValue")
	}
	p.known(n, section, members...)
	payload := &Payload{Name: p.name(n, section), Nullable: p.nullable && p.flag(n.get("nullable"), section)}
	payload.DisplayName, payload.Description, _ = p.texts(n)
	if schema := n.get("schema"); schema == nil {
		p.problem(n, section, "schema is missing: write boolean, double, string or another schema")
	} else {
		payload.Schema = p.buildSchema(schema, place{section: "CommandPayload", telemetry: true}, 1)
	}
	return payload
}

func (p *parser) buildComponent(n *node, c *Content, depth int) {
	section := p.rule("Component")
	p.known(n, section, "name", "schema")
	schema := n.get("schema")
	if schema == nil {
		p.problem(n, section, "schema is missing: write the interface of the component, or its id")
		return
	}
	c.Interface = p.resolve(schema, section, depth)
	if c.Interface == nil {
		return
	}
	for _, inner := range c.Interface.All {
		if inner.Kind == Component {
			p.problem(schema, section, "interface %q has a component of its own, %q: components cannot contain components", clip(c.Interface.ID), inner.Name)
		}
	}
}

func (p *parser) buildRelationship(n *node, c *Content, depth int) {
	section := p.rule("Relationship")
	p.known(n, section, "name", "target", "minMultiplicity", "maxMultiplicity", "properties", "writable")
	c.Writable = p.flag(n.get("writable"), section)
	if m := n.get("minMultiplicity"); m != nil && (m.kind != 'n' || m.text != "0") {
		p.problem(m, section, "minMultiplicity is 0 or not there")
	}
	if m := n.get("maxMultiplicity"); m != nil {
		if most, err := strconv.Atoi(m.text); m.kind != 'n' || err != nil || most < 1 || most > p.maxMultiplicity {
			p.problem(m, section, "maxMultiplicity is a whole number from 1 to %d", p.maxMultiplicity)
		}
	}
	for _, target := range n.get("target").list() {
		p.target(target, c, section, depth)
	}
	names := map[string]bool{}
	for _, element := range n.get("properties").list() {
		inner := p.buildContent(element, c.ID, depth)
		switch {
		case inner == nil:
		case inner.Kind != Property:
			p.problem(element, section, "a relationship has properties only, no %s", inner.Kind)
		case names[inner.Name]:
			p.problem(element.get("name"), section, "the name %q is taken: names are unique within a relationship", clip(inner.Name))
		default:
			names[inner.Name] = true
			c.Properties = append(c.Properties, inner)
		}
	}
}

func (p *parser) target(n *node, c *Content, section string, depth int) {
	switch {
	case n.kind == 'o' && p.central:
		if c.Interface = p.resolve(n, section, depth); c.Interface != nil {
			c.Target = c.Interface.ID
		}
	case n.kind == 's' && ValidID(n.text, p.version):
		c.Target = n.text
		if p.sources[n.text] != nil {
			c.Interface = p.resolve(n, section, depth)
		}
	default:
		p.problem(n, section, "target %s is no model id: write it like dtmi:contoso:Room;1", quote(n))
	}
}
