package dtdl

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxNesting is how deep complex schemas may be in each other (FEATURES.md DTDL-06).
const maxNesting = 5

var (
	primitives   = []SchemaKind{Boolean, Date, DateTime, Double, Duration, Float, Integer, Long, String, Time}
	geospatials  = []SchemaKind{Point, MultiPoint, LineString, MultiLineString, Polygon, MultiPolygon}
	centralKinds = []SchemaKind{Geopoint, Vector}
	complexes    = []SchemaKind{Array, Enum, Map, Object}
)

// shape is what a schema holds, itself included.
type shape struct {
	levels            int // of complex schemas in each other
	array, geospatial bool
}

func (p *parser) shapeOf(s *Schema) shape {
	if s == nil {
		return shape{}
	}
	if complexKind(s.Kind) {
		return p.shapes[s]
	}
	return shape{geospatial: slices.Contains(geospatials, s.Kind)}
}

func complexKind(k SchemaKind) bool { return slices.Contains(complexes, k) }

func (a shape) with(b shape) shape {
	return shape{max(a.levels, b.levels), a.array || b.array, a.geospatial || b.geospatial}
}

// namedSchemas reads those an interface defines for use by id (DTDL §Interface schemas).
func (s *scope) namedSchemas(n *node) {
	s.schemas = map[string]*node{}
	s.iface.Schemas = map[string]*Schema{}
	for _, at := range n.get("schemas").each() {
		if id := at.get("@id").idText(); id != "" {
			s.schemas[id] = at
		}
	}
	for _, at := range n.get("schemas").each() {
		id := at.get("@id").idText()
		switch {
		case at.kind != '{':
			s.found.add(at, s.rule("Interface schemas"), "this is %s: write an Array, Enum, Map or Object", at.what())
		case id == "":
			s.found.add(at, s.rule("Interface schemas"), "there is no @id: add one, so that the schema can be referred to")
		case s.schemas[id] != at:
			s.found.add(at.get("@id"), s.idRule(), "%s is already the @id of another schema: choose another", quote(id))
		default:
			s.named(at, id)
		}
	}
}

// named is the schema of that id; nil when there is none, or no good one. It may be
// asked for before its turn, by another one.
func (s *scope) named(from *node, id string) *Schema {
	if schema, ok := s.iface.Schemas[id]; ok {
		return schema
	}
	at := s.schemas[id]
	if at == nil || at.kind != '{' {
		s.found.add(from, s.rule("Interface schemas"), "the interface has no schema %s: add it to the interface's schemas; those of other interfaces cannot be used", quote(id))
		return nil
	}
	if s.reading[id] {
		s.found.add(from, s.rule("Complex schema", "DTDL-06"), "the schema %s holds itself: values would have no end", quote(id))
		return nil
	}
	s.reading[id] = true
	schema := s.complex(at, s.iface.ID, "_schemas")
	delete(s.reading, id)
	s.iface.Schemas[id] = schema // if nil, its problems are told once
	return schema
}

// required reads the schema a member must have.
func (s *scope) required(n *node, member, section, parent string) *Schema {
	at := n.get(member).single()
	if at == nil {
		s.found.add(n, s.rule(section, "DTDL-06"), "there is no %s: add one, like \"double\"", member)
		return nil
	}
	switch at.kind {
	case '{':
		return s.complex(at, parent, "_"+member)
	case '"':
		return s.schemaTerm(at)
	}
	s.found.add(at, s.rule("Schema", "DTDL-06"), "the schema is %s: write one like \"double\", or an object with the type Array, Enum, Map or Object", at.what())
	return nil
}

func (s *scope) schemaTerm(n *node) *Schema {
	name := SchemaKind(term(n.text))
	switch {
	case slices.Contains(primitives, name), slices.Contains(geospatials, name):
		return &Schema{Kind: name}
	case slices.Contains(centralKinds, name):
		if !s.central {
			s.found.add(n, centralRule, "%s is IoT Central's: add \"dtmi:iotcentral:context;2\" to @context", name)
		}
		return &Schema{Kind: name}
	case strings.HasPrefix(n.text, "dtmi:"):
		return s.named(n, n.text)
	}
	s.found.add(n, s.rule("Schema", "DTDL-06", "DTDL-08", "DTDL-12"), "%s is no schema: write one of %s, or the @id of one of the interface's schemas", quote(n.text), join(slices.Concat(primitives, geospatials, centralKinds)))
	return nil
}

