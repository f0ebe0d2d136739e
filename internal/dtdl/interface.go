package dtdl

import (
	"slices"
	"strings"
)

// Parse reads a DTDL document that stands by itself: an interface, or an array of
// interfaces, of which the first is the model's root and the others are there to be
// referred to. Interfaces may also stand inline, where others are referred to. The
// error is [Problems].
func Parse(document []byte) (*Model, error) {
	return parse(document, "$", language{})
}

// ParseAt reads the model of a device template, which stands there at the path, such
// as $.capabilityModel; paths of problems begin with it. In a template `@context` may
// be missing, which means DTDL v2, and IoT Central's extension is always in force.
func ParseAt(document []byte, path string) (*Model, error) {
	return parse(document, path, language{template: true, central: true})
}

func parse(document []byte, path string, outer language) (*Model, error) {
	found := &findings{}
	p := &parser{
		found: found, interfaces: map[string]*Interface{}, origins: map[*Interface]*scope{},
		ids: map[string]*node{}, shapes: map[*Schema]shape{}, at: map[*Content]*node{},
	}
	model := p.model(document, path, outer)
	if err := found.err(path); err != nil {
		return nil, err
	}
	return model, nil
}

// parser reads one document.
type parser struct {
	found      *findings
	interfaces map[string]*Interface
	order      []*Interface // as they come in the document
	origins    map[*Interface]*scope
	ids        map[string]*node
	shapes     map[*Schema]shape
	at         map[*Content]*node
	references []reference
}

// scope is what the elements of one interface are read in.
type scope struct {
	*parser
	language
	document []byte
	node     *node
	iface    *Interface
	// parents, by position in Extends.
	parents []*node
	// schemas of the interface that may be referred to, by id; those being read are in
	// reading, to find one that holds itself.
	schemas map[string]*node
	reading map[string]bool
}

// reference is one to an interface by its id.
type reference struct {
	from *scope
	node *node
	take func(*Interface)
	// loose references may lead out of the document.
	loose bool
}

func (p *parser) model(document []byte, path string, outer language) *Model {
	top := read(document, path, p.found)
	if top == nil {
		return nil
	}
	all := top.each()
	if len(all) == 0 {
		p.found.add(top, "DTDL v2 §Interface", "the document is empty: write an Interface")
		return nil
	}
	var first *Interface
	for i, n := range all {
		if in := p.read(n, document, outer); i == 0 {
			first = in
		}
	}
	p.resolve()
	p.inherit()
	if first == nil {
		return nil
	}
	return &Model{Root: first, Interfaces: p.interfaces, Version: p.origins[first].version}
}

// The members of an interface (DTDL §Interface).
var interfaceMembers = words("@context @type @id comment contents description displayName extends schemas")

// read reads an interface; nil when it is none.
func (p *parser) read(n *node, document []byte, outer language) *Interface {
	if n.kind != '{' {
		p.found.add(n, outer.rule("Interface", "DTDL-02"), "this is %s: write an Interface, an object with @id and @type", n.what())
		return nil
	}
	s := &scope{parser: p, language: p.context(n, outer), document: document, node: n, iface: &Interface{Path: n.path()}, reading: map[string]bool{}}
	cotypes := s.class(n, "Interface", false)
	id := s.interfaceID(n)
	if known := p.interfaces[id]; known != nil && id != "" {
		if !p.origins[known].node.same(n) {
			p.found.add(n.get("@id"), s.rule("Interface", "DTDL-02"), "%s is defined twice, and differently: give one of them another @id", quote(id))
		}
		return known
	}
	s.iface.ID, s.iface.Types = id, types(n)
	p.origins[s.iface] = s
	p.order = append(p.order, s.iface)
	if id != "" {
		p.interfaces[id] = s.iface
		p.ids[id] = n
	}
	s.members(n, "Interface", cotypes, interfaceMembers)
	s.inside(n)
	return s.iface
}

func (s *scope) interfaceID(n *node) string {
	at := n.get("@id").single()
	switch {
	case at == nil:
		s.found.add(n, s.rule("Interface", "DTDL-02"), "there is no @id: add one, like \"dtmi:com:example:thermostat;1\"")
	case at.kind != '"':
		s.found.add(at, s.rule("Interface", "DTDL-02"), "the @id is %s: write a string, like \"dtmi:com:example:thermostat;1\"", at.what())
	default:
		if wrong := dtmiProblem(at.text, s.version, maxInterfaceID); wrong != "" {
			s.found.add(at, s.idRule(), "%s %s", quote(at.text), wrong)
		}
		return at.text
	}
	return ""
}

func (s *scope) idRule() string { return s.rule("Digital Twin Model Identifier", "DTDL-03") }

