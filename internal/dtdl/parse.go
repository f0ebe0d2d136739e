package dtdl

import (
	"fmt"
	"slices"
	"strings"
)

// language is what differs between the versions.
type language struct {
	version                                                   int
	maxName, maxDisplayName, maxText, maxContents, maxExtends int
	maxExtendsDepth, maxSchemaDepth, maxEnumValues, maxFields int
	maxMultiplicity                                           int
	arrayInProperty, geospatialInProperty, nullable           bool
}

// languages by version: DTDL.v2.md and DTDL.v3.md, their tables of limits.
var languages = map[int]language{
	2: {
		version: 2, maxName: 64, maxDisplayName: 64, maxText: 512, maxContents: 300, maxExtends: 2, maxExtendsDepth: 10,
		maxSchemaDepth: 5, maxEnumValues: 100, maxFields: 30, maxMultiplicity: 500,
	},
	3: {
		version: 3, maxName: 512, maxDisplayName: 512, maxText: 512, maxContents: 100_000, maxExtends: 1024, maxExtendsDepth: 10,
		maxSchemaDepth: 5, maxEnumValues: 100, maxFields: 30, maxMultiplicity: 1 << 30,
		arrayInProperty: true, geospatialInProperty: true, nullable: true,
	},
}

// Contexts that a document may name.
const (
	contextV2           = "dtmi:dtdl:context;2"
	contextV3           = "dtmi:dtdl:context;3"
	contextCentral      = "dtmi:iotcentral:context;2"
	contextQuantitative = "dtmi:dtdl:extension:quantitativeTypes;1"
)

var contexts = map[string]bool{
	contextV2: true, contextV3: true, contextCentral: true, contextQuantitative: true,
	"dtmi:iotcentral:context;3":           true,
	"dtmi:dtdl:extension:historization;1": true, "dtmi:dtdl:extension:annotation;1": true, "dtmi:dtdl:extension:overriding;1": true,
}

// parser builds a model out of nodes.
type parser struct {
	language
	central      bool // IoT Central's extension is on
	quantitative bool // semantic types are on

	problems Problems
	more     int // problems beyond maxProblems

	sources map[string]*node      // interfaces of the document, by id
	schemas map[string]*node      // schemas defined for use by id
	built   map[string]*Interface // interfaces there are, nil while one is being built
	bodies  int                   // elements built, bounded
}

// Parse reads a model: an interface, or an array of interfaces of which the first
// is the root. What is wrong with it is a [Problems]; what is no JSON, too.
func Parse(document []byte) (*Model, error) { return parse(document, "$", false) }

// ParseTemplate reads the capability model of a device template of IoT Central's,
// which needs no `@context`. Paths begin with the given one.
func ParseTemplate(document []byte, path string) (*Model, error) { return parse(document, path, true) }

func parse(document []byte, path string, template bool) (*Model, error) {
	p := &parser{sources: map[string]*node{}, schemas: map[string]*node{}, built: map[string]*Interface{}}
	root, err := readDocument(document, path, p.problem)
	if err != nil {
		return nil, Problems{{Path: path, Rule: "JSON: RFC 8259", Message: err.Error()}}
	}
	interfaces := root.list()
	if len(interfaces) == 0 {
		return nil, Problems{{Path: path, Rule: "DTDL §Interface", Message: "there is no interface: write an object with \"@type\": \"Interface\""}}
	}
	p.chooseLanguage(interfaces[0], template)
	for _, n := range interfaces {
		p.collect(n, 0)
	}
	model := &Model{Version: p.version, Interfaces: map[string]*Interface{}}
	for i, n := range interfaces {
		if built := p.buildInterface(n, 0); i == 0 {
			model.Root = built
		}
	}
	for id, i := range p.built {
		model.Interfaces[id] = i
	}
	if len(p.problems) > 0 {
		return nil, p.sorted()
	}
	return model, nil
}

func (p *parser) problem(n *node, rule, format string, args ...any) {
	if len(p.problems) >= maxProblems {
		p.more++
		return
	}
	found := Problem{Path: n.path(), Rule: rule, Message: fmt.Sprintf(format, args...)}
	if !slices.Contains(p.problems, found) {
		p.problems = append(p.problems, found)
	}
}

// rule names a section of the language's document.
func (p *parser) rule(section string) string {
	return fmt.Sprintf("DTDL v%d §%s", p.version, section)
}

func (p *parser) sorted() Problems {
	if p.more > 0 {
		p.problems = append(p.problems, Problem{Path: "$", Rule: "-", Message: fmt.Sprintf("there are %d more problems: mend these first", p.more)})
	}
	return p.problems
}

// chooseLanguage reads the contexts of the root.
func (p *parser) chooseLanguage(root *node, template bool) {
	p.language = languages[2]
	p.central, p.quantitative = template, true
	context := root.get("@context")
	if context == nil {
		if !template {
			p.problem(root, "DTDL §Context", "@context is missing: write \"@context\": %q", contextV2)
		}
		return
	}
	names := p.contexts(context)
	if len(names) == 0 {
		return
	}
	if slices.Contains(names, contextV3) {
		p.language = languages[3]
		p.quantitative = slices.Contains(names, contextQuantitative)
	} else if !slices.Contains(names, contextV2) {
		p.problem(context, "DTDL §Context", "the context names no version of the language: begin it with %q or %q", contextV2, contextV3)
	}
	p.central = template || slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "dtmi:iotcentral:") })
}

// contexts checks a context and gives its names, without options behind a `#`.
func (p *parser) contexts(context *node) []string {
	var names []string
	for _, n := range context.list() {
		name, _, _ := strings.Cut(n.text, "#")
		if n.kind != 's' || !contexts[name] {
			p.problem(n, "DTDL §Context", "context %s is not known: use %s, %s, %s or one of the language's extensions", quote(n), contextV2, contextV3, contextCentral)
			continue
		}
		names = append(names, name)
	}
	return names
}

// quote is a value as an error shows it.
func quote(n *node) string {
	switch n.kind {
	case 's':
		return fmt.Sprintf("%q", clip(n.text))
	case 'n':
		return clip(n.text)
	case 'b':
		return fmt.Sprint(n.truth)
	case 'o':
		return "(an object)"
	case 'a':
		return "(an array)"
	}
	return "null"
}

// collect finds the interfaces of the document, inline ones too, and the schemas
// that can be referred to.
func (p *parser) collect(n *node, depth int) {
	if n.kind != 'o' || depth > maxDocumentDepth {
		return
	}
	if id := n.get("@id"); id != nil && id.kind == 's' {
		if p.sources[id.text] != nil && p.sources[id.text] != n {
			p.problem(id, p.rule("Interface"), "interface %q is defined twice: define it once and refer to it by its id", clip(id.text))
		} else {
			p.sources[id.text] = n
		}
	}
	for _, s := range n.get("schemas").list() {
		if id := s.get("@id"); id != nil && id.kind == 's' {
			p.schemas[id.text] = s
		}
	}
	for _, e := range n.get("extends").list() {
		p.collect(e, depth+1)
	}
	for _, c := range n.get("contents").list() {
		for _, member := range []string{"schema", "target"} {
			if inline := c.get(member); isInterface(inline) {
				p.collect(inline, depth+1)
			}
		}
	}
}

// isInterface tells an interface from a schema.
func isInterface(n *node) bool {
	if n == nil || n.kind != 'o' {
		return false
	}
	if n.get("contents") != nil {
		return true
	}
	return slices.ContainsFunc(n.get("@type").list(), func(t *node) bool { return t.text == "Interface" })
}
