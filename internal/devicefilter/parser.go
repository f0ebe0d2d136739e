package devicefilter

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"
)

// parser reads what both languages have in common: conditions joined by and, or,
// not and parentheses. What a condition is, each language says.
type parser struct {
	text       string
	tokens     []token
	at         int
	depth      int
	conditions int
	condition  func(*parser) (Expr, error)
}

func newParser(source string, escapes bool, condition func(*parser) (Expr, error)) (*parser, error) {
	tokens, err := cut(source, escapes)
	if err != nil {
		return nil, err
	}
	return &parser{text: source, tokens: tokens, condition: condition}, nil
}

func (p *parser) fail(t token, format string, args ...any) error {
	return &Error{Message: fmt.Sprintf(format, args...), Offset: t.at, text: p.text}
}

func (p *parser) expected(what string) error {
	return p.fail(p.peek(), "expected %s, found %s", what, p.peek())
}

func (p *parser) peek() token { return p.tokens[p.at] }

// take is the next token; the end stays.
func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != end {
		p.at++
	}
	return t
}

func (p *parser) isWord(word string) bool {
	t := p.peek()
	return t.kind == name && !t.quoted && strings.EqualFold(t.word, word)
}

func (p *parser) isSign(word string) bool {
	t := p.peek()
	return t.kind == sign && t.word == word
}

// word takes the keyword if it is next.
func (p *parser) word(word string) bool {
	if !p.isWord(word) {
		return false
	}
	p.at++
	return true
}

// sign takes the sign if it is next.
func (p *parser) sign(word string) bool {
	if !p.isSign(word) {
		return false
	}
	p.at++
	return true
}

func (p *parser) need(sign, what string) error {
	if !p.sign(sign) {
		return p.expected(what)
	}
	return nil
}

// expression reads up to what cannot go on one.
func (p *parser) expression() (Expr, error) {
	return p.joined("or", func() (Expr, error) {
		return p.joined("and", p.term, func(all []Expr) Expr { return And(all) })
	}, func(all []Expr) Expr { return Or(all) })
}

// joined reads one or more expressions with the keyword between them.
func (p *parser) joined(keyword string, one func() (Expr, error), join func([]Expr) Expr) (Expr, error) {
	var all []Expr
	for {
		e, err := one()
		if err != nil {
			return nil, err
		}
		all = append(all, e)
		if !p.word(keyword) {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return join(all), nil
}

func (p *parser) term() (Expr, error) {
	start := p.peek()
	if p.depth++; p.depth > MaxDepth {
		return nil, p.fail(start, "parentheses and NOTs are nested more than %d deep", MaxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case p.word("not"):
		e, err := p.term()
		if err != nil {
			return nil, err
		}
		return negate(e), nil
	case p.sign("("):
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		return e, p.need(")", "AND, OR or )")
	}
	if p.conditions++; p.conditions > MaxConditions {
		return nil, p.fail(start, "there are more than %d conditions", MaxConditions)
	}
	return p.condition(p)
}

// literal reads a text, a number, true, false or null (nil).
func (p *parser) literal() (any, error) {
	t := p.peek()
	switch {
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case p.word("null"):
		return nil, nil
	case t.kind == text:
		p.at++
		return t.word, nil
	case t.kind == number:
		p.at++
		return t.number, nil
	}
	return nil, p.expected(`a value: a "text", a number, true, false or null`)
}

// list reads values in parentheses or brackets.
func (p *parser) list(field Field) ([]any, error) {
	closing := ")"
	if p.sign("[") {
		closing = "]"
	} else if err := p.need("(", "( and a list of values"); err != nil {
		return nil, err
	}
	var values []any
	for {
		at := p.peek()
		value, err := p.literal()
		if err != nil {
			return nil, err
		}
		if value == nil {
			return nil, p.fail(at, "null cannot be in a list: use IS NULL")
		}
		if err := p.fits(at, field, value); err != nil {
			return nil, err
		}
		if values = append(values, value); len(values) > MaxValues {
			return nil, p.fail(at, "the list has more than %d values", MaxValues)
		}
		if !p.sign(",") {
			return values, p.need(closing, ", or "+closing)
		}
	}
}

// fits checks that the field can have such a value at all.
func (p *parser) fits(at token, field Field, value any) error {
	switch value.(type) {
	case string:
		if field.Attribute.Type() == Flag {
			return p.fail(at, "this field is true or false: leave the quotes out")
		}
	case bool:
		if field.Attribute.Type() == Text {
			return p.fail(at, "this field is a text: put the value between quotes")
		}
	case float64:
		if field.Attribute.Type() != Dynamic {
			return p.fail(at, "this field is never a number")
		}
	}
	return nil
}

// comparison is a condition of the field with the operator at the token.
func (p *parser) comparison(operator token, field Field, op Op, not bool) (Expr, error) {
	at := p.peek()
	value, err := p.literal()
	if err != nil {
		return nil, err
	}
	if value == nil {
		if op != Equal {
			return nil, p.fail(at, "null is neither greater nor less than anything: use IS NULL or IS NOT NULL")
		}
		return Condition{Field: field, Op: Exists, Not: !not}, nil
	}
	if err := p.fits(at, field, value); err != nil {
		return nil, err
	}
	if op == Less || op == LessOrEqual {
		if _, flag := value.(bool); flag {
			return nil, p.fail(operator, "true and false have no order: use = or !=")
		}
		if field.Attribute.Type() == Dynamic {
			value = moment(value)
		}
	}
	return Condition{Field: field, Op: op, Not: not, Values: []any{value}}, nil
}

// textual is a condition of the field with a text at the token.
func (p *parser) textual(at token, field Field, op Op) (Expr, error) {
	if field.Attribute.Type() == Flag {
		return nil, p.fail(at, "this field is true or false: use = or !=")
	}
	if at.kind != text {
		return nil, p.fail(at, "expected a text between quotes, found %s", at)
	}
	if op != Matches {
		return Condition{Field: field, Op: op, Values: []any{at.word}}, nil
	}
	pattern, err := compilePattern(at.word)
	if err != nil {
		return nil, p.fail(at, "%s", err)
	}
	return Condition{Field: field, Op: op, Values: []any{pattern}}, nil
}

// compilePattern bounds a regular expression before it compiles it. A dot matches
// line breaks too, as it does in ClickHouse.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("the regular expression has %d bytes: use at most %d", len(pattern), maxPattern)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("the regular expression is not one of RE2: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > maxProgram {
		return nil, errors.New("the regular expression is too large: repeat less")
	}
	return regexp.Compile("(?s:" + pattern + ")")
}

// ISOPattern is the texts that are compared as times: a date (then it is midnight,
// UTC), or a date and time with its offset, as RFC 3339 has them.
const ISOPattern = `^(?:19|2[012])[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9]))?$`

var iso = regexp.MustCompile(ISOPattern)

// moment is the time that a text is in ISO 8601, else the value as it is.
func moment(value any) any {
	content, _ := value.(string)
	if !iso.MatchString(content) {
		return value
	}
	layout := time.RFC3339Nano
	if len(content) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	at, err := time.Parse(layout, content)
	if err != nil { // the 31st of February
		return value
	}
	return at.Truncate(time.Microsecond) // as exact as ClickHouse is over all those years
}