// inside reads what the interface holds.
func (s *scope) inside(n *node) {
	in := s.iface
	s.described(n, "Interface", &in.DisplayName, &in.Description, &in.Comment)
	s.extends(n)
	s.namedSchemas(n)
	contents := n.get("contents")
	if contents == nil {
		return
	}
	if most := s.most(300, 100_000); len(contents.each()) > most {
		s.found.add(contents, s.rule("Interface", "DTDL-02"), "there are %d contents, of at most %d: move some to components", len(contents.each()), most)
	}
	for _, c := range contents.each() {
		if content := s.content(c); content != nil {
			in.Contents = append(in.Contents, content)
		}
	}
}

func (s *scope) extends(n *node) {
	at := n.get("extends")
	parents := at.each()
	if s.version == 2 && len(parents) > 2 {
		s.found.add(at, s.rule("Interface", "DTDL-02"), "it extends %d interfaces, of at most 2: let one of these extend the others", len(parents))
	}
	for _, parent := range parents {
		s.refer(parent, false, func(in *Interface) {
			if slices.Contains(s.iface.Extends, in) {
				s.found.add(parent, s.rule("Interface", "DTDL-02"), "it extends %s twice: remove one", quote(in.ID))
				return
			}
			s.iface.Extends, s.parents = append(s.iface.Extends, in), append(s.parents, parent)
		})
	}
}

// refer notes a reference to an interface, or reads one that stands inline.
func (s *scope) refer(n *node, loose bool, take func(*Interface)) {
	switch n.kind {
	case '{':
		if in := s.read(n, s.document, s.language); in != nil {
			s.references = append(s.references, reference{s, n, take, loose})
		}
	case '"':
		most := maxInterfaceID
		if loose {
			most = maxID
		}
		if wrong := dtmiProblem(n.text, max(s.version, 2), most); wrong != "" {
			s.found.add(n, s.idRule(), "%s %s", quote(n.text), wrong)
			return
		}
		s.references = append(s.references, reference{s, n, take, loose})
	default:
		s.found.add(n, s.rule("Interface"), "this is %s: write the @id of an interface, or the interface itself", n.what())
	}
}

// resolve finds the interfaces that others refer to.
func (p *parser) resolve() {
	for i := 0; i < len(p.references); i++ { // interfaces known here add their own
		r := p.references[i]
		id := r.node.text
		if r.node.kind == '{' {
			id = r.node.get("@id").idText()
		}
		in := p.interfaces[id]
		if in == nil && !r.loose {
			in = p.builtIn(id)
		}
		switch {
		case in == nil && r.loose, in == nil && id == "":
		case in == nil:
			p.found.add(r.node, r.from.rule("Interface", "DTDL-02"), "the document has no interface %s: add it, as a further one of an array or in place of its id", quote(id))
		case !r.loose && p.origins[in].version > r.from.version:
			p.found.add(r.node, r.from.rule("Context"), "%s is of version %d of the language, this interface of version %d: use one version for both", quote(id), p.origins[in].version, r.from.version)
		default:
			r.take(in)
		}
	}
}

func (n *node) idText() string {
	if n = n.single(); n == nil || n.kind != '"' {
		return ""
	}
	return n.text
}

// members finds those that no one knows. They are allowed where there is a type no
// one knows.
func (s *scope) members(n *node, section string, types cotypes, allowed ...[]string) {
	for _, c := range n.children {
		if slices.ContainsFunc(allowed, func(names []string) bool { return slices.Contains(names, c.key) }) {
			continue
		}
		central := slices.Contains(centralValueMembers, c.key) || slices.Contains(centralCommandMembers, c.key) || c.key == "initialValue"
		switch {
		case strings.HasPrefix(c.key, "@"):
			s.found.add(c, s.rule(section), "%s cannot stand here: remove it", quote(c.key))
		case types.undefined:
		case central && !s.central:
			s.found.add(c, displayRule, "%s is IoT Central's: add \"dtmi:iotcentral:context;2\" to @context, or remove it", quote(c.key))
		default:
			s.found.add(c, s.rule(section), "%s has no member %s: remove it, or mend its name", a(section), quote(c.key))
		}
	}
}

// id is the element's, its own or the one assigned to it (FEATURES.md DTDL-04).
func (s *scope) id(n *node, parent, segments string) string {
	at := n.get("@id").single()
	if at == nil {
		return assign(parent, segments)
	}
	if at.kind != '"' {
		s.found.add(at, s.idRule(), "the @id is %s: write a string, like \"dtmi:com:example:thermostat:temperature;1\"", at.what())
		return assign(parent, segments)
	}
	// Contents of IoT Central's early templates have URNs.
	urn := s.central && len(at.text) <= maxID && strings.HasPrefix(at.text, "urn:")
	if wrong := dtmiProblem(at.text, s.version, maxID); wrong != "" && !urn {
		s.found.add(at, s.idRule(), "%s %s", quote(at.text), wrong)
		return at.text
	}
	if other := s.ids[at.text]; other != nil && other != n && !other.same(n) {
		s.found.add(at, s.idRule(), "%s is already the @id of %s: choose another", quote(at.text), other.path())
	}
	s.ids[at.text] = n
	return at.text
}