// complex reads an Array, Enum, Map or Object; nil when it is none of these.
func (s *scope) complex(n *node, parent, slot string) *Schema {
	kind := s.complexType(n)
	if kind == "" {
		return nil
	}
	schema := &Schema{Kind: kind}
	schema.ID = s.id(n, parent, slot)
	var text Text
	s.described(n, string(kind), &text, &text, nil)
	types := s.cotypes(n, string(kind))
	made := shape{array: kind == Array}
	switch kind {
	case Array:
		s.members(n, "Array", types, complexMembers, words("elementSchema"))
		schema.Element = s.required(n, "elementSchema", "Array", schema.ID)
		made = made.with(s.shapeOf(schema.Element))
	case Map:
		s.members(n, "Map", types, complexMembers, words("mapKey mapValue"))
		s.mapKey(n, schema.ID)
		schema.Element = s.mapValue(n, schema.ID)
		made = made.with(s.shapeOf(schema.Element))
	case Object:
		s.members(n, "Object", types, complexMembers, words("fields"))
		s.fields(n, schema)
		for _, f := range schema.Fields {
			made = made.with(s.shapeOf(f.Schema))
		}
	default:
		s.members(n, "Enum", types, complexMembers, words("valueSchema enumValues"))
		s.enum(n, schema)
	}
	made.levels++
	if made.levels == maxNesting+1 { // those around it need not be told of again
		s.found.add(n, s.rule("Complex schema", "DTDL-06"), "complex schemas are nested deeper than %d levels: make it flatter", maxNesting)
	}
	s.shapes[schema] = made
	return schema
}

var complexMembers = words("@type @id comment description displayName")

func (s *scope) complexType(n *node) SchemaKind {
	if n.get("@type") == nil {
		s.found.add(n, s.rule("Complex schema", "DTDL-06"), "there is no @type: add one of %s", join(complexes))
		return ""
	}
	for _, t := range types(n) {
		if complexKind(SchemaKind(t)) {
			return SchemaKind(t)
		}
	}
	s.found.add(n.get("@type"), s.rule("Complex schema", "DTDL-06"), "the type is %s: write one of %s", quote(strings.Join(types(n), ", ")), join(complexes))
	return ""
}

// inner is the object in a member that must be there; nil when it is not.
func (s *scope) inner(n *node, member, section string) *node {
	at := n.get(member).single()
	if at == nil {
		s.found.add(n, s.rule(section), "there is no %s: add one, an object with name and schema", member)
		return nil
	}
	if at.kind != '{' {
		s.found.add(at, s.rule(section), "the %s is %s: write an object with name and schema", member, at.what())
		return nil
	}
	return at
}

var fieldMembers = words("@type @id comment description displayName name schema")

func (s *scope) mapKey(n *node, parent string) {
	at := s.inner(n, "mapKey", "Map")
	if at == nil {
		return
	}
	s.members(at, "MapKey", s.class(at, "MapKey", true), fieldMembers)
	var text Text
	s.described(at, "MapKey", &text, &text, nil)
	s.name(at, "MapKey")
	id := s.id(at, parent, "_mapKey")
	if schema := s.required(at, "schema", "MapKey", id); schema != nil && schema.Kind != String {
		s.found.add(at.get("schema"), s.rule("MapKey", "DTDL-07"), "the keys are %s: they can only be \"string\"", schema.Kind)
	}
}

func (s *scope) mapValue(n *node, parent string) *Schema {
	at := s.inner(n, "mapValue", "Map")
	if at == nil {
		return nil
	}
	types := s.class(at, "MapValue", true)
	s.members(at, "MapValue", types, s.fieldMembers())
	var text Text
	s.described(at, "MapValue", &text, &text, nil)
	s.name(at, "MapValue")
	schema := s.required(at, "schema", "MapValue", s.id(at, parent, "_mapValue"))
	if s.version > 2 {
		s.measured(at, types, schema)
	}
	return schema
}

func (s *scope) fieldMembers() []string {
	if s.version == 2 {
		return fieldMembers
	}
	return append(slices.Clone(fieldMembers), "unit")
}

