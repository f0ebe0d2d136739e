package dtdl

import (
	"slices"
)

// interfaceTypes may stand beside Interface in `@type`: IoT Central's kinds of
// models (FEATURES.md TPL-02).
var interfaceTypes = []string{"Interface", "ModelDefinition", "DeviceModel", "EdgeModel", "GatewayModel", "CapabilityModel"}

// buildInterface makes an interface of a node; nil when it has no usable id. One
// that another extends may still be in the making, which is a cycle.
func (p *parser) buildInterface(n *node, depth int) *Interface {
	section := p.rule("Interface")
	if n.kind != 'o' {
		p.problem(n, section, "an interface is an object, not %s", quote(n))
		return nil
	}
	id := n.get("@id")
	if id == nil || id.kind != 's' {
		p.problem(n, section, "@id is missing: give the interface an id like dtmi:contoso:Thermostat;1")
		return nil
	}
	if done, there := p.built[id.text]; there {
		return done
	}
	p.built[id.text] = nil
	p.checkInterface(n, id)
	i := &Interface{ID: id.text, Types: p.types(n), Schemas: map[string]*Schema{}}
	i.DisplayName, i.Description, i.Comment = p.texts(n)
	for _, s := range n.get("schemas").list() {
		if schema := p.buildSchema(s, place{section: "Interface schemas", telemetry: true}, 1); schema != nil {
			i.Schemas[schema.ID] = schema
		}
	}
	i.Extends = p.extends(n, depth)
	p.contents(n, i, depth)
	p.built[id.text] = i
	return i
}

func (p *parser) checkInterface(n, id *node) {
	section := p.rule("Interface")
	switch {
	case !ValidID(id.text, p.version):
		p.problem(id, p.rule("Digital Twin Model Identifier"), "%q is not a model id: write it like dtmi:contoso:Thermostat;1", clip(id.text))
	case len(id.text) > maxInterfaceIDBytes:
		p.problem(id, section, "the id has %d characters: an interface's has at most %d", len(id.text), maxInterfaceIDBytes)
	case reserved(id.text):
		p.problem(id, p.rule("Digital Twin Model Identifier"), "%q has a part that begins with '_': such ids are the system's own", clip(id.text))
	}
	types := p.types(n)
	if !slices.Contains(types, "Interface") && (!p.central || !slices.Contains(types, "CapabilityModel")) {
		p.problem(n, section, "@type is not Interface: write \"@type\": \"Interface\"")
	}
	for _, t := range types {
		if !slices.Contains(interfaceTypes, t) || t != "Interface" && !p.central {
			p.problem(n.get("@type"), section, "an interface is no %q", clip(t))
		}
	}
	if context := n.get("@context"); context != nil && n.parent != nil {
		p.contexts(context)
	}
	p.known(n, section, "@context", "contents", "extends", "schemas")
	if contents := n.get("contents"); contents != nil && contents.kind != 'a' && contents.kind != 'o' {
		p.problem(contents, section, "contents is an array of telemetry, properties, commands, components and relationships, not %s", quote(contents))
	}
}

// extends builds what the interface inherits from.
func (p *parser) extends(n *node, depth int) []*Interface {
	section := p.rule("Interface inheritance")
	var parents []*Interface
	all := n.get("extends").list()
	if len(all) > p.maxExtends {
		p.problem(n.get("extends"), section, "the interface extends %d others: at most %d", len(all), p.maxExtends)
	}
	if len(all) > 0 && depth >= p.maxExtendsDepth {
		p.problem(n.get("extends"), section, "interfaces extend each other over more than %d levels", p.maxExtendsDepth)
		return nil
	}
	for _, e := range all {
		if parent := p.resolve(e, section, depth+1); parent != nil {
			parents = append(parents, parent)
		}
	}
	return parents
}

