package dtdl

import (
	"slices"
	"strconv"
	"strings"
)

// kinds are what contents can be (DTDL §Interface).
var kinds = []Kind{Telemetry, Property, Command, Component, Relationship}

// contentMembers are those of each kind (DTDL §Telemetry and following).
var contentMembers = map[Kind][]string{
	Telemetry:    words("@type @id comment description displayName name schema unit annotates"),
	Property:     words("@type @id comment description displayName name schema unit annotates writable"),
	Command:      words("@type @id comment description displayName name commandType request response"),
	Component:    words("@type @id comment description displayName name schema"),
	Relationship: words("@type @id comment description displayName name maxMultiplicity minMultiplicity properties target writable"),
}

// content reads one of an interface's contents; nil when it is of no kind or has no name.
func (s *scope) content(n *node) *Content {
	c := s.begin(n, kinds, s.iface.ID, "_contents")
	if c == nil {
		return nil
	}
	types := s.cotypes(n, string(c.Kind))
	switch c.Kind {
	case Telemetry, Property:
		s.value(n, c, types)
	case Command:
		s.command(n, c, types)
	case Component:
		s.component(n, c, types)
	case Relationship:
		s.relationship(n, c, types)
	}
	if c.Name == "" {
		return nil
	}
	return c
}

// begin reads what all contents have.
func (s *scope) begin(n *node, may []Kind, parent, slot string) *Content {
	if n.kind != '{' {
		s.found.add(n, s.rule("Interface"), "this is %s: write an object, with @type and name", n.what())
		return nil
	}
	kind := s.kind(n, may)
	if kind == "" {
		return nil
	}
	c := &Content{Kind: kind, Types: types(n), Path: n.path()}
	c.Name = s.name(n, string(kind))
	c.ID = s.id(n, parent, slot+":__"+c.Name)
	s.described(n, string(kind), &c.DisplayName, &c.Description, &c.Comment)
	s.at[c] = n
	return c
}

// kind is the first of the types that is one; an element that is of two kinds is
// found with its co-types.
func (s *scope) kind(n *node, may []Kind) Kind {
	at := n.get("@type")
	names := join(may)
	if at == nil {
		s.found.add(n, s.rule("Interface"), "there is no @type: add one of %s", names)
		return ""
	}
	for _, t := range types(n) {
		if slices.Contains(may, Kind(t)) {
			return Kind(t)
		}
	}
	s.found.add(at, s.rule("Interface"), "the type is %s: write one of %s, besides what else it is", quote(strings.Join(types(n), ", ")), names)
	return ""
}

// value reads a telemetry or property.
func (s *scope) value(n *node, c *Content, types cotypes) {
	section := string(c.Kind)
	allowed := [][]string{contentMembers[c.Kind]}
	if s.central {
		allowed = append(allowed, centralValueMembers)
		if c.Kind == Property {
			allowed = append(allowed, []string{"initialValue"})
		}
	}
	s.members(n, section, types, allowed...)
	c.Schema = s.required(n, "schema", section, c.ID)
	if c.Kind == Property {
		s.propertySchema(n, c.Schema)
		c.Writable = s.flag(n, "writable", s.rule(section))
	}
	c.Semantic, c.Unit = s.measured(n, types, c.Schema)
	s.centralValue(n, c, types)
	s.streamed(n, c, types)
	s.annotates(n, c, types)
}

// propertySchema keeps arrays out of properties of version 2; values of geospatial
// schemas are arrays, too (FEATURES.md DTDL-07, DTDL-08).
func (s *scope) propertySchema(n *node, schema *Schema) {
	if s.version > 2 || schema == nil {
		return
	}
	switch made := s.shapeOf(schema); {
	case made.array:
		s.found.add(n.get("schema"), s.rule("Property", "DTDL-07"), "there is an Array in the schema, which no property may have: use a Map or an Object, or telemetry, or DTDL v3")
	case made.geospatial:
		s.found.add(n.get("schema"), s.rule("Geospatial Schemas", "DTDL-08"), "the schema is geospatial, which no property may have: use geopoint, or telemetry, or DTDL v3")
	}
}

func (s *scope) streamed(n *node, c *Content, types cotypes) {
	if types.has("Streaming") && c.Writable {
		s.found.add(n.get("writable"), adjuncts["Streaming"].rule, "a property that is Streaming cannot be writable: remove one of both")
	}
}

func (s *scope) annotates(n *node, c *Content, types cotypes) {
	at := n.get("annotates").single()
	annotation := types.has("ValueAnnotation")
	rule := adjuncts["ValueAnnotation"].rule
	switch {
	case at == nil && annotation:
		s.found.add(n, rule, "there is no annotates: add the name of the telemetry or property it is about")
	case at == nil:
	case !annotation && !types.undefined:
		s.found.add(at, rule, "annotates needs the type ValueAnnotation: add it to @type, or remove annotates")
	case at.kind != '"':
		s.found.add(at, rule, "annotates is %s: write the name of a telemetry or property", at.what())
	default:
		c.Annotates = at.text
	}
}

