package bridge

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxTemplateBytes  = 1024
	maxTemplateLevels = 64
)

// template is a topic with named places, such as `site/{site}/{device}/telemetry`.
// A level is a literal, `{name}` (one level, captured), `+` (one level) or, at
// the end, `#` (any number of levels).
type template struct {
	levels   []level
	captures []string // names, in the order of their levels
}

type level struct {
	kind    levelKind
	literal string
}

type levelKind byte

const (
	levelLiteral levelKind = iota
	levelCapture
	levelAny
	levelRest
)

var captureName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]{0,31}$`)

// parseTemplate reads a topic template. The error says what a template may hold.
func parseTemplate(text string) (template, error) {
	switch {
	case text == "":
		return template{}, errors.New("is empty: write a topic, such as site/{site}/{device}/telemetry")
	case len(text) > maxTemplateBytes || strings.Count(text, "/") >= maxTemplateLevels:
		return template{}, fmt.Errorf("is too long: use at most %d bytes and %d levels", maxTemplateBytes, maxTemplateLevels)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return template{}, errors.New("is not UTF-8 without zero bytes, as MQTT wants topics (MQTT 3.1.1 §1.5.3)")
	case strings.HasPrefix(text, "$share/") || strings.HasPrefix(text, "$queue/"):
		return template{}, errors.New("names a shared subscription: leave that out and set `group`")
	}
	var t template
	parts := strings.Split(text, "/")
	for i, part := range parts {
		l, err := parseLevel(part)
		if err != nil {
			return template{}, err
		}
		if l.kind == levelRest && i < len(parts)-1 {
			return template{}, errors.New("has # before its end: # stands for all that follows")
		}
		if l.kind == levelCapture {
			if slices.Contains(t.captures, l.literal) {
				return template{}, fmt.Errorf("has {%s} twice: give each place its own name", l.literal)
			}
			t.captures = append(t.captures, l.literal)
		}
		t.levels = append(t.levels, l)
	}
	return t, nil
}

func parseLevel(part string) (level, error) {
	switch {
	case part == "+":
		return level{kind: levelAny}, nil
	case part == "#":
		return level{kind: levelRest}, nil
	case strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}"):
		name := part[1 : len(part)-1]
		if !captureName.MatchString(name) {
			return level{}, fmt.Errorf("has %q: name a place with a letter first, then at most 31 letters, digits or '_'", part)
		}
		return level{kind: levelCapture, literal: name}, nil
	case strings.ContainsAny(part, "+#{}"):
		return level{}, fmt.Errorf("has %q: +, # and {name} stand for whole levels, between slashes", part)
	}
	return level{kind: levelLiteral, literal: part}, nil
}

// filter is the MQTT topic filter for what the template matches.
func (t template) filter() string {
	parts := make([]string, len(t.levels))
	for i, l := range t.levels {
		switch l.kind {
		case levelLiteral:
			parts[i] = l.literal
		case levelRest:
			parts[i] = "#"
		default:
			parts[i] = "+"
		}
	}
	return strings.Join(parts, "/")
}

// match appends the values of the captures to values and reports whether the
// topic fits, as the broker decides it (MQTT 3.1.1 §4.7).
func (t template) match(topic string, values []string) ([]string, bool) {
	rest, more := topic, true
	if strings.HasPrefix(topic, "$") && t.levels[0].kind != levelLiteral {
		return nil, false // MQTT 3.1.1 §4.7.2
	}
	for _, l := range t.levels {
		if l.kind == levelRest {
			return values, true
		}
		if !more {
			return nil, false
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		switch l.kind {
		case levelLiteral:
			if part != l.literal {
				return nil, false
			}
		case levelCapture:
			values = append(values, part)
		}
	}
	if more {
		return nil, false
	}
	return values, true
}

// overlaps reports whether some topic fits both.
func (t template) overlaps(other template) bool {
	for i := 0; ; i++ {
		aEnd, bEnd := i == len(t.levels), i == len(other.levels)
		switch {
		case aEnd && bEnd:
			return true
		case aEnd:
			return other.levels[i].kind == levelRest
		case bEnd:
			return t.levels[i].kind == levelRest
		}
		a, b := t.levels[i], other.levels[i]
		if a.kind == levelRest || b.kind == levelRest {
			return true
		}
		if a.kind == levelLiteral && b.kind == levelLiteral && a.literal != b.literal {
			return false
		}
	}
}
