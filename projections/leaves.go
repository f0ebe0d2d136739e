package projections

import (
	"bytes"
	"strconv"

	"github.com/tidwall/gjson"
)

// leafKind is what a leaf is, numbered as in telemetry_latest.
type leafKind int8

const (
	numberLeaf leafKind = iota
	booleanLeaf
	stringLeaf
	arrayLeaf
	nullLeaf
)

// leaf is a value of a message that is no object, and where it stands.
type leaf struct {
	path []byte // names joined by dots, as ClickHouse's JSON type has it; good until the next leaf
	text []byte // of the value, in JSON
	kind leafKind
}

const (
	// maxLeaves of a message are looked at; those behind them are in the body only.
	maxLeaves = 1000
	// maxPathBytes: longer paths are in the body only.
	maxPathBytes = 512
)

// leaves finds the leaves of a message that checkBody has nothing against. It keeps
// its memory for the next message.
type leaves struct {
	path  []byte
	depth int
	found int
	visit func(leaf)
}

// each visits the body's leaves in their order; a name that comes twice is visited
// twice.
func (l *leaves) each(body []byte, visit func(leaf)) {
	l.path, l.depth, l.found, l.visit = l.path[:0], 0, 0, visit
	l.object(body, skipSpace(body))
	l.visit = nil
}

// object visits the members of the object that opens at i, and returns where it
// is closed.
func (l *leaves) object(b []byte, i int) int {
	prefix := len(l.path)
	l.depth++
	for i = next(b, i); b[i] != '}'; i = next(b, i) {
		if b[i] == ',' {
			i = next(b, i)
		}
		end := endOfString(b, i)
		l.enter(b[i : end+1])
		i = next(b, next(b, end)) // the colon, the value
		i = l.value(b, i)
		l.path = l.path[:prefix]
	}
	l.depth--
	return i
}

// enter appends a name, still in quotes, to the path.
func (l *leaves) enter(quoted []byte) {
	if l.depth > 1 {
		l.path = append(l.path, '.')
	}
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		l.path = append(l.path, gjson.ParseBytes(quoted).String()...)
		return
	}
	l.path = append(l.path, name...)
}

// value visits what begins at i and returns its last byte.
func (l *leaves) value(b []byte, i int) int {
	end, kind := i, nullLeaf
	switch b[i] {
	case '{':
		return l.object(b, i)
	case '[':
		end, kind = endOfArray(b, i), arrayLeaf
	case '"':
		end, kind = endOfString(b, i), stringLeaf
	case 't':
		end, kind = i+len("true")-1, booleanLeaf
	case 'f':
		end, kind = i+len("false")-1, booleanLeaf
	case 'n':
		end = i + len("null") - 1
	default:
		for end+1 < len(b) && isNumeric(b[end+1]) {
			end++
		}
		kind = numberLeaf
	}
	if l.found < maxLeaves && len(l.path) <= maxPathBytes {
		l.found++
		l.visit(leaf{l.path, b[i : end+1], kind})
	}
	return end
}

// next is the first byte behind i that is no space.
func next(b []byte, i int) int {
	for i++; b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r'; i++ {
	}
	return i
}

// endOfString is the closing quote of the string that opens at i.
func endOfString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}

// endOfArray is the bracket that closes the array that opens at i.
func endOfArray(b []byte, i int) int {
	for depth := 0; ; i++ {
		switch b[i] {
		case '"':
			i = endOfString(b, i)
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
}

// number is the leaf's value; ok is false when it has none. True and false are 1
// and 0.
func (l leaf) number() (value float64, ok bool) {
	switch l.kind {
	case numberLeaf:
		value, _ = strconv.ParseFloat(alias(l.text), 64) // checkBody has seen to it that it fits
		return value, true
	case booleanLeaf:
		if l.text[0] == 't' {
			return 1, true
		}
		return 0, true
	default:
		return 0, false
	}
}
