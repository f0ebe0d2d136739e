package dtdl

import (
	"regexp"
	"slices"
	"strings"
)

// cotypes are what an element is besides its class.
type cotypes struct {
	semantic []string // semantic types
	adjunct  []string // types of the extensions in force
	// undefined tells of a type nobody here knows. DTDL v2 allows these, and then
	// members nobody knows (§Undefined co-types and properties).
	undefined bool
	// excused is a semantic type whose extension is missing; its unit is not told of, too.
	excused bool
}

func (c cotypes) has(adjunct string) bool { return slices.Contains(c.adjunct, adjunct) }

// types are the terms in `@type`.
func types(n *node) []string {
	var terms []string
	for _, t := range n.get("@type").each() {
		if t.kind == '"' {
			terms = append(terms, term(t.text))
		}
	}
	return terms
}

// class checks the types of an element that can have one class only; where `@type`
// is optional, it may be missing. What else is in it are co-types.
func (s *scope) class(n *node, class string, optional bool) cotypes {
	if n.get("@type") == nil {
		if !optional {
			s.found.add(n, s.rule(class), "there is no @type: add \"@type\": %s", quote(class))
		}
		return cotypes{}
	}
	if terms := types(n); !slices.Contains(terms, class) {
		s.found.add(n.get("@type"), s.rule(class), "the type is %s, which cannot stand here: write %s", quote(strings.Join(terms, ", ")), quote(class))
		return cotypes{undefined: true} // nothing is known of its members
	}
	return s.cotypes(n, class)
}

// A type that is not defined is a term or a DTMI.
var goodType = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// cotypes sorts the types of an element other than its class.
func (s *scope) cotypes(n *node, class string) cotypes {
	var c cotypes
	seen := map[string]bool{}
	for _, at := range n.get("@type").each() {
		t := term(at.text)
		switch {
		case at.kind != '"':
			s.found.add(at, s.rule(class), "the type is %s: write a string", at.what())
		case seen[t]:
			s.found.add(at, s.rule(class), "the type %s stands twice: remove one", quote(t))
		case t != class:
			s.cotype(at, class, t, &c)
		}
		seen[t] = true
	}
	if len(c.semantic) > 1 {
		s.found.add(n.get("@type"), s.semanticRule(), "there are %d semantic types, %s: keep one", len(c.semantic), strings.Join(c.semantic, " and "))
	}
	return c
}

func (s *scope) cotype(at *node, class, t string, c *cotypes) {
	extension, known := adjuncts[t]
	switch {
	case s.unitType(t) != "" && s.mayBeSemantic(class):
		c.semantic = append(c.semantic, t)
	case s.unitType(t) != "":
		s.found.add(at, s.semanticRule(), "%s is a semantic type, which %s cannot have: remove it", quote(t), a(class))
	case slices.Contains(classes, t):
		s.found.add(at, s.rule(class), "an element is either %s or %s: remove one of these types", a(class), a(t))
	case known && extension.in(s.language):
		c.adjunct = append(c.adjunct, t)
		if !slices.Contains(extension.on, class) {
			s.found.add(at, extension.rule, "%s is no type for %s, only for %s: remove it", quote(t), a(class), strings.Join(extension.on, ", "))
		}
	default:
		c.undefined = true
		c.excused = c.excused || semanticTypes[t] != "" || semanticTypes3[t] != "" && s.version > 2
		s.undefinedType(at, class, t)
	}
}

// undefinedType tells of types that version 3 has only with an extension, or not at all.
func (s *scope) undefinedType(at *node, class, t string) {
	switch {
	case s.version > 2 && (semanticTypes[t] != "" || semanticTypes3[t] != ""):
		s.found.add(at, s.semanticRule(), "%s is a semantic type, which version 3 has only as an extension: add \"dtmi:dtdl:extension:quantitativeTypes;1\" to @context", quote(t))
	case s.version > 2 && adjuncts[t].context != "":
		s.found.add(at, s.rule("Language extensions"), "%s is a type of an extension: add %s to @context", quote(t), quote(adjuncts[t].context))
	case s.version > 2:
		s.found.add(at, s.rule(class), "%s is no type known to the language: remove it", quote(t))
	case !goodType.MatchString(t) && dtmiProblem(t, 3, maxID) != "":
		s.found.add(at, s.rule("Undefined co-types and properties"), "%s is no type: write a term of letters, digits and underscores, or a DTMI", quote(t))
	}
}

// mayBeSemantic tells which classes of elements can have a semantic type (DTDL v2
// §Semantic Type; quantitativeTypes v1 §Semantic types and units).
func (s *scope) mayBeSemantic(class string) bool {
	switch class {
	case string(Telemetry), string(Property):
		return true
	case "Field", "MapValue", "CommandRequest", "CommandResponse":
		return s.version > 2
	}
	return false
}

func (s *scope) semanticRule() string {
	if s.version == 2 {
		return s.rule("Semantic Type", "DTDL-09")
	}
	return "FEATURES DTDL-09 / DTDL v3 quantitativeTypes v1 §Semantic types and units"
}

// measured checks an element's semantic type, its unit and the schema they ask for.
// It returns the type and the unit; both are empty when there are none.
func (s *scope) measured(n *node, c cotypes, schema *Schema) (semantic, unit string) {
	at := n.get("unit").single()
	unitType := s.vectorUnit(c)
	if len(c.semantic) > 0 {
		semantic = c.semantic[0]
		unitType = s.unitType(semantic)
		s.numeric(n, semantic, schema)
	}
	switch {
	case at == nil && semantic != "":
		s.found.add(n, s.semanticRule(), "%s needs a unit: add \"unit\", one of %s", semantic, strings.Join(s.unitsOf(unitType), ", "))
	case at == nil, unitType == "" && c.excused:
	case unitType == "" && !c.undefined:
		s.found.add(at, s.semanticRule(), "a unit needs a semantic type: add one to @type, like \"Temperature\", or remove the unit")
	case unitType == "":
		s.found.add(at, s.semanticRule(), "a unit needs a semantic type, and none in @type is one: write one, like \"Temperature\", or remove the unit")
	case at.kind != '"' || !slices.Contains(s.unitsOf(unitType), term(at.text)):
		s.found.add(at, s.semanticRule(), "%s is no unit of %s: write one of %s", at.what(), firstOf(c), strings.Join(s.unitsOf(unitType), ", "))
	default:
		unit = term(at.text)
	}
	return semantic, unit
}

func firstOf(c cotypes) string {
	if len(c.semantic) > 0 {
		return c.semantic[0]
	}
	return "a vector of this type"
}

func (s *scope) numeric(n *node, semantic string, schema *Schema) {
	if schema == nil || schema.Numeric() {
		return
	}
	s.found.add(n.get("schema"), s.semanticRule(), "%s needs a number, and the schema is %s: write double, float, integer or long", semantic, schema.Kind)
}

// Numeric tells whether values are numbers.
func (s *Schema) Numeric() bool {
	return s.Kind == Double || s.Kind == Float || s.Kind == Integer || s.Kind == Long
}

// a puts the article before a class.
func a(class string) string {
	if strings.ContainsRune("AEIOU", rune(class[0])) {
		return "an " + class
	}
	return "a " + class
}
