package devicefilter

import (
	"strings"
)

// attributes are the fields of a device group's query that are no properties.
var attributes = map[string]Attribute{
	"$id": ID, "$displayname": DisplayName, "$template": Template, "$organization": Organization, "$organizations": Organization,
	"$enrollmentgroup": EnrollmentGroup, "$modelid": ModelID, "$parent": Parent, "$enabled": Enabled, "$provisioned": Provisioned,
	"$simulated": Simulated, "$edge": Edge, "$waiting": Waiting, "$connected": Connected,
}

const attributeNames = "$id, $displayName, $template, $organization, $enrollmentGroup, $modelId, $parent, $enabled, $provisioned, $simulated, $edge, $waiting, $connected, $tags.name"

var groupSigns = map[string]struct {
	op  Op
	not bool
}{
	"=": {Equal, false}, "==": {Equal, false}, "!=": {Equal, true}, "<>": {Equal, true},
	"<": {Less, false}, "<=": {LessOrEqual, false}, ">": {LessOrEqual, true}, ">=": {Less, true},
}

// textOps may stand before a field and a text in parentheses, or between them.
var textOps = map[string]Op{
	"contains": Contains, "starts_with": StartsWith, "startswith": StartsWith, "ends_with": EndsWith, "endswith": EndsWith, "matches": Matches,
}

// ParseGroup reads the query of a device group (FEATURES.md GRP-04):
// `SELECT * FROM devices WHERE $template = "dtmi:contoso:Thermostat;1"`.
func ParseGroup(query string) (Expr, error) {
	p, err := newParser(query, true, groupCondition)
	if err != nil {
		return nil, err
	}
	if !p.word("select") || !p.sign("*") || !p.word("from") || !p.word("devices") {
		return nil, p.expected("SELECT * FROM devices")
	}
	if p.peek().kind == end {
		return And{}, nil
	}
	if !p.word("where") {
		return nil, p.expected("WHERE or the end")
	}
	e, err := p.expression()
	if err == nil && p.peek().kind != end {
		err = p.expected("AND, OR or the end")
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func groupCondition(p *parser) (Expr, error) {
	function, ok := p.function()
	if !ok {
		return groupComparison(p)
	}
	field, err := p.groupField()
	if err != nil {
		return nil, err
	}
	if function == "exists" {
		return Condition{Field: field, Op: Exists}, p.need(")", ")")
	}
	if err := p.need(",", ", and a text"); err != nil {
		return nil, err
	}
	e, err := p.textual(p.take(), field, textOps[function])
	if err != nil {
		return nil, err
	}
	return e, p.need(")", ")")
}

// function takes a function's name and its parenthesis, if they are next.
func (p *parser) function() (string, bool) {
	t := p.peek()
	if t.kind != name || t.quoted || p.tokens[p.at+1].kind != sign || p.tokens[p.at+1].word != "(" {
		return "", false
	}
	word := strings.ToLower(t.word)
	if _, known := textOps[word]; !known && word != "exists" {
		return "", false
	}
	p.at += 2
	return word, true
}

func groupComparison(p *parser) (Expr, error) {
	field, err := p.groupField()
	if err != nil {
		return nil, err
	}
	operator := p.take()
	if operator.kind == sign {
		if s, ok := groupSigns[operator.word]; ok {
			return p.comparison(operator, field, s.op, s.not)
		}
	}
	if operator.kind == name && !operator.quoted {
		word := strings.ToLower(operator.word)
		not := word == "not"
		if not {
			word = strings.ToLower(p.take().word)
		}
		e, err := p.groupWord(word, field, not)
		if e != nil || err != nil {
			return e, err
		}
	}
	return nil, p.fail(operator, "expected =, !=, <, <=, >, >=, IN, NOT IN, CONTAINS, STARTS_WITH, ENDS_WITH, MATCHES or IS, found %s", operator)
}

// groupWord is a condition whose operator is a word; nil when it is none.
func (p *parser) groupWord(word string, field Field, not bool) (Expr, error) {
	switch op, isText := textOps[word]; {
	case isText:
		e, err := p.textual(p.take(), field, op)
		if err == nil && not {
			e = negate(e)
		}
		return e, err
	case word == "in":
		values, err := p.list(field)
		return Condition{Field: field, Op: Equal, Not: not, Values: values}, err
	case word == "is" && !not:
		some := p.word("not")
		if !p.word("null") {
			return nil, p.expected("NULL")
		}
		return Condition{Field: field, Op: Exists, Not: !some}, nil
	}
	return nil, nil //nolint:nilnil // no condition of this kind is no error
}

func (p *parser) groupField() (Field, error) {
	t := p.peek()
	if t.kind != name {
		return Field{}, p.expected("a field: $displayName or the like, a property, or component.property")
	}
	p.at++
	first := strings.ToLower(t.path[0])
	a, known := attributes[first]
	switch {
	case !strings.HasPrefix(first, "$"):
		return Field{Attribute: Property, Path: t.path}, nil
	case first == "$tags" && len(t.path) > 1:
		return Field{Attribute: Tag, Path: t.path[1:]}, nil
	case known && len(t.path) == 1:
		return Field{Attribute: a}, nil
	}
	return Field{}, p.fail(t, "there is no field %s: use one of %s, or a property's name without $", t, attributeNames)
}
