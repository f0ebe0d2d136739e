package dtdl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Bounds of a document. That of bytes is DTDL v3's for one interface (§Interface);
// a model of 300 contents is a tenth of it. Interfaces may be nested inline, each two
// levels deeper than the one around it.
const (
	maxDocument = 1 << 20
	maxDepth    = 64
	maxNodes    = 200_000
)

// node is one JSON value that knows where it stands.
type node struct {
	kind     byte // one of '{' '[' '"' '0' 't' (a boolean) 'n'
	at, end  int  // bytes in the document
	parent   *node
	key      string // in the object around it
	index    int    // in the array around it
	children []*node
	text     string // of a string or number; "true" or "false"
}

// root is the parent of a document's outermost value: its key is where the document
// stands.
func root(path string) *node { return &node{key: path} }

var plainKey = regexp.MustCompile(`^[@$_\p{L}][@$_\p{L}\p{N}]*$`)

// path is the JSON path.
func (n *node) path() string {
	switch {
	case n.parent == nil:
		return n.key
	case n.parent.kind == '[':
		return n.parent.path() + "[" + strconv.Itoa(n.index) + "]"
	case n.parent.kind != '{':
		return n.parent.path()
	case len(n.key) > 64 || !plainKey.MatchString(n.key):
		return n.parent.path() + "[" + quote(n.key) + "]"
	}
	return n.parent.path() + "." + n.key
}

// get is an object's member; nil when it has none of that name.
func (n *node) get(name string) *node {
	if n.kind != '{' {
		return nil
	}
	for _, c := range n.children {
		if c.key == name {
			return c
		}
	}
	return nil
}

// each is the values of a set: in JSON-LD, a single value is a set of one.
func (n *node) each() []*node {
	switch {
	case n == nil:
		return nil
	case n.kind == '[':
		return n.children
	}
	return []*node{n}
}

// single is the value where one is wanted: in JSON-LD, a set of one is that one.
func (n *node) single() *node {
	if n != nil && n.kind == '[' && len(n.children) == 1 {
		return n.children[0]
	}
	return n
}

// same tells whether two values are written alike, blanks apart.
func (n *node) same(o *node) bool {
	if n.kind != o.kind || n.text != o.text || len(n.children) != len(o.children) {
		return false
	}
	for i, c := range n.children {
		if d := o.children[i]; c.key != d.key || !c.same(d) {
			return false
		}
	}
	return true
}

// what names the value's JSON type for a person.
func (n *node) what() string {
	switch n.kind {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return quote(n.text)
	case 'n':
		return "null"
	}
	return short(n.text)
}

// quote is the string for a message: in quotes, and not too long.
func quote(s string) string { return strconv.Quote(short(s)) }

// short is the string, or its beginning when a message would grow too long.
func short(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// reader makes the tree.
type reader struct {
	document []byte
	decoder  *json.Decoder
	nodes    int
	found    *findings
}

var errBounds = errors.New("bounds")

// read is the document as a tree; nil when it is no JSON that can be read at all,
// which is then among the findings. Members that stand twice are found here.
func read(document []byte, path string, found *findings) *node {
	top := root(path)
	if len(document) > maxDocument {
		found.add(top, "DTDL v3 §Interface", "the document has %d bytes, of at most %d: split the model into smaller ones", len(document), maxDocument)
		return nil
	}
	if !utf8.Valid(document) {
		found.add(top, "RFC 8259 §8.1", "the document is not in UTF-8: save it in that encoding")
		return nil
	}
	r := &reader{document: document, decoder: json.NewDecoder(bytes.NewReader(document)), found: found}
	r.decoder.UseNumber()
	n, err := r.value(&node{parent: top}, 0)
	if err == nil {
		if _, err = r.decoder.Token(); err == nil {
			err = errors.New("there is more after its end")
		} else if errors.Is(err, io.EOF) {
			return n
		}
	}
	if !errors.Is(err, errBounds) {
		found.add(top, "RFC 8259", "the document is no JSON: %s", r.where(err))
	}
	return nil
}

func (r *reader) where(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	before := r.document[:min(int(r.decoder.InputOffset()), len(r.document))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf("line %d: %s", line, err)
}

// start is where the next token begins.
func (r *reader) start() int {
	at := int(r.decoder.InputOffset())
	for at < len(r.document) && bytes.IndexByte([]byte(" \t\r\n,:"), r.document[at]) >= 0 {
		at++
	}
	return at
}

// value reads the next value into n, which knows its place already.
func (r *reader) value(n *node, depth int) (*node, error) {
	n.at = r.start()
	r.nodes++
	if r.nodes > maxNodes || depth > maxDepth {
		r.found.add(n, "bounds of a document", "the document has more than %d values, or they are nested deeper than %d: split the model", maxNodes, maxDepth)
		return nil, errBounds
	}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		n.kind = byte(t)
		err = r.inside(n, depth)
	case string:
		n.kind, n.text = '"', t
	case json.Number:
		n.kind, n.text = '0', t.String()
	case bool:
		n.kind, n.text = 't', strconv.FormatBool(t)
	default:
		n.kind = 'n'
	}
	n.end = int(r.decoder.InputOffset())
	return n, err
}

// inside reads what an object or array holds, and its closing bracket.
func (r *reader) inside(n *node, depth int) error {
	for r.decoder.More() {
		key := ""
		if n.kind == '{' {
			token, err := r.decoder.Token()
			if err != nil {
				return err
			}
			key = token.(string) // the decoder gives nothing else before a colon
		}
		child, err := r.value(&node{parent: n, key: key, index: len(n.children)}, depth+1)
		if err != nil {
			return err
		}
		n.children = append(n.children, child)
	}
	r.twice(n)
	_, err := r.decoder.Token()
	return err
}

// twice finds members of the same name.
func (r *reader) twice(n *node) {
	if n.kind != '{' || len(n.children) < 2 {
		return
	}
	names := make([]string, len(n.children))
	for i, c := range n.children {
		names[i] = c.key
	}
	slices.Sort(names)
	if len(slices.Compact(names)) == len(n.children) {
		return
	}
	seen := make(map[string]bool, len(n.children))
	for _, c := range n.children {
		if seen[c.key] {
			r.found.add(c, "RFC 8259 §4", "%s stands twice in the same object: remove one of them", quote(c.key))
		}
		seen[c.key] = true
	}
}
