package fleetql

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Parse reads a query. Its errors are *Error.
func Parse(query string) (q *Query, err error) {
	p := &parser{lexer: lexer{source: query}}
	if len(query) > MaxBytes {
		return nil, Errorf("", 0, "the query has %d bytes: use at most %d", len(query), MaxBytes)
	}
	if !utf8.ValidString(query) {
		return nil, Errorf("", 0, "the query is not UTF-8")
	}
	defer func() {
		if thrown := recover(); thrown != nil {
			failed, ok := thrown.(*Error)
			if !ok {
				panic(thrown)
			}
			q, err = nil, failed
		}
	}()
	p.advance()
	return p.query(), nil
}

// parser reads by recursive descent. It gives up by throwing an *Error, which Parse
// catches.
type parser struct {
	lexer

	now        token
	depth      int
	conditions int
}

func lower(s string) string { return strings.ToLower(s) }

func (p *parser) advance() { p.now = p.next() }

func (p *parser) fail(at Pos, format string, args ...any) {
	panic(Errorf(p.source, at, format, args...))
}

// expected gives up with what would have been right.
func (p *parser) expected(what string) {
	switch p.now.kind {
	case broken:
		p.fail(p.now.pos, "%s", p.now.text)
	case end:
		p.fail(p.now.pos, "expected %s, but the query ends", what)
	case text:
		p.fail(p.now.pos, "expected %s, not the text %.40q", what, p.now.text)
	}
	p.fail(p.now.pos, "expected %s, not %.40s", what, p.now.text)
}

// keyword takes the word if it is next; its case does not matter.
func (p *parser) keyword(w string) bool {
	if p.now.kind != word || !strings.EqualFold(p.now.text, w) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) isKeyword(words ...string) bool {
	return p.now.kind == word && slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(p.now.text, w) })
}

func (p *parser) must(w string) {
	if !p.keyword(w) {
		p.expected(w)
	}
}

func (p *parser) symbol(s string) bool {
	if p.now.kind != symbol || p.now.text != s {
		return false
	}
	p.advance()
	return true
}

func (p *parser) mustSymbol(s string) {
	if !p.symbol(s) {
		p.expected("'" + s + "'")
	}
}

func (p *parser) query() *Query {
	q := &Query{Explain: p.keyword("EXPLAIN")}
	p.must("SELECT")
	if p.keyword("TOP") {
		q.Top = p.top()
	}
	q.Items = p.items()
	p.must("FROM")
	q.From = p.sources()
	if p.keyword("AS") {
		p.must("OF")
		at := p.time()
		q.AsOf = &at
	}
	if p.keyword("WHERE") {
		q.Where = p.or()
	}
	if p.keyword("GROUP") {
		p.must("BY")
		p.group(q)
	}
	if p.isKeyword("FILL") {
		q.Fill = p.fill()
	}
	if p.keyword("ORDER") {
		p.must("BY")
		q.Order = p.order()
	}
	if p.now.kind != end {
		p.expected(after(q))
	}
	return q
}

// after says what may come at the end of the query.
func after(q *Query) string {
	switch {
	case q.Order != nil:
		return "a comma or the end of the query"
	case q.Group != nil || q.Window > 0:
		return "FILL, ORDER BY or the end of the query"
	case q.Where != nil:
		return "AND, OR, GROUP BY, ORDER BY or the end of the query"
	}
	return "WHERE, GROUP BY, ORDER BY or the end of the query"
}

func (p *parser) top() int {
	n := p.now
	if n.kind != number || n.num < 1 || n.num > 1e9 || n.num != float64(int(n.num)) {
		p.expected("a whole number after TOP")
	}
	p.advance()
	return int(n.num)
}

var functions = []Function{Sum, Max, Min, Count, Avg, First, Last, Stddev, Percentile}

func (p *parser) items() (items []Item) {
	for {
		if p.now.kind == symbol && p.now.text == "*" {
			p.fail(p.now.pos, "* cannot be selected: name what you want, like $id, temperature")
		}
		items = append(items, p.item())
		if len(items) > maxItems {
			p.fail(items[maxItems].Pos, "there are more than %d items", maxItems)
		}
		if !p.symbol(",") {
			return items
		}
	}
}

func (p *parser) item() Item {
	it := p.call("a name or a function to select")
	if p.keyword("AS") {
		it.Alias = p.alias()
	}
	return it
}

