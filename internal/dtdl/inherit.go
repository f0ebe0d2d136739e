package dtdl

import "slices"

// Bounds of inheritance (DTDL §Interface). maxInherited bounds what all interfaces of
// a document inherit together, so that a small document cannot make a huge model.
const (
	maxExtendsDepth = 10
	maxExtended     = 1024
	maxInherited    = 1_000_000
)

// lineage is how far an interface's inheritance is known.
type lineage struct {
	done  bool
	depth int // of the levels above
}

type inheritance struct {
	*parser
	lineages map[*Interface]*lineage
	total    int
}

// inherit gives each interface the contents of those it extends, and checks what can
// be seen only then.
func (p *parser) inherit() {
	h := &inheritance{parser: p, lineages: map[*Interface]*lineage{}}
	for _, in := range p.order {
		h.resolve(in)
	}
	for _, in := range p.order {
		p.components(in)
		p.annotations(in)
	}
}

func (h *inheritance) resolve(in *Interface) *lineage {
	if l := h.lineages[in]; l != nil {
		return l
	}
	l := &lineage{}
	h.lineages[in] = l
	s := h.origins[in]
	extends, at := in.Extends, s.parents
	in.Extends, s.parents = nil, nil // what cannot be inherited stays away
	for i, parent := range extends {
		above := h.resolve(parent)
		switch {
		case !above.done:
			h.found.add(at[i], s.rule("Interface", "DTDL-02"), "%s extends itself, by way of others or not: remove it here", quote(parent.ID))
		case above.depth+1 > maxExtendsDepth:
			h.found.add(at[i], s.rule("Interface", "DTDL-02"), "interfaces extend each other over more than %d levels: make it flatter", maxExtendsDepth)
		default:
			in.Extends, s.parents = append(in.Extends, parent), append(s.parents, at[i])
			l.depth = max(l.depth, above.depth+1)
		}
	}
	h.gather(in, s)
	l.done = true
	return l
}

// gather gathers all contents of an interface; each ancestor's come once.
func (h *inheritance) gather(in *Interface, s *scope) {
	h.ancestors(in, s)
	names := map[string]*Content{}
	for i, parent := range in.Extends {
		if h.tooMuch(len(parent.All), s) {
			return
		}
		for _, c := range parent.All {
			other := names[c.Name]
			if other == nil {
				names[c.Name] = c
				in.All = append(in.All, c)
			} else if other != c {
				h.found.add(s.parents[i], s.rule("Interface", "DTDL-05"), "it brings a second content named %s, besides %s: rename one", quote(c.Name), other.Path)
			}
		}
	}
	for _, c := range in.Contents {
		if other := names[c.Name]; other != nil {
			h.found.add(h.at[c].get("name"), s.rule(string(c.Kind), "DTDL-05"), "%s is already the name of %s, which is in the same interface or inherited: rename one", quote(c.Name), other.Path)
			continue
		}
		names[c.Name] = c
		in.All = append(in.All, c)
	}
	if most := s.most(300, 100_000); len(in.All) > most && len(in.Contents) <= most {
		h.found.add(s.node, s.rule("Interface", "DTDL-02"), "there are %d contents with those it inherits, of at most %d: move some to components", len(in.All), most)
	}
}

// ancestors counts all interfaces above, which version 3 bounds; version 2 bounds
// those of each interface.
func (h *inheritance) ancestors(in *Interface, s *scope) {
	if s.version == 2 {
		return
	}
	seen := map[*Interface]bool{}
	for above := slices.Clone(in.Extends); len(above) > 0 && !h.tooMuch(1, s); above = above[1:] {
		if parent := above[0]; !seen[parent] {
			seen[parent] = true
			above = append(above, parent.Extends...)
		}
		if len(seen) > maxExtended {
			h.found.add(s.node, s.rule("Interface", "DTDL-02"), "it extends more than %d interfaces, with those they extend: remove some", maxExtended)
			return
		}
	}
}

// tooMuch counts what is inherited. It says so once.
func (h *inheritance) tooMuch(more int, s *scope) bool {
	if h.total <= maxInherited && h.total+more > maxInherited {
		h.found.add(s.node, "bounds of a document", "the interfaces of the document inherit more than %d contents together: split the model", maxInherited)
	}
	h.total += more
	return h.total > maxInherited
}

// components checks those of an interface, now that their contents are known.
func (p *parser) components(in *Interface) {
	s := p.origins[in]
	for _, c := range in.Contents {
		if c.Kind != Component || c.Interface == nil {
			continue
		}
		at := p.at[c].get("schema")
		for _, inside := range c.Interface.All {
			if inside.Kind == Component {
				p.found.add(at, s.rule("Component", "DTDL-07"), "the component's interface has a component itself, %s: only the model's own interfaces may have some", quote(inside.Name))
				break
			}
			if inside.Cloud {
				p.found.add(at, "FEATURES TPL-01", "the component's interface has the cloud property %s: move it to the model's own interface", quote(inside.Name))
				break
			}
		}
	}
}

// annotations checks that what is annotated is there.
func (p *parser) annotations(in *Interface) {
	for _, c := range in.Contents {
		if c.Annotates == "" {
			continue
		}
		if about := in.Find(Telemetry, c.Annotates); c.Annotates == c.Name || about == nil && in.Find(Property, c.Annotates) == nil {
			p.found.add(p.at[c].get("annotates"), adjuncts["ValueAnnotation"].rule, "the interface has no other telemetry or property %s: write the name of one", quote(c.Annotates))
		}
	}
}
