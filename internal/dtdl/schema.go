package dtdl

import (
	"slices"
	"strconv"
)

// place is where a schema stands: not every place takes every schema.
type place struct {
	section             string
	telemetry, property bool
}

var (
	primitives = []SchemaKind{Boolean, Date, DateTime, Double, Duration, Float, Integer, Long, String, Time}
	geospatial = []SchemaKind{Point, MultiPoint, LineString, MultiLineString, Polygon, MultiPolygon}
	central    = []SchemaKind{Geopoint, Vector}
)

// maxElements bounds the schemas of one document, reused ones counted again.
const maxElements = 100_000

// buildSchema makes a schema of a node; nil when it is none.
func (p *parser) buildSchema(n *node, at place, depth int) *Schema {
	if p.bodies++; p.bodies > maxElements {
		p.problem(n, p.rule("Schemas"), "the document has more than %d schemas", maxElements)
		return nil
	}
	if depth > p.maxSchemaDepth {
		p.problem(n, p.rule("Schemas"), "schemas are nested deeper than %d levels", p.maxSchemaDepth)
		return nil
	}
	switch n.kind {
	case 's':
		return p.namedSchema(n, at, depth)
	case 'o':
		return p.complexSchema(n, at, depth)
	}
	p.problem(n, p.rule("Schemas"), "%s is no schema: write a name such as double, or an object", quote(n))
	return nil
}

func (p *parser) namedSchema(n *node, at place, depth int) *Schema {
	kind := SchemaKind(n.text)
	switch {
	case slices.Contains(primitives, kind), p.central && slices.Contains(central, kind):
		return &Schema{Kind: kind}
	case slices.Contains(geospatial, kind):
		if at.property && !p.geospatialInProperty && !p.central {
			p.problem(n, p.rule("Geospatial schemas"), "a property cannot have schema %s: only telemetry and commands can", kind)
		}
		return &Schema{Kind: kind}
	case slices.Contains(central, kind):
		p.problem(n, "IoT Central extension, FEATURES DTDL-12", "schema %s needs the extension: add %q to @context", kind, contextCentral)
		return nil
	}
	if source := p.schemas[n.text]; source != nil {
		return p.buildSchema(source, at, depth+1)
	}
	p.problem(n, p.rule("Schemas"), "there is no schema %q: use one of %v, or the id of one among the interface's schemas", clip(n.text), primitives)
	return nil
}

func (p *parser) complexSchema(n *node, at place, depth int) *Schema {
	section := p.rule("Complex schemas")
	s := &Schema{}
	if id := n.get("@id"); id != nil {
		if id.kind != 's' || !ValidID(id.text, p.version) {
			p.problem(id, p.rule("Digital Twin Model Identifier"), "@id %s is not valid: write it like dtmi:contoso:State;1", quote(id))
		}
		s.ID = id.text
	}
	types := p.types(n)
	if len(types) == 0 {
		p.problem(n, section, "@type is missing: write Array, Enum, Map or Object")
		return nil
	}
	p.texts(n)
	switch s.Kind = SchemaKind(types[0]); s.Kind {
	case Array:
		p.array(n, s, at, depth)
	case Enum:
		p.enum(n, s)
	case Map:
		p.mapping(n, s, at, depth)
	case Object:
		p.object(n, s, at, depth)
	default:
		p.problem(n.get("@type"), section, "%q is no complex schema: write Array, Enum, Map or Object", clip(types[0]))
		return nil
	}
	return s
}

func (p *parser) array(n *node, s *Schema, at place, depth int) {
	section := p.rule("Array")
	p.known(n, section, "elementSchema")
	if at.property && !p.arrayInProperty {
		p.problem(n, p.rule("Property"), "a property cannot hold an Array: use a Map, or telemetry")
	}
	element := n.get("elementSchema")
	if element == nil {
		p.problem(n, section, "elementSchema is missing")
		return
	}
	s.Element = p.buildSchema(element, at, depth+1)
}

