// Package dtdl reads device models in the Digital Twins Definition Language,
// versions 2 and 3, with IoT Central's extension.
//
// In goes a JSON document, out comes a [Model] with inheritance and references
// resolved, or every problem of the document at once, each with its JSON path and
// the rule it breaks. The package is pure: it fetches nothing. Sources:
// github.com/Azure/opendigitaltwins-dtdl, DTDL.v2.md, DTDL.v3.md and
// DTDL.iotcentral.v2.md.
package dtdl

import "encoding/json"

// Model is a device model: its root interface and all that it refers to.
type Model struct {
	// Root is what the device itself implements.
	Root *Interface
	// Interfaces are all interfaces of the document by id, the root among them.
	Interfaces map[string]*Interface
	// Version is that of the language: 2 or 3.
	Version int
}

// Interface is what a device, a component or a module can do.
type Interface struct {
	ID                                string // DTMI
	DisplayName, Description, Comment Text
	// Path is where in the document the interface stands, a JSON path.
	Path string
	// Types are all of `@type`, IoT Central's own among them.
	Types   []string
	Extends []*Interface
	// Contents are the interface's own, in the order of the document; Contents of
	// what it extends are in All.
	Contents []*Content
	// All are the contents with those inherited, those of the farthest ancestor first.
	All []*Content
	// Schemas are those the interface defines for use by id.
	Schemas map[string]*Schema
}

// Kind is what a content is.
type Kind string

// Kinds of contents.
const (
	Telemetry    Kind = "Telemetry"
	Property     Kind = "Property"
	Command      Kind = "Command"
	Component    Kind = "Component"
	Relationship Kind = "Relationship"
)

// Content is one telemetry, property, command, component or relationship.
type Content struct {
	Kind Kind
	// ID is the DTMI, the document's or the one assigned to it (FEATURES.md DTDL-04).
	ID, Name                          string
	DisplayName, Description, Comment Text
	// Types are all of `@type`, the kind, semantic and adjunct types among them.
	Types []string
	// Semantic is the semantic type, such as Temperature; empty for none.
	Semantic string
	// Unit of the value, such as degreeCelsius; empty for none.
	Unit string
	// Schema of a telemetry's or property's value.
	Schema *Schema
	// Writable properties are set by people and taken over by the device.
	Writable bool
	// Cloud properties never reach the device (FEATURES.md TPL-23).
	Cloud bool
	// InitialValue of a property for new devices; nil for none.
	InitialValue json.RawMessage
	// Min and Max bound a numeric value; nil: no bound.
	Min, Max *float64
	// Request and Response of a command; nil: no payload.
	Request, Response *Payload
	// Durable commands wait for a device that is not connected.
	Durable bool
	// Display is how IoT Central shows the value.
	Display Display
	// Interface is what a component implements, or the target of a relationship when
	// the document has it.
	Interface *Interface
	// Target is the relationship's, a DTMI; empty: any.
	Target string
	// MinMultiplicity and MaxMultiplicity are the relationship's; a maximum of 0 is
	// the language's own.
	MinMultiplicity, MaxMultiplicity int
	// Properties are those of a relationship.
	Properties []*Content
	// Annotates is the name of the content that this one tells more about (DTDL v3's
	// annotation extension); empty for none.
	Annotates string
	// Path is where in the document the content stands, a JSON path.
	Path string
}

// Display is IoT Central's way to show a value (FEATURES.md TPL-20, TPL-21).
type Display struct {
	Unit Text
	// Decimals to show; nil: as many as there are.
	Decimals *int
	Color    string
	// Severity of an event: error, warning or information.
	Severity string
	// True and False name a boolean's values.
	True, False Text
}

// Payload is what a command takes or answers.
type Payload struct {
	Name                     string
	DisplayName, Description Text
	Schema                   *Schema
	Nullable                 bool
	// Semantic type and unit, which DTDL v3 allows here; empty for none.
	Semantic, Unit string
	// InitialValue is proposed to who gives the command; nil for none.
	InitialValue json.RawMessage
}

// Text is a language map; a bare string is its "en" (FEATURES.md DTDL-13).
type Text map[string]string

// String is the text in English, else in any one language, the same every time.
func (t Text) String() string {
	if s, ok := t["en"]; ok {
		return s
	}
	first := ""
	for language := range t {
		if first == "" || language < first {
			first = language
		}
	}
	return t[first]
}

// SchemaKind is how a value is made.
type SchemaKind string

// Kinds of schemas: DTDL's primitive, complex and geospatial ones, and IoT
// Central's geopoint and vector.
const (
	Boolean         SchemaKind = "boolean"
	Date            SchemaKind = "date"
	DateTime        SchemaKind = "dateTime"
	Double          SchemaKind = "double"
	Duration        SchemaKind = "duration"
	Float           SchemaKind = "float"
	Integer         SchemaKind = "integer"
	Long            SchemaKind = "long"
	String          SchemaKind = "string"
	Time            SchemaKind = "time"
	Array           SchemaKind = "Array"
	Enum            SchemaKind = "Enum"
	Map             SchemaKind = "Map"
	Object          SchemaKind = "Object"
	Point           SchemaKind = "point"
	MultiPoint      SchemaKind = "multiPoint"
	LineString      SchemaKind = "lineString"
	MultiLineString SchemaKind = "multiLineString"
	Polygon         SchemaKind = "polygon"
	MultiPolygon    SchemaKind = "multiPolygon"
	Geopoint        SchemaKind = "geopoint"
	Vector          SchemaKind = "vector"
)

// Schema is the type of a value.
type Schema struct {
	Kind SchemaKind
	ID   string // DTMI; empty for a primitive one
	// Element of an Array, value of a Map.
	Element *Schema
	// Fields of an Object.
	Fields []Field
	// ValueKind is an Enum's: Integer or String.
	ValueKind SchemaKind
	// Values are an Enum's.
	Values []EnumValue
}

// Field is one of an Object's.
type Field struct {
	Name                              string
	DisplayName, Description, Comment Text
	Schema                            *Schema
	// Semantic type and unit, which DTDL v3 allows here; empty for none.
	Semantic, Unit string
}

// EnumValue is one of an Enum's.
type EnumValue struct {
	Name                              string
	DisplayName, Description, Comment Text
	// Value as JSON has it, an integer or a string.
	Value any
}

// Find is the content of that name, inherited ones included; nil when there is none.
func (i *Interface) Find(kind Kind, name string) *Content {
	for _, c := range i.All {
		if c.Kind == kind && c.Name == name {
			return c
		}
	}
	return nil
}
