package dtdl

import (
	"fmt"
	"strings"
)

// language is what the contexts in force make of a document.
type language struct {
	// version of DTDL; 0 while no context told it.
	version int
	// The extensions in force.
	central, quantitative, historization, annotation, streaming bool
	// template tells that the document stands in a device template, where IoT
	// Central's extension is always in force and contexts may be left out.
	template bool
}

// The limits of the language's versions that differ.
func (l language) most(version2, version3 int) int {
	if l.version == 2 {
		return version2
	}
	return version3
}

// rule names a section of the language's document, and FEATURES.md's entry for it.
func (l language) rule(section string, features ...string) string {
	at := fmt.Sprintf("DTDL v%d §%s", max(l.version, 2), section)
	if len(features) == 0 {
		return at
	}
	return "FEATURES " + strings.Join(features, ", ") + " / " + at
}

const (
	centralContext = "dtmi:iotcentral:context;2"
	knownContexts  = "dtmi:dtdl:context;2, dtmi:dtdl:context;3, " + centralContext + ", dtmi:dtdl:extension:quantitativeTypes;1, " +
		"dtmi:dtdl:extension:historization;1, dtmi:dtdl:extension:annotation;1 and dtmi:dtdl:extension:streaming;1"
)

// context reads an interface's `@context`, which adds to that of the interface around
// it. DTDL's own has to be the first; only IoT Central's may stand before it, as IoT
// Central writes it so itself (FEATURES.md TPL-03).
func (p *parser) context(n *node, outer language) language {
	at := n.get("@context")
	if at == nil {
		return p.noContext(n, outer)
	}
	l := outer
	l.version = 0
	before := p.found.count()
	for _, c := range at.each() {
		l = p.oneContext(c, l)
	}
	if l.version == 0 && p.found.count() == before {
		p.found.add(at, l.rule("Context", "DTDL-02"), "no context tells the language: add \"dtmi:dtdl:context;2\" as the first one")
	}
	if l.version == 0 {
		l.version = max(outer.version, 2)
	}
	return l
}

func (p *parser) noContext(n *node, outer language) language {
	if outer.version == 0 {
		if !outer.template {
			p.found.add(n, outer.rule("Context", "DTDL-02"), "there is no @context: add \"@context\": \"dtmi:dtdl:context;2\"")
		}
		outer.version = 2
	}
	return outer
}

func (p *parser) oneContext(n *node, l language) language {
	if n.kind != '"' {
		p.found.add(n, l.rule("Context", "DTDL-02"), "the context is %s: write one of %s", n.what(), knownContexts)
		return l
	}
	name, _, _ := strings.Cut(n.text, "#") // dtmi:dtdl:context;3#limitless has the same terms
	switch name {
	case "dtmi:dtdl:context;2":
		l.version = 2
		return l
	case "dtmi:dtdl:context;3":
		l.version = 3
		return l
	case centralContext:
		l.central = true
		return l
	}
	extension := map[string]*bool{
		"dtmi:dtdl:extension:quantitativeTypes;1": &l.quantitative,
		"dtmi:dtdl:extension:historization;1":     &l.historization,
		"dtmi:dtdl:extension:annotation;1":        &l.annotation,
		"dtmi:dtdl:extension:streaming;1":         &l.streaming,
	}[name]
	switch {
	case extension == nil:
		p.found.add(n, l.rule("Context", "DTDL-02"), "%s is no context known here: use %s", quote(n.text), knownContexts)
	case l.version == 0:
		p.found.add(n, l.rule("Context", "DTDL-02"), "the context of DTDL comes first: put \"dtmi:dtdl:context;3\" before %s", quote(n.text))
	case l.version < 3:
		p.found.add(n, "DTDL v3 §Language extensions", "%s needs version 3 of the language: use \"dtmi:dtdl:context;3\", or remove it", quote(n.text))
	default:
		*extension = true
	}
	return l
}
