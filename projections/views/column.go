package views

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/sqltext"
)

// column is one of a view.
type column struct{ name, kind, expression, comment string }

// source is where values of a model's contents stand: in members of a JSON column,
// on the rows for which the condition holds.
type source struct{ json, condition string }

// at is the path of a member, which is a Dynamic.
func (s source) at(path ...string) string {
	var b strings.Builder
	b.WriteString(s.json)
	for _, member := range path {
		b.WriteString("." + quoteName(member))
	}
	return b.String()
}

// typed is the member where it has one of ClickHouse's types, else NULL.
func (s source) typed(kind string, path ...string) string {
	value := s.at(path...) + ".:" + kind
	if s.condition == "" {
		return value
	}
	return "if(" + s.condition + ", " + value + ", NULL)"
}

// text is the JSON text of a member; empty when there is none.
func (s source) text(object bool, path ...string) string {
	value := s.at(path...)
	if object {
		value = s.json + ".^" + strings.Join(quoteNames(path), ".")
	}
	value = "ifNull(toJSONString(" + value + "), '')"
	if s.condition == "" {
		return value
	}
	return "if(" + s.condition + ", " + value + ", '')"
}

func quoteNames(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quoteName(name)
	}
	return quoted
}

// value is the type and the expression of a schema's values at a path.
func (s source) value(schema *dtdl.Schema, path ...string) (kind, expression string) {
	if fields := fieldsOf(schema); fields != nil {
		return tuple(fields, func(f dtdl.Field) (string, string) {
			return s.value(f.Schema, append(path[:len(path):len(path)], f.Name)...)
		})
	}
	switch schema.Kind {
	case dtdl.Array:
		return fromText(schema, s.text(false, path...), 0)
	case dtdl.Map, dtdl.Point, dtdl.MultiPoint, dtdl.LineString, dtdl.MultiLineString, dtdl.Polygon, dtdl.MultiPolygon:
		return fromText(schema, s.text(true, path...), 0)
	}
	return scalar(schema, func(kind string) string { return s.typed(kind, path...) })
}

// scalar is a value that is none of others, given what reads it as a type.
func scalar(schema *dtdl.Schema, read func(kind string) string) (kind, expression string) {
	text := read("String")
	whole := fmt.Sprintf("ifNull(%s, accurateCastOrNull(%s, 'Int64'))", read("Int64"), read("Float64"))
	switch schema.Kind {
	case dtdl.Double, dtdl.Float:
		return "Nullable(Float64)", fmt.Sprintf("coalesce(%s, toFloat64(%s), toFloat64(%s))", read("Float64"), read("Int64"), read("UInt64"))
	case dtdl.Integer:
		return "Nullable(Int32)", "accurateCastOrNull(" + whole + ", 'Int32')"
	case dtdl.Long:
		return "Nullable(Int64)", whole
	case dtdl.Boolean:
		return "Nullable(Bool)", read("Bool")
	case dtdl.Date:
		return "Nullable(Date32)", fmt.Sprintf("if(toString(toDate32OrNull(%s)) = %[1]s, toDate32OrNull(%[1]s), NULL)", text)
	case dtdl.DateTime:
		return "Nullable(DateTime64(6, 'UTC'))", fmt.Sprintf("if(match(ifNull(%s, ''), %s), parseDateTime64BestEffortOrNull(%[1]s, 6, 'UTC'), NULL)", text, quoteText(dateTime))
	case dtdl.Time:
		return "Nullable(String)", fmt.Sprintf("if(match(ifNull(%s, ''), %s), %[1]s, NULL)", text, quoteText(timeOfDay))
	case dtdl.Duration:
		return "Nullable(String)", fmt.Sprintf("if(match(ifNull(%s, ''), %s), %[1]s, NULL)", text, quoteText(duration))
	case dtdl.Enum:
		if schema.ValueKind == dtdl.Integer {
			return "Nullable(String)", named(schema.Values, whole)
		}
		return "Nullable(String)", named(schema.Values, text)
	}
	return "Nullable(String)", text
}

// As RFC 3339 and ISO 8601 have them.
const (
	dateTime  = `^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?$`
	timeOfDay = `^\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})?$`
	duration  = `^[+-]?P(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)$`
)

