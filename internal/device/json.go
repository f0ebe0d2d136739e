package device

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// value is a JSON value as properties need it: it refers to the text it was read
// from instead of copying it, and objects are in order. Reading one costs a tenth of
// reading it into maps.
type value struct {
	kind byte // '{', '[', '"', or 0 for a number, true, false and null
	// text is the content of a string, decoded, or the literal itself.
	text []byte
	// members of an object have names, in order, each once; elements of an array
	// have none.
	members []member
}

type member struct {
	name  []byte
	value value
}

var null = []byte("null")

func (v value) isNull() bool { return v.kind == 0 && v.text[0] == 'n' }

// find is the member of that name.
func (v value) find(name []byte) (value, bool) {
	i, found := slices.BinarySearchFunc(v.members, name, func(m member, name []byte) int { return bytes.Compare(m.name, name) })
	if !found {
		return value{}, false
	}
	return v.members[i].value, true
}

// component reports whether an object is a component's properties (FEATURES.md
// PAY-20).
func (v value) component() bool {
	marker, _ := v.find([]byte(componentMarker))
	return v.kind == '{' && marker.kind == '"' && string(marker.text) == "c"
}

// appendTo writes the value with sorted keys and no spaces.
func (v value) appendTo(out []byte) []byte {
	switch v.kind {
	case '{':
		out = append(out, '{')
		for i, m := range v.members {
			if i > 0 {
				out = append(out, ',')
			}
			out = m.value.appendTo(append(appendString(out, m.name), ':'))
		}
		return append(out, '}')
	case '[':
		out = append(out, '[')
		for i, m := range v.members {
			if i > 0 {
				out = append(out, ',')
			}
			out = m.value.appendTo(out)
		}
		return append(out, ']')
	case '"':
		return appendString(out, v.text)
	}
	return append(out, v.text...)
}

// appendString writes a string as encoding/json does when it does not escape HTML.
func appendString(out, text []byte) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	written := 0
	for i, c := range text {
		var escaped string
		switch {
		case c == '"' || c == '\\':
			escaped = string([]byte{'\\', c})
		case c < ' ':
			escaped = string([]byte{'\\', 'u', '0', '0', hex[c>>4], hex[c&15]})
			if short := bytes.IndexByte([]byte("\b\f\n\r\t"), c); short >= 0 {
				escaped = string([]byte{'\\', "bfnrt"[short]})
			}
		case c == 0xe2 && i+2 < len(text) && text[i+1] == 0x80 && text[i+2]&^1 == 0xa8: // U+2028, U+2029
			out = append(append(out, text[written:i]...), `\u202`...)
			out = append(out, hex[text[i+2]&15])
			written = i + 3
			continue
		default:
			continue
		}
		out = append(append(out, text[written:i]...), escaped...)
		written = i + 1
	}
	return append(append(out, text[written:]...), '"')
}

// maxNesting is where encoding/json gives up, too.
const maxNesting = 10_000

var errNotObject = errors.New("properties are not one JSON object")

// readObject reads one JSON object and nothing beside it. Of members of the same
// name the last counts.
func readObject(raw []byte) (value, error) {
	const most = 64 // members that get their memory at once
	r := reader{raw: raw, open: make([]member, 0, min(1+bytes.Count(raw, []byte{','}), most))}
	r.space()
	v, err := r.value(1)
	if err == nil {
		if r.space(); r.at < len(raw) {
			return value{}, errNotObject
		}
	}
	switch {
	case err != nil:
		return value{}, fmt.Errorf("properties are not a JSON object: %w", err)
	case v.kind != '{':
		return value{}, errNotObject
	}
	return v, nil
}

// reader reads JSON (RFC 8259).
type reader struct {
	raw []byte
	at  int
	// open are the members of objects and arrays that have not ended yet, the
	// innermost last.
	open []member
}

// close takes the members of the innermost object or array.
func (r *reader) close(first int) []member {
	if first == 0 {
		members := r.open
		r.open = nil
		return members
	}
	members := slices.Clone(r.open[first:])
	clear(r.open[first:])
	r.open = r.open[:first]
	return members
}

func (r *reader) unexpected() error {
	if r.at >= len(r.raw) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("unexpected %q at byte %d", r.raw[r.at], r.at)
}

func (r *reader) space() {
	for r.at < len(r.raw) && (r.raw[r.at] == ' ' || r.raw[r.at] == '\n' || r.raw[r.at] == '\t' || r.raw[r.at] == '\r') {
		r.at++
	}
}