// fields reads an Object's.
func (s *scope) fields(n *node, schema *Schema) {
	at := s.set(n, "fields", "Object", 30)
	names := map[string]*node{}
	for _, f := range at {
		if f.kind != '{' {
			s.found.add(f, s.rule("Field"), "this is %s: write an object with name and schema", f.what())
			continue
		}
		types := s.class(f, "Field", true)
		s.members(f, "Field", types, s.fieldMembers())
		field := Field{Name: s.name(f, "Field")}
		s.unique(names, f, field.Name, "Field")
		s.described(f, "Field", &field.DisplayName, &field.Description, &field.Comment)
		field.Schema = s.required(f, "schema", "Field", s.id(f, schema.ID, "_fields:__"+field.Name))
		if s.version > 2 {
			field.Semantic, field.Unit = s.measured(f, types, field.Schema)
		}
		schema.Fields = append(schema.Fields, field)
	}
}

// set is a member's elements. Version 2 asks for one at least and has a limit; version
// 3 bounds the elements of a whole interface by 100,000, which a document of 1 MiB
// cannot hold (FEATURES.md DTDL-07).
func (s *scope) set(n *node, member, section string, most int) []*node {
	at := n.get(member)
	all := at.each()
	if s.version > 2 {
		return all
	}
	if len(all) == 0 {
		s.found.add(n, s.rule(section, "DTDL-07"), "there are no %s: add at least one", member)
	}
	if len(all) > most {
		s.found.add(at, s.rule(section, "DTDL-07"), "there are %d %s, of at most %d: remove some", len(all), member, most)
	}
	return all
}

func (s *scope) enum(n *node, schema *Schema) {
	at := n.get("valueSchema").single()
	switch {
	case at == nil:
		s.found.add(n, s.rule("Enum", "DTDL-07"), "there is no valueSchema: add \"integer\" or \"string\"")
	case at.kind == '"' && slices.Contains([]SchemaKind{Integer, String}, SchemaKind(term(at.text))):
		schema.ValueKind = SchemaKind(term(at.text))
	default:
		s.found.add(at, s.rule("Enum", "DTDL-07"), "the valueSchema is %s: write \"integer\" or \"string\"", at.what())
	}
	names, values := map[string]*node{}, map[any]*node{}
	for _, v := range s.set(n, "enumValues", "Enum", 100) {
		if v.kind != '{' {
			s.found.add(v, s.rule("EnumValue"), "this is %s: write an object with name and enumValue", v.what())
			continue
		}
		allowed := [][]string{words("@type @id comment description displayName name enumValue")}
		if s.central {
			allowed = append(allowed, centralEnumMembers)
		}
		s.members(v, "EnumValue", s.class(v, "EnumValue", true), allowed...)
		value := EnumValue{Name: s.name(v, "EnumValue"), Value: s.enumValue(v, schema.ValueKind, values)}
		s.unique(names, v, value.Name, "EnumValue")
		s.id(v, schema.ID, "_enumValues:__"+value.Name)
		s.described(v, "EnumValue", &value.DisplayName, &value.Description, &value.Comment)
		schema.Values = append(schema.Values, value)
	}
}

// enumValue is an int64 or a string; nil when it is none of the Enum's kind.
func (s *scope) enumValue(n *node, kind SchemaKind, seen map[any]*node) any {
	at := n.get("enumValue").single()
	if at == nil {
		s.found.add(n, s.rule("EnumValue"), "there is no enumValue: add the value as it is sent")
		return nil
	}
	var value any
	number, err := strconv.ParseInt(at.text, 10, 64)
	switch {
	case at.kind == '0' && err == nil && number >= math.MinInt32 && number <= math.MaxInt32 && kind != String:
		value = number
	case at.kind == '"' && kind != Integer:
		value = at.text
	case kind == String:
		s.found.add(at, s.rule("EnumValue", "DTDL-07"), "the enumValue is %s, and the valueSchema is string: write a string", at.what())
	default:
		s.found.add(at, s.rule("EnumValue", "DTDL-07"), "the enumValue is %s: write a whole number of 32 bits, or a string where the valueSchema is string", at.what())
	}
	if other := seen[value]; other != nil && value != nil {
		s.found.add(at, s.rule("EnumValue"), "%s is already the enumValue of %s: give each its own", at.what(), other.path())
	}
	seen[value] = n
	return value
}