// named is the name of an enumeration's value.
func named(values []dtdl.EnumValue, of string) string {
	var from, to []string
	for _, v := range values {
		literal := fmt.Sprint(v.Value)
		if text, ok := v.Value.(string); ok {
			literal = quoteText(text)
		}
		from, to = append(from, literal), append(to, quoteText(v.Name))
	}
	return fmt.Sprintf("transform(%s, [%s], [%s], NULL)", of, strings.Join(from, ", "), strings.Join(to, ", "))
}

// fieldsOf are those of an object, or of what IoT Central adds that is one; nil for
// other schemas.
func fieldsOf(schema *dtdl.Schema) []dtdl.Field {
	number := &dtdl.Schema{Kind: dtdl.Double}
	switch schema.Kind {
	case dtdl.Object:
		return schema.Fields
	case dtdl.Geopoint:
		return []dtdl.Field{{Name: "lat", Schema: number}, {Name: "lon", Schema: number}, {Name: "alt", Schema: number}}
	case dtdl.Vector:
		return []dtdl.Field{{Name: "x", Schema: number}, {Name: "y", Schema: number}, {Name: "z", Schema: number}}
	}
	return nil
}

func tuple(fields []dtdl.Field, value func(dtdl.Field) (kind, expression string)) (kind, expression string) {
	kinds, expressions := make([]string, len(fields)), make([]string, len(fields))
	for i, f := range fields {
		of, expression := value(f)
		kinds[i], expressions[i] = quoteName(possible(f.Name))+" "+of, expression
	}
	kind = "Tuple(" + strings.Join(kinds, ", ") + ")"
	return kind, "CAST(tuple(" + strings.Join(expressions, ", ") + "), " + quoteText(kind) + ")"
}

// possible is a name that statements may have; with an underscore behind it when the
// model's would be taken for a function.
func possible(name string) string {
	if sqltext.Refused(name) {
		return name + "_"
	}
	return name
}

// fromText reads a schema's values from JSON text, depth deep in lambdas.
func fromText(schema *dtdl.Schema, text string, depth int) (kind, expression string) {
	if fields := fieldsOf(schema); fields != nil {
		return tuple(fields, func(f dtdl.Field) (string, string) {
			return fromText(f.Schema, fmt.Sprintf("JSONExtractRaw(%s, %s)", text, quoteText(f.Name)), depth)
		})
	}
	element := "e" + strconv.Itoa(depth)
	switch schema.Kind {
	case dtdl.Array:
		kind, inner := fromText(schema.Element, element, depth+1)
		return "Array(" + kind + ")", fmt.Sprintf("arrayMap(%s -> %s, JSONExtractArrayRaw(%s))", element, inner, text)
	case dtdl.Map:
		of, inner := fromText(schema.Element, element+".2", depth+1)
		kind = "Map(String, " + of + ")"
		return kind, fmt.Sprintf("CAST(arrayMap(%s -> (%[1]s.1, %s), JSONExtractKeysAndValuesRaw(%s)), %s)", element, inner, text, quoteText(kind))
	case dtdl.Point:
		// GeoJSON's order is longitude, latitude, altitude.
		_, number := fromText(&dtdl.Schema{Kind: dtdl.Double}, element, depth+1)
		kind = "Tuple(lat Nullable(Float64), lon Nullable(Float64), alt Nullable(Float64))"
		return kind, fmt.Sprintf("CAST(arrayMap(p -> (p[2], p[1], p[3]), [arrayMap(%s -> %s, JSONExtractArrayRaw(%s, 'coordinates'))])[1], %s)", element, number, text, quoteText(kind))
	case dtdl.MultiPoint, dtdl.LineString, dtdl.MultiLineString, dtdl.Polygon, dtdl.MultiPolygon:
		return "Nullable(String)", fmt.Sprintf("if(JSONHas(%s, 'coordinates'), %[1]s, NULL)", text)
	}
	return scalar(schema, func(kind string) string { return typedText(text, kind) })
}

// typedText is JSON text as one of ClickHouse's types, NULL when it is another.
func typedText(text, kind string) string {
	is := map[string]string{"Int64": "Int64", "UInt64": "UInt64", "Float64": "Double", "Bool": "Bool", "String": "String"}[kind]
	return fmt.Sprintf("if(JSONType(%s) = '%s', JSONExtract(%[1]s, 'Nullable(%s)'), NULL)", text, is, kind)
}

var textEscapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

func quoteText(text string) string { return "'" + textEscapes.Replace(text) + "'" }

func quoteName(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}
