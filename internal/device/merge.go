package device

import (
	"bytes"
	"errors"
)

// MergePatch applies a JSON merge patch (RFC 7396) to an object; empty is `{}`.
// The result has sorted keys and no spaces, so equal objects are equal bytes. A
// patch that is not an object, or breaks a bound of a twin, is an error.
func MergePatch(object, patch []byte) ([]byte, error) {
	target, err := readSection(object)
	if err != nil {
		return nil, err
	}
	changes, err := readPatch(patch)
	if err != nil {
		return nil, err
	}
	return mergeInto(target.appendTo(nil), changes)
}

// DiffPatch is the merge patch that makes one object of another. What it says of a
// component carries the component's marker.
func DiffPatch(from, to []byte) ([]byte, error) {
	before, err := readSection(from)
	if err != nil {
		return nil, err
	}
	after, err := readSection(to)
	if err != nil {
		return nil, err
	}
	return diff(before, after).appendTo(nil), nil
}

// readSection reads an object; empty is `{}`.
func readSection(raw []byte) (value, error) {
	if len(raw) == 0 {
		return value{kind: '{'}, nil
	}
	return readObject(raw)
}

func diff(before, after value) value {
	patch := value{kind: '{'}
	for _, m := range before.members {
		if _, kept := after.find(m.name); !kept {
			patch.members = append(patch.members, member{m.name, value{text: null}})
		}
	}
	for _, m := range after.members {
		old, had := before.find(m.name)
		switch {
		case had && old.kind == '{' && m.value.kind == '{':
			if below := diff(old, m.value); len(below.members) > 0 {
				patch.members = append(patch.members, member{m.name, marked(below, m.value)})
			}
		case !had || !bytes.Equal(old.appendTo(nil), m.value.appendTo(nil)):
			patch.members = append(patch.members, m)
		}
	}
	patch.members = lastOfEach(patch.members)
	return patch
}

// marked is the patch of a component with the marker by which a device knows it for
// one (FEATURES.md PAY-21), although the marker has not changed.
func marked(patch, of value) value {
	if marker, there := of.find([]byte(componentMarker)); there && of.component() {
		patch.members = lastOfEach(append(patch.members, member{[]byte(componentMarker), marker}))
	}
	return patch
}

// errNotSection is of an object that this package has not written.
var errNotSection = errors.New("properties of the state cannot be read: restore the log from its backup")

// mergeInto applies a patch to a section as this package writes it: with sorted
// keys and no spaces. It copies what the patch does not name as it is, so that a
// small patch of a large section costs little more than the copy.
func mergeInto(section []byte, patch value) ([]byte, error) {
	out, rest, err := mergeObject(make([]byte, 0, len(section)+roomFor(patch)), section, patch.members)
	if err == nil && len(rest) > 0 {
		err = errNotSection
	}
	return out, err
}

// roomFor is about how many bytes a patch may add.
func roomFor(patch value) int {
	n := len(patch.text) + len(`{},`)
	for i := range patch.members {
		n += len(patch.members[i].name) + len(`"":`) + roomFor(patch.members[i].value)
	}
	return n
}

// mergeObject merges into the object that a section begins with (none: empty), and
// returns what follows it.
func mergeObject(out, section []byte, patch []member) (merged, rest []byte, err error) {
	out = append(out, '{')
	first := len(out)
	if len(section) == 0 {
		return append(appendMembers(out, first, patch), '}'), nil, nil
	}
	t := target{rest: section}
	if !t.begin() {
		return out, nil, errNotSection
	}
	for t.next() {
		name, err := t.name()
		if err != nil {
			return out, nil, err
		}
		n, same := 0, false
		for n < len(patch) {
			order := bytes.Compare(patch[n].name, name)
			if same = order == 0; order >= 0 {
				break
			}
			n++
		}
		out, patch = appendMembers(out, first, patch[:n]), patch[n:]
		if !same {
			out = append(separate(out, first), t.member...)
			continue
		}
		if out, err = mergeMember(out, first, t, patch[0].value); err != nil {
			return out, nil, err
		}
		patch = patch[1:]
	}
	if !t.ended {
		return out, nil, errNotSection
	}
	return append(appendMembers(out, first, patch), '}'), t.rest, nil
}

// mergeMember writes the member of both.
func mergeMember(out []byte, first int, t target, change value) ([]byte, error) {
	if change.isNull() {
		return out, nil
	}
	out = append(separate(out, first), t.quoted...)
	out = append(out, ':')
	if change.kind != '{' {
		return change.appendTo(out), nil
	}
	var below []byte
	if t.value[0] == '{' {
		below = t.value
	}
	out, _, err := mergeObject(out, below, change.members)
	return out, err
}

// appendMembers writes members of a patch that the object does not have.
func appendMembers(out []byte, first int, patch []member) []byte {
	for i := range patch {
		v := &patch[i].value
		if v.isNull() {
			continue
		}
		out = append(appendString(separate(out, first), patch[i].name), ':')
		if v.kind != '{' {
			out = v.appendTo(out)
			continue
		}
		out = append(out, '{')
		out = append(appendMembers(out, len(out), v.members), '}')
	}
	return out
}

// separate puts a comma before every member but the first.
func separate(out []byte, first int) []byte {
	if len(out) == first {
		return out
	}
	return append(out, ',')
}

// target walks the members of an object that is written as this package does.
type target struct {
	rest                  []byte
	member, quoted, value []byte // the present one: all of it, its name, its value
	ended                 bool
}

func (t *target) begin() bool {
	if len(t.rest) < 2 || t.rest[0] != '{' {
		return false
	}
	t.rest = t.rest[1:]
	return true
}

// next goes to the next member. There is none at the object's end, and where
// something is wrong.
func (t *target) next() bool {
	if len(t.rest) > 0 && t.rest[0] == ',' && t.member != nil {
		t.rest = t.rest[1:]
	}
	if len(t.rest) > 0 && t.rest[0] == '}' {
		t.rest, t.ended = t.rest[1:], true
		return false
	}
	name := skipString(t.rest)
	if name <= 0 || name >= len(t.rest) || t.rest[name] != ':' {
		return false
	}
	n := skipValue(t.rest[name+1:])
	if n <= 0 {
		return false
	}
	n += name + 1
	t.member, t.quoted, t.value = t.rest[:n], t.rest[:name], t.rest[name+1:n]
	t.rest = t.rest[n:]
	return true
}

func (t *target) name() ([]byte, error) {
	name := t.quoted[1 : len(t.quoted)-1]
	if bytes.IndexByte(name, '\\') < 0 {
		return name, nil
	}
	return decodeString(t.quoted)
}

// skipString is the length of the string that the text begins with; 0 when there is
// none.
func skipString(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return 0
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return 0
}

// skipValue is the length of the value that the text begins with; 0 when there is
// none.
func skipValue(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			n := skipString(text[i:])
			if n == 0 {
				return 0
			}
			if i += n - 1; depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			switch depth--; {
			case depth < 0:
				return i
			case depth == 0:
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}