func (s *scope) command(n *node, c *Content, types cotypes) {
	allowed := [][]string{contentMembers[Command]}
	if s.central {
		allowed = append(allowed, centralCommandMembers)
	}
	s.members(n, "Command", types, allowed...)
	if at := n.get("commandType").single(); at != nil {
		switch {
		case s.version > 2 && !types.undefined:
			s.found.add(at, s.rule("Command"), "version 3 has no commandType: remove it")
		case at.kind != '"' || !slices.Contains([]string{"synchronous", "asynchronous"}, term(at.text)):
			s.found.add(at, s.rule("CommandType"), "the commandType is %s: write synchronous or asynchronous, or leave it out", at.what())
		}
	}
	c.Durable = s.central && s.flag(n, "durable", "FEATURES TPL-25")
	c.Request = s.payload(n.get("request").single(), c.ID, "CommandRequest")
	c.Response = s.payload(n.get("response").single(), c.ID, "CommandResponse")
}

// payload reads what a command takes or answers; nil for none.
func (s *scope) payload(n *node, parent, class string) *Payload {
	if n == nil {
		return nil
	}
	if s.version == 2 {
		class = "CommandPayload"
	}
	if n.kind != '{' {
		s.found.add(n, s.rule(class), "this is %s: write an object with name and schema", n.what())
		return nil
	}
	allowed := [][]string{words("@type @id comment description displayName name schema")}
	if s.version > 2 {
		allowed = append(allowed, words("nullable unit"))
	}
	if s.central {
		allowed = append(allowed, centralValueMembers, []string{"initialValue"})
	}
	types := s.class(n, class, true)
	s.members(n, class, types, allowed...)
	p := &Payload{Name: s.name(n, class)}
	s.described(n, class, &p.DisplayName, &p.Description, nil)
	id := s.id(n, parent, "_"+n.slot())
	p.Schema = s.required(n, "schema", class, id)
	p.Nullable = s.version > 2 && s.flag(n, "nullable", s.rule(class))
	if s.version > 2 {
		p.Semantic, p.Unit = s.measured(n, types, p.Schema)
	}
	p.InitialValue = s.initial(n, p.Schema, types)
	return p
}

// slot is the member an element stands in, be it alone there or in a set of one.
func (n *node) slot() string {
	if n.parent.kind == '[' {
		return n.parent.key
	}
	return n.key
}

func (s *scope) component(n *node, c *Content, types cotypes) {
	s.members(n, "Component", types, contentMembers[Component])
	at := n.get("schema").single()
	if at == nil {
		s.found.add(n, s.rule("Component"), "there is no schema: add the @id of the interface the component has")
		return
	}
	s.refer(at, false, func(in *Interface) { c.Interface = in })
}

func (s *scope) relationship(n *node, c *Content, types cotypes) {
	s.members(n, "Relationship", types, contentMembers[Relationship])
	c.Writable = s.flag(n, "writable", s.rule("Relationship"))
	s.multiplicity(n, c, types)
	if target := n.get("target").single(); target != nil {
		c.Target = target.text
		if target.kind == '{' {
			c.Target = target.get("@id").idText()
		}
		s.refer(target, true, func(in *Interface) { c.Interface = in })
	}
	at := n.get("properties")
	if most := s.most(300, maxNodes); len(at.each()) > most {
		s.found.add(at, s.rule("Relationship"), "there are %d properties, of at most %d: remove some", len(at.each()), most)
	}
	names := map[string]*node{}
	for _, property := range at.each() {
		p := s.begin(property, []Kind{Property}, c.ID, "_properties")
		if p == nil {
			continue
		}
		s.value(property, p, s.cotypes(property, string(Property)))
		s.unique(names, property, p.Name, "Relationship")
		c.Properties = append(c.Properties, p)
	}
}

func (s *scope) multiplicity(n *node, c *Content, types cotypes) {
	if at := n.get("minMultiplicity").single(); at != nil && (at.kind != '0' || at.text != "0") {
		s.found.add(at, s.rule("Relationship"), "minMultiplicity is %s: it can only be 0, so leave it out", at.what())
	}
	at := n.get("maxMultiplicity").single()
	if at == nil {
		return
	}
	most := s.most(500, 1<<31-1)
	value, err := strconv.Atoi(at.text)
	switch {
	case at.kind != '0' || err != nil || value < 1 || value > most:
		s.found.add(at, s.rule("Relationship"), "maxMultiplicity is %s: write a whole number from 1 to %d, or leave it out", at.what(), most)
	case value > 1 && types.has("EdgeModule"):
		s.found.add(at, adjuncts["EdgeModule"].rule, "maxMultiplicity is %d, and a device has a module once: write 1", value)
	default:
		c.MaxMultiplicity = value
	}
}

// unique finds a name that others of the same set have.
func (s *scope) unique(names map[string]*node, n *node, name, section string) {
	if name == "" {
		return
	}
	if other := names[name]; other != nil {
		s.found.add(n.get("name"), s.rule(section, "DTDL-05"), "%s is already the name of %s: rename one", quote(name), other.path())
		return
	}
	names[name] = n
}