func (p *parser) enum(n *node, s *Schema) {
	section := p.rule("Enum")
	p.known(n, section, "valueSchema", "enumValues")
	kind := n.get("valueSchema")
	if kind == nil || kind.text != string(Integer) && kind.text != string(String) {
		p.problem(n, section, "valueSchema is integer or string")
		return
	}
	s.ValueKind = SchemaKind(kind.text)
	values := n.get("enumValues").list()
	if len(values) == 0 || len(values) > p.maxEnumValues {
		p.problem(n, section, "enumValues has %d values: write 1 to %d", len(values), p.maxEnumValues)
	}
	names, taken := map[string]bool{}, map[string]bool{}
	for _, v := range values[:min(len(values), p.maxEnumValues)] {
		if v.kind != 'o' {
			p.problem(v, section, "a value is an object with name and enumValue, not %s", quote(v))
			continue
		}
		p.known(v, section, "name", "enumValue")
		value := EnumValue{Name: p.name(v, section)}
		value.DisplayName, value.Description, value.Comment = p.texts(v)
		p.enumValue(v, s, &value, taken)
		if names[value.Name] {
			p.problem(v.get("name"), section, "the name %q is taken: names are unique within an Enum", clip(value.Name))
		}
		names[value.Name] = true
		s.Values = append(s.Values, value)
	}
}

func (p *parser) enumValue(n *node, s *Schema, value *EnumValue, taken map[string]bool) {
	section := p.rule("EnumValue")
	v := n.get("enumValue")
	switch {
	case v == nil:
		p.problem(n, section, "enumValue is missing")
		return
	case s.ValueKind == Integer:
		i, err := strconv.ParseInt(v.text, 10, 32)
		if v.kind != 'n' || err != nil {
			p.problem(v, section, "%s is no integer, as valueSchema says", quote(v))
		}
		value.Value = i
	default:
		if v.kind != 's' || len(v.text) > p.maxText {
			p.problem(v, section, "%s is no string of at most %d characters, as valueSchema says", quote(v), p.maxText)
		}
		value.Value = v.text
	}
	if taken[v.text] {
		p.problem(v, section, "the value %s is here twice", quote(v))
	}
	taken[v.text] = true
}

func (p *parser) mapping(n *node, s *Schema, at place, depth int) {
	section := p.rule("Map")
	p.known(n, section, "mapKey", "mapValue")
	key, value := n.get("mapKey"), n.get("mapValue")
	if key == nil || key.kind != 'o' {
		p.problem(n, section, "mapKey is missing: write {\"name\": …, \"schema\": \"string\"}")
	} else {
		p.known(key, section, "name", "schema")
		p.name(key, section)
		if schema := key.get("schema"); schema == nil || schema.text != string(String) {
			p.problem(key, section, "the keys of a Map are strings: \"schema\": \"string\"")
		}
	}
	if value == nil || value.kind != 'o' || value.get("schema") == nil {
		p.problem(n, section, "mapValue is missing: write {\"name\": …, \"schema\": …}")
		return
	}
	p.known(value, section, "name", "schema")
	p.name(value, section)
	s.Element = p.buildSchema(value.get("schema"), at, depth+1)
}

func (p *parser) object(n *node, s *Schema, at place, depth int) {
	section := p.rule("Object")
	p.known(n, section, "fields")
	fields := n.get("fields").list()
	if len(fields) > p.maxFields || len(fields) == 0 {
		p.problem(n, section, "fields has %d entries: write 1 to %d", len(fields), p.maxFields)
	}
	names := map[string]bool{}
	for _, f := range fields[:min(len(fields), p.maxFields)] {
		if f.kind != 'o' {
			p.problem(f, p.rule("Field"), "a field is an object with name and schema, not %s", quote(f))
			continue
		}
		p.known(f, p.rule("Field"), "name", "schema")
		field := Field{Name: p.name(f, p.rule("Field"))}
		field.DisplayName, field.Description, field.Comment = p.texts(f)
		if names[field.Name] {
			p.problem(f.get("name"), p.rule("Field"), "the name %q is taken: names are unique within an Object", clip(field.Name))
		}
		names[field.Name] = true
		if schema := f.get("schema"); schema == nil {
			p.problem(f, p.rule("Field"), "schema is missing")
		} else {
			field.Schema = p.buildSchema(schema, at, depth+1)
		}
		s.Fields = append(s.Fields, field)
	}
}