// resolve is the interface a node is or refers to.
func (p *parser) resolve(n *node, section string, depth int) *Interface {
	if n.kind == 'o' {
		built := p.buildInterface(n, depth)
		if id := n.get("@id"); built == nil && id != nil {
			p.unfinished(n, section, id.text)
		}
		return built
	}
	if n.kind != 's' {
		p.problem(n, section, "%s is no interface: write its id, or the interface itself", quote(n))
		return nil
	}
	source := p.sources[n.text]
	if source == nil {
		if source = p.wellKnown(n.text); source == nil {
			p.problem(n, section, "interface %q is not in the document: add it", clip(n.text))
			return nil
		}
	}
	built := p.buildInterface(source, depth)
	if built == nil {
		p.unfinished(n, section, n.text)
	}
	return built
}

// unfinished tells of an interface that is still being built where it is needed.
func (p *parser) unfinished(n *node, section, id string) {
	if done, there := p.built[id]; there && done == nil {
		p.problem(n, section, "interface %q leads back to itself: an interface can neither extend nor contain itself", clip(id))
	}
}

// contents builds the interface's own contents and gathers the inherited ones.
func (p *parser) contents(n *node, i *Interface, depth int) {
	section := p.rule("Interface")
	own := n.get("contents").list()
	if len(own) > p.maxContents {
		p.problem(n.get("contents"), section, "the interface has %d contents: at most %d", len(own), p.maxContents)
		own = own[:p.maxContents]
	}
	names := map[string]string{} // to whose they are
	for _, parent := range i.Extends {
		for _, c := range parent.All {
			if from, taken := names[c.Name]; taken && from != c.ID {
				p.problem(n.get("extends"), p.rule("Interface inheritance"), "%q is inherited twice: names are unique within an interface and what it extends", c.Name)
				continue
			} else if taken {
				continue
			}
			names[c.Name] = c.ID
			i.All = append(i.All, c)
		}
	}
	for _, element := range own {
		c := p.buildContent(element, i.ID, depth)
		if c == nil {
			continue
		}
		if _, taken := names[c.Name]; taken {
			p.problem(element.get("name"), section, "the name %q is taken: names are unique within an interface and what it extends", clip(c.Name))
		}
		names[c.Name] = c.ID
		i.Contents, i.All = append(i.Contents, c), append(i.All, c)
	}
	if len(i.All) > p.maxContents {
		p.problem(n, section, "the interface has %d contents with those inherited: at most %d", len(i.All), p.maxContents)
	}
}

// types are the strings of `@type`.
func (p *parser) types(n *node) []string {
	t := n.get("@type")
	if t == nil {
		return nil
	}
	var types []string
	for _, one := range t.list() {
		if one.kind != 's' {
			p.problem(one, p.rule("Type"), "@type holds names, not %s", quote(one))
			continue
		}
		types = append(types, one.text)
	}
	return types
}

// known checks that an element has only members it may have.
func (p *parser) known(n *node, section string, members ...string) {
	for _, m := range n.members {
		switch m.name {
		case "@id", "@type", "displayName", "description", "comment":
			continue
		}
		if !slices.Contains(members, m.name) {
			p.problem(m.value, section, "%q is not a member this can have: check its spelling or leave it out", clip(m.name))
		}
	}
}

// texts are what every element can say of itself.
func (p *parser) texts(n *node) (displayName, description, comment Text) {
	return p.text(n.get("displayName"), p.maxDisplayName), p.text(n.get("description"), p.maxText), p.text(n.get("comment"), p.maxText)
}

func (p *parser) text(n *node, most int) Text {
	section := p.rule("Display string localization")
	text := Text{}
	switch {
	case n == nil || n.kind == 0:
		return nil
	case n.kind == 's':
		text["en"] = n.text
	case n.kind == 'o':
		for _, m := range n.members {
			if m.value.kind != 's' {
				p.problem(m.value, section, "the text in %q is %s: write a string", clip(m.name), quote(m.value))
			}
			text[m.name] = m.value.text
		}
	default:
		p.problem(n, section, "%s is no text: write a string, or one for each language", quote(n))
	}
	for _, s := range text {
		if count := len([]rune(s)); count > most {
			p.problem(n, section, "the text has %d characters: use at most %d", count, most)
		}
	}
	return text
}
