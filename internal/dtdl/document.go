package dtdl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of a document, before any rule of the language.
const (
	maxDocumentBytes = 1 << 20
	maxDocumentDepth = 64
)

// node is a JSON value that knows where it stands.
type node struct {
	parent *node
	// step is from the parent to here: `.name` or `[index]`.
	step string

	members []member // of an object, in order
	items   []*node  // of an array
	kind    byte     // o, a, s, n, b or 0 for null
	text    string   // of a string or number
	truth   bool
}

type member struct {
	name  string
	value *node
}

func (n *node) path() string {
	var steps []string
	for ; n != nil; n = n.parent {
		steps = append(steps, n.step)
	}
	var b strings.Builder
	for i := len(steps) - 1; i >= 0; i-- {
		b.WriteString(steps[i])
	}
	return b.String()
}

// get is an object's member; nil when there is none.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for _, m := range n.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// list is an array's items, or the value itself as the only one.
func (n *node) list() []*node {
	switch {
	case n == nil:
		return nil
	case n.kind == 'a':
		return n.items
	}
	return []*node{n}
}

// value is what encoding/json makes of it, numbers as json.Number.
func (n *node) value() any {
	switch n.kind {
	case 'o':
		out := make(map[string]any, len(n.members))
		for _, m := range n.members {
			out[m.name] = m.value.value()
		}
		return out
	case 'a':
		out := make([]any, len(n.items))
		for i, item := range n.items {
			out[i] = item.value()
		}
		return out
	case 's':
		return n.text
	case 'n':
		return json.Number(n.text)
	case 'b':
		return n.truth
	}
	return nil
}

var errDepth = fmt.Errorf("values are nested deeper than %d", maxDocumentDepth)

// readDocument reads JSON into nodes; problem gets members that appear twice.
func readDocument(document []byte, root string, problem func(n *node, rule, format string, args ...any)) (*node, error) {
	if len(document) > maxDocumentBytes {
		return nil, fmt.Errorf("the document has %d bytes: use at most %d", len(document), maxDocumentBytes)
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	n, err := readNode(d, &node{step: root}, 0, problem)
	if err != nil {
		return nil, syntax(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows the JSON value")
	}
	return n, nil
}

func syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON ends in the middle")
	}
	return fmt.Errorf("the JSON cannot be read: %w", err)
}

func readNode(d *json.Decoder, n *node, depth int, problem func(n *node, rule, format string, args ...any)) (*node, error) {
	if depth > maxDocumentDepth {
		return nil, errDepth
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case string:
		n.kind, n.text = 's', t
	case json.Number:
		n.kind, n.text = 'n', t.String()
	case bool:
		n.kind, n.truth = 'b', t
	case json.Delim:
		if t == '[' {
			n.kind = 'a'
			return n, readItems(d, n, depth, problem)
		}
		n.kind = 'o'
		return n, readMembers(d, n, depth, problem)
	}
	return n, nil
}

func readItems(d *json.Decoder, n *node, depth int, problem func(n *node, rule, format string, args ...any)) error {
	for d.More() {
		item, err := readNode(d, &node{parent: n, step: "[" + strconv.Itoa(len(n.items)) + "]"}, depth+1, problem)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := d.Token()
	return err
}

func readMembers(d *json.Decoder, n *node, depth int, problem func(n *node, rule, format string, args ...any)) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		value, err := readNode(d, &node{parent: n, step: step(name)}, depth+1, problem)
		if err != nil {
			return err
		}
		if seen[name] {
			problem(value, "JSON: RFC 8259 §4", "%q is here twice: write it once", clip(name))
			continue
		}
		seen[name] = true
		n.members = append(n.members, member{name, value})
	}
	_, err := d.Token()
	return err
}

// step is a member's part of a JSON path.
func step(name string) string {
	plain := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '@' && r != '$' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	if plain {
		return "." + name
	}
	return "[" + strconv.Quote(clip(name)) + "]"
}

// clip shortens what is quoted back.
func clip(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
