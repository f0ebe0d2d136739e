package dtdl

import (
	"regexp"
	"strconv"
	"unicode/utf8"
)

// Lengths in characters (DTDL v2 and v3; names of v3: 512).
const (
	maxDisplayName = 64
	maxDescription = 512
	maxName2       = 64
	maxName3       = 512
)

func itoa(n int) string { return strconv.Itoa(n) }

// A name starts with a letter, ends with a letter or digit and has only these and
// underscores (FEATURES.md DTDL-05).
var goodName = regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?$`)

// Tags are those of BCP 47, of which only the form is looked at.
var goodLanguage = regexp.MustCompile(`^[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*$`)

// name is the programming name that the element must have; empty when it has no good one.
func (s *scope) name(n *node, section string) string {
	at := n.get("name").single()
	if at == nil {
		s.found.add(n, s.rule(section, "DTDL-05"), "there is no name: add one, like \"temperature\"")
		return ""
	}
	if at.kind != '"' {
		s.found.add(at, s.rule(section, "DTDL-05"), "the name is %s: write a string", at.what())
		return ""
	}
	most := maxName2
	if s.version > 2 {
		most = maxName3
	}
	if len(at.text) > most {
		s.found.add(at, s.rule(section, "DTDL-05"), "the name has %d characters, of at most %d: shorten it", utf8.RuneCountInString(at.text), most)
		return ""
	}
	if !goodName.MatchString(at.text) {
		s.found.add(at, s.rule(section, "DTDL-05"), "%s is no name: it starts with a letter, ends with a letter or digit, and has only letters, digits and underscores", quote(at.text))
		return ""
	}
	return at.text
}

// described reads what every element may say of itself to people.
func (s *scope) described(n *node, section string, displayName, description, comment *Text) {
	*displayName = s.text(n.get("displayName"), section, maxDisplayName)
	*description = s.text(n.get("description"), section, maxDescription)
	at := n.get("comment").single()
	if at == nil {
		return
	}
	if at.kind != '"' {
		s.found.add(at, s.rule(section), "the comment is %s: write a string; comments have no languages", at.what())
		return
	}
	if written := (Text{"en": at.text}); s.short(at, section, maxDescription) && comment != nil {
		*comment = written
	}
}

// text reads a string or a language map (FEATURES.md DTDL-13).
func (s *scope) text(n *node, section string, most int) Text {
	n = n.single()
	switch {
	case n == nil:
		return nil
	case n.kind == '"':
		if s.short(n, section, most) {
			return Text{"en": n.text}
		}
	case n.kind == '{':
		return s.languages(n, section, most)
	default:
		s.found.add(n, s.rule("Display string localization", "DTDL-13"), "%s is %s: write a string, or an object of strings by language, like {\"en\": \"Temperature\"}", n.key, n.what())
	}
	return nil
}

func (s *scope) languages(n *node, section string, most int) Text {
	text := make(Text, len(n.children))
	rule := s.rule("Display string localization", "DTDL-13")
	for _, c := range n.children {
		if !goodLanguage.MatchString(c.key) {
			s.found.add(c, rule, "%s is no language: write a tag of BCP 47, like en or de-CH", quote(c.key))
			continue
		}
		if c.kind != '"' {
			s.found.add(c, rule, "the text is %s: write a string", c.what())
			continue
		}
		if s.short(c, section, most) {
			text[c.key] = c.text
		}
	}
	return text
}

func (s *scope) short(n *node, section string, most int) bool {
	count := utf8.RuneCountInString(n.text)
	if count > most {
		s.found.add(n, s.rule(section, "DTDL-02"), "the text has %d characters, of at most %d: shorten it", count, most)
	}
	return count <= most
}
