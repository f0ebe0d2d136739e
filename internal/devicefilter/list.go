package devicefilter

import (
	"strings"
)

// listFields are the fields of the device list's filter (FEATURES.md API-06).
var listFields = map[string]Attribute{
	"id": ID, "displayName": DisplayName, "enabled": Enabled, "provisioned": Provisioned, "simulated": Simulated, "template": Template,
	"scopes": Organization, "organizations": Organization, "type": Edge,
}

const listFieldNames = "id, displayName, enabled, provisioned, simulated, template, organizations, scopes or type"

var listOps = map[string]struct {
	op  Op
	not bool
}{
	"eq": {Equal, false}, "ne": {Equal, true}, "lt": {Less, false}, "le": {LessOrEqual, false}, "gt": {LessOrEqual, true}, "ge": {Less, true},
}

var listFunctions = map[string]Op{"contains": Contains, "startswith": StartsWith, "endswith": EndsWith, "indexof": Contains}

// ParseList reads the filter of the device list:
// `displayName eq 'Lobby' and enabled eq true`.
func ParseList(filter string) (Expr, error) {
	p, err := newParser(filter, false, listCondition)
	if err != nil {
		return nil, err
	}
	e, err := p.expression()
	if err == nil && p.peek().kind != end {
		err = p.expected("and, or or the end")
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ParseOrder reads the order of the device list, `displayName desc, id`. The id
// comes last if it is not there, so that the order is one of all devices.
func ParseOrder(orderby string) ([]Order, error) {
	p, err := newParser(orderby, false, nil)
	if err != nil {
		return nil, err
	}
	var order []Order
	for seen := map[Attribute]bool{}; ; {
		at := p.peek()
		field, err := p.listField()
		if err != nil {
			return nil, err
		}
		if seen[field.Attribute] {
			return nil, p.fail(at, "the list is already in the order of %s", at)
		}
		seen[field.Attribute] = true
		descending := p.word("desc")
		if !descending {
			p.word("asc")
		}
		order = append(order, Order{field.Attribute, descending})
		if p.sign(",") {
			continue
		}
		if p.peek().kind != end {
			return nil, p.expected("asc, desc, a comma or the end")
		}
		return order, nil
	}
}

func (p *parser) listField() (Field, error) {
	t := p.take()
	a, known := listFields[t.word]
	if t.kind != name || !known {
		return Field{}, p.fail(t, "expected a field, found %s: use %s", t, listFieldNames)
	}
	return Field{Attribute: a}, nil
}

func listCondition(p *parser) (Expr, error) {
	if t := p.peek(); t.kind == name {
		if op, known := listFunctions[strings.ToLower(t.word)]; known && p.tokens[p.at+1].word == "(" {
			p.at += 2
			return p.listFunction(t, op)
		}
	}
	kind := p.isWord("type")
	field, err := p.listField()
	if err != nil {
		return nil, err
	}
	operator := p.take()
	word := strings.ToLower(operator.word)
	o, known := listOps[word]
	switch {
	case operator.kind != name || !known && word != "in":
		return nil, p.fail(operator, "expected eq, ne, lt, le, gt, ge or in, found %s", operator)
	case kind:
		return p.deviceType(operator, field, o.op == Equal, o.not)
	case word == "in":
		values, err := p.list(field)
		return Condition{Field: field, Op: Equal, Values: values}, err
	}
	return p.comparison(operator, field, o.op, o.not)
}

// deviceType is whether devices are IoT Edge devices: IoT Central knows no other
// type to ask for.
func (p *parser) deviceType(operator token, field Field, known, not bool) (Expr, error) {
	value := p.take()
	if !known || strings.EqualFold(operator.word, "in") || value.kind != text || value.word != "EdgeDevice" && value.word != "iotEdge" {
		return nil, p.fail(operator, "type can only be compared like this: type eq 'EdgeDevice' or type ne 'EdgeDevice'")
	}
	return Condition{Field: field, Op: Equal, Not: not, Values: []any{true}}, nil
}

// listFunction reads a function after its parenthesis.
func (p *parser) listFunction(function token, op Op) (Expr, error) {
	field, err := p.listField()
	if err != nil {
		return nil, err
	}
	if err := p.need(",", ", and a text"); err != nil {
		return nil, err
	}
	e, err := p.textual(p.take(), field, op)
	if err != nil {
		return nil, err
	}
	if err := p.need(")", ")"); err != nil {
		return nil, err
	}
	if strings.EqualFold(function.word, "indexof") {
		return p.indexOf(e.(Condition))
	}
	if !p.isWord("eq") && !p.isWord("ne") {
		return e, nil
	}
	not := strings.EqualFold(p.take().word, "ne")
	wanted := p.isWord("true")
	if !p.word("true") && !p.word("false") {
		return nil, p.expected("true or false")
	}
	if not == wanted {
		e = negate(e)
	}
	return e, nil
}

// indexOf reads what the place of a text in another is compared with. All that can
// be asked is whether it is there, and whether it is at the beginning.
func (p *parser) indexOf(c Condition) (Expr, error) {
	operator, value := p.take(), p.take()
	if operator.kind == name && value.kind == number {
		switch strings.ToLower(operator.word) + " " + value.word {
		case "ge 0", "gt -1", "ne -1":
			return c, nil
		case "lt 0", "le -1", "eq -1":
			return negate(c), nil
		case "eq 0":
			c.Op = StartsWith
			return c, nil
		case "ne 0":
			c.Op, c.Not = StartsWith, true
			return c, nil
		}
	}
	return nil, p.fail(operator, "indexof can only be compared like this: indexof(displayName, 'x') ge 0, lt 0 or eq 0")
}