// peek is the next byte after spaces; 0 at the end.
func (r *reader) peek() byte {
	r.space()
	if r.at >= len(r.raw) {
		return 0
	}
	return r.raw[r.at]
}

func (r *reader) value(depth int) (value, error) {
	switch c := r.peek(); {
	case depth > maxNesting && (c == '{' || c == '['):
		return value{}, errors.New("it is nested too deep")
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		text, err := r.string()
		return value{kind: '"', text: text}, err
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	for _, literal := range [...]string{"true", "false", "null"} {
		if rest := r.raw[r.at:]; len(rest) >= len(literal) && string(rest[:len(literal)]) == literal {
			r.at += len(literal)
			return value{text: rest[:len(literal)]}, nil
		}
	}
	return value{}, r.unexpected()
}

func (r *reader) object(depth int) (value, error) {
	v := value{kind: '{'}
	r.at++
	if r.peek() == '}' {
		r.at++
		return v, nil
	}
	sorted, first := true, len(r.open)
	for {
		if r.peek() != '"' {
			return v, r.unexpected()
		}
		name, err := r.string()
		if err != nil {
			return v, err
		}
		if r.peek() != ':' {
			return v, r.unexpected()
		}
		r.at++
		inner, err := r.value(depth + 1)
		if err != nil {
			return v, err
		}
		sorted = sorted && (len(r.open) == first || bytes.Compare(r.open[len(r.open)-1].name, name) < 0)
		r.open = append(r.open, member{name, inner})
		if more, err := r.more('}'); err != nil || !more {
			if v.members = r.close(first); !sorted {
				v.members = lastOfEach(v.members)
			}
			return v, err
		}
	}
}

// lastOfEach sorts members by their names; of those with the same the last counts.
func lastOfEach(members []member) []member {
	slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	kept := members[:0]
	for i, m := range members {
		if i+1 == len(members) || !bytes.Equal(m.name, members[i+1].name) {
			kept = append(kept, m)
		}
	}
	return kept
}

func (r *reader) array(depth int) (value, error) {
	v := value{kind: '['}
	r.at++
	if r.peek() == ']' {
		r.at++
		return v, nil
	}
	for first := len(r.open); ; {
		inner, err := r.value(depth + 1)
		if err != nil {
			return v, err
		}
		r.open = append(r.open, member{value: inner})
		if more, err := r.more(']'); err != nil || !more {
			v.members = r.close(first)
			return v, err
		}
	}
}

// more reads what stands between members, or ends them.
func (r *reader) more(end byte) (bool, error) {
	switch r.peek() {
	case ',':
		r.at++
		return true, nil
	case end:
		r.at++
		return false, nil
	}
	return false, r.unexpected()
}

func (r *reader) number() (value, error) {
	start := r.at
	digits := func() bool {
		from := r.at
		for r.at < len(r.raw) && r.raw[r.at] >= '0' && r.raw[r.at] <= '9' {
			r.at++
		}
		return r.at > from
	}
	is := func(one string) bool {
		if r.at < len(r.raw) && strings.IndexByte(one, r.raw[r.at]) >= 0 {
			r.at++
			return true
		}
		return false
	}
	is("-")
	if !is("0") && !digits() {
		return value{}, r.unexpected()
	}
	if is(".") && !digits() {
		return value{}, r.unexpected()
	}
	if is("eE") {
		is("+-")
		if !digits() {
			return value{}, r.unexpected()
		}
	}
	return value{text: r.raw[start:r.at]}, nil
}

// string reads a string; its text refers to what it was read from unless it had to
// be decoded.
func (r *reader) string() ([]byte, error) {
	start := r.at
	r.at++
	plain := true
	for ; r.at < len(r.raw); r.at++ {
		switch c := r.raw[r.at]; {
		case c == '"':
			r.at++
			text := r.raw[start+1 : r.at-1]
			if plain || bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
				return text, nil
			}
			return decodeString(r.raw[start:r.at])
		case c == '\\':
			plain = false
			r.at++
		case c < ' ':
			return nil, r.unexpected()
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return nil, io.ErrUnexpectedEOF
}

// decodeString decodes a quoted string with escapes, or with what is not UTF-8.
func decodeString(quoted []byte) ([]byte, error) {
	var text string
	err := json.Unmarshal(quoted, &text)
	return []byte(text), err
}