// call is FUNCTION(name), or a name.
func (p *parser) call(what string) Item {
	if p.now.kind != word {
		p.expected(what)
	}
	it := Item{Pos: p.now.pos}
	name := p.now.text
	p.advance()
	if p.now.kind != symbol || p.now.text != "(" {
		it.Of = p.name(it.Pos, name)
		return it
	}
	i := slices.IndexFunc(functions, func(f Function) bool { return strings.EqualFold(name, string(f)) })
	if i < 0 {
		p.fail(it.Pos, "there is no function %.40s: use one of %s", name, list(functions))
	}
	it.Function = functions[i]
	p.advance()
	it.Of = p.ref("the name of a telemetry")
	if it.Function == Percentile {
		p.mustSymbol(",")
		n := p.now
		if n.kind != number || n.num < 0 || n.num > 100 {
			p.expected("a number from 0 to 100")
		}
		p.advance()
		it.Parameter = n.num
	}
	p.mustSymbol(")")
	return it
}

func list(all []Function) string {
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

func (p *parser) alias() string {
	if p.now.kind != word || strings.ContainsAny(p.now.text, ".$:") {
		p.expected("an alias of letters, digits and '_'")
	}
	name := p.now.text
	p.advance()
	return name
}

const maxName = 256

func (p *parser) name(at Pos, name string) Ref {
	if len(name) > maxName || !Name.MatchString(name) {
		p.fail(at, "%.40s is not a name", name)
	}
	return Ref{Pos: at, Name: name}
}

func (p *parser) ref(what string) Ref {
	if p.now.kind != word {
		p.expected(what)
	}
	r := p.name(p.now.pos, p.now.text)
	p.advance()
	return r
}

func (p *parser) sources() (from []Source) {
	if p.keyword("devices") {
		return nil
	}
	for {
		if p.now.kind != word || !strings.HasPrefix(p.now.text, "dtmi:") {
			p.expected("the id of a device template, like dtmi:contoso:Thermostat;1, or devices")
		}
		from = append(from, Source{p.now.pos, p.now.text})
		if len(from) > maxSources {
			p.fail(p.now.pos, "there are more than %d device templates", maxSources)
		}
		p.advance()
		if !p.symbol(",") {
			return from
		}
	}
}

func (p *parser) time() time.Time {
	t := p.now
	if t.kind != text {
		p.expected("a time in quotes, like '2026-01-31T12:00:00Z'")
	}
	at, err := time.Parse(time.RFC3339Nano, t.text)
	if err != nil || at.Year() < 1900 || at.Year() > 2299 {
		p.fail(t.pos, "%.40q is not a time from 1900 to 2299: write it like '2026-01-31T12:00:00Z'", t.text)
	}
	p.advance()
	return at
}

func (p *parser) group(q *Query) {
	for {
		switch at := p.now.pos; {
		case p.keyword("WINDOW"):
			if q.Window > 0 {
				p.fail(at, "there is a WINDOW already")
			}
			p.mustSymbol("(")
			q.Window = p.duration()
			p.mustSymbol(")")
		default:
			q.Group = append(q.Group, p.ref("a name or WINDOW(duration)"))
			if len(q.Group) > maxItems {
				p.fail(at, "there are more than %d names to group by", maxItems)
			}
		}
		if !p.symbol(",") {
			return
		}
	}
}

// duration reads a duration of ISO 8601, quoted or not.
func (p *parser) duration() time.Duration {
	const what = "a duration like PT10M, P1D or P1W"
	if p.now.kind != word && p.now.kind != text {
		p.expected(what)
	}
	d, ok := Duration(p.now.text)
	if !ok {
		p.fail(p.now.pos, "%.40q is not a duration from PT1S to P3660D: write it like PT10M, P1D or P1W", p.now.text)
	}
	p.advance()
	return d
}

func (p *parser) fill() *Fill {
	f := &Fill{Pos: p.now.pos}
	p.advance()
	p.mustSymbol("(")
	switch {
	case p.now.kind == number:
		f.How, f.Value = "VALUE", p.now.num
		p.advance()
	case p.isKeyword("NULL", "PREVIOUS", "LINEAR"):
		f.How = strings.ToUpper(p.now.text)
		p.advance()
	default:
		p.expected("NULL, PREVIOUS, LINEAR or a number")
	}
	p.mustSymbol(")")
	return f
}

func (p *parser) order() (order []Order) {
	for {
		it := p.call("a name or an item to order by")
		o := Order{Ref: it.Of, Function: it.Function}
		if o.Pos = it.Pos; p.keyword("DESC") {
			o.Descending = true
		} else {
			p.keyword("ASC")
		}
		if order = append(order, o); len(order) > maxItems {
			p.fail(o.Pos, "there are more than %d things to order by", maxItems)
		}
		if !p.symbol(",") {
			return order
		}
	}
}

func (p *parser) or() Condition {
	all := Or{p.and()}
	for p.keyword("OR") {
		all = append(all, p.and())
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

func (p *parser) and() Condition {
	all := And{p.not()}
	for p.keyword("AND") {
		all = append(all, p.not())
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

func (p *parser) not() Condition {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.now.pos, "conditions nest deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	if p.keyword("NOT") {
		return Not{p.not()}
	}
	if p.symbol("(") {
		c := p.or()
		p.mustSymbol(")")
		return c
	}
	if p.conditions++; p.conditions > maxConditions {
		p.fail(p.now.pos, "there are more than %d conditions", maxConditions)
	}
	return p.one()
}

// one is a condition without AND, OR and NOT around it.
func (p *parser) one() Condition {
	at := p.now.pos
	switch {
	case p.keyword("WITHIN_WINDOW"):
		return p.within(at)
	case p.isKeyword("CONTAINS", "STARTS_WITH"):
		return p.match()
	case p.keyword("IN"):
		p.must("GROUP")
		return p.inGroup(at)
	}
	of := p.ref("a name, WITHIN_WINDOW(…), CONTAINS(…) or IN GROUP 'id'")
	switch {
	case p.keyword("IS"):
		negated := p.keyword("NOT")
		p.must("NULL")
		return negate(IsNull{of}, negated)
	case p.keyword("LIKE"):
		return Match{of, "LIKE", p.text("a pattern in quotes, with % for anything")}
	case p.keyword("NOT"):
		if p.keyword("LIKE") {
			return Not{Match{of, "LIKE", p.text("a pattern in quotes, with % for anything")}}
		}
		p.must("IN")
		return Not{p.in(of)}
	case p.keyword("IN"):
		if p.isKeyword("GROUP") && of.Name == "$id" {
			p.advance()
			return p.inGroup(at)
		}
		return p.in(of)
	}
	return p.compare(of)
}

func negate(c Condition, negated bool) Condition {
	if negated {
		return Not{c}
	}
	return c
}

var operators = map[string]string{"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

func (p *parser) compare(of Ref) Condition {
	op, ok := operators[p.now.text]
	if p.now.kind != symbol || !ok {
		p.expected("=, !=, <, <=, >, >=, IN, LIKE or IS NULL after " + of.Name)
	}
	p.advance()
	if p.isKeyword("NULL") {
		p.fail(p.now.pos, "nothing is equal to NULL: write %s IS NULL", of.Name)
	}
	return Compare{of, op, p.value()}
}

func (p *parser) value() Value {
	v := Value{Pos: p.now.pos}
	switch {
	case p.now.kind == text:
		v.Of = p.now.text
	case p.now.kind == number:
		v.Of = p.now.num
	case p.isKeyword("true", "false"):
		v.Of = strings.EqualFold(p.now.text, "true")
	default:
		p.expected("a value: a number, a text in quotes, true or false")
	}
	p.advance()
	return v
}

func (p *parser) text(what string) string {
	if p.now.kind != text {
		p.expected(what)
	}
	found := p.now.text
	p.advance()
	return found
}

func (p *parser) in(of Ref) Condition {
	closing := map[string]string{"[": "]", "(": ")"}[p.now.text]
	if p.now.kind != symbol || closing == "" {
		p.expected("a list of values, like ['a', 'b']")
	}
	p.advance()
	in := In{Ref: of}
	for {
		in.Values = append(in.Values, p.value())
		if len(in.Values) > maxListed {
			p.fail(p.now.pos, "the list has more than %d values", maxListed)
		}
		if p.symbol(closing) {
			return in
		}
		if !p.symbol(",") {
			p.expected("a comma or '" + closing + "'")
		}
	}
}

func (p *parser) inGroup(at Pos) Condition {
	return InGroup{at, p.text("the id of a device group in quotes")}
}

func (p *parser) match() Condition {
	op := strings.ToUpper(p.now.text)
	p.advance()
	p.mustSymbol("(")
	m := Match{Ref: p.ref("a name"), Op: op}
	p.mustSymbol(",")
	m.Text = p.text("a text in quotes")
	p.mustSymbol(")")
	return m
}

// within reads a duration, or two times with a slash between them.
func (p *parser) within(at Pos) Condition {
	p.mustSymbol("(")
	w := Within{Pos: at}
	if p.now.kind == text && strings.Contains(p.now.text, "/") {
		w.From, w.To = p.span()
		p.advance()
	} else {
		w.Last = p.duration()
	}
	p.mustSymbol(")")
	return w
}

func (p *parser) span() (from, to time.Time) {
	begin, end, _ := strings.Cut(p.now.text, "/")
	for part, into := range map[string]*time.Time{begin: &from, end: &to} {
		at, err := time.Parse(time.RFC3339Nano, part)
		if err != nil || at.Year() < 1900 || at.Year() > 2299 {
			p.fail(p.now.pos, "%.40q is not a time from 1900 to 2299: write the window like '2026-01-31T12:00:00Z/2026-02-01T12:00:00Z'", part)
		}
		*into = at
	}
	if !from.Before(to) {
		p.fail(p.now.pos, "the window ends (%s) before it begins (%s)", end, begin)
	}
	return from, to
}

// String is the position, for messages.
func (p Pos) String() string { return fmt.Sprintf("byte %d", int(p)) }
