package chdb

import (
	"bytes"
	"strings"
)

// text is what the endpoint has to know about a statement before it hands it
// to ClickHouse. It is found by a scan over tokens, not by parsing: what the
// scan gets wrong, ClickHouse's parser still refuses.
type text struct {
	// insert says that rows follow the statement: INSERT with VALUES, FORMAT
	// or nothing after the column list.
	insert bool
	// statement is the part for ClickHouse: for an insert without FORMAT and
	// rows, else everything.
	statement string
	// rows is the offset of an insert's first byte of rows.
	rows int
	// format is the one named in the statement: of the rows for an insert, of
	// the output otherwise. Empty when none is named.
	format string
	// query says that the statement produces a result set (SELECT and its kin)
	// and can be streamed.
	query bool
	// several says that another statement follows.
	several bool
	// files says that the statement reads or writes a client-side file (FROM
	// INFILE, INTO OUTFILE), which has no meaning over HTTP.
	files bool
	// input says that an insert selects from the rows by the input() table
	// function, which libchdb drops without a word.
	input bool
}

// scan reads a request's SQL. For an insert, source may end within the rows.
func scan(source []byte) text {
	s := scanner{source: source}
	first := s.next()
	for first.is("(") {
		s.depth++
		first = s.next()
	}
	if first.is("INSERT") && s.depth == 0 {
		return s.insert()
	}
	t := s.rest(text{statement: string(source)}, false)
	t.query = first.is("SELECT") || first.is("WITH") || first.is("FROM")
	return t
}

// insert reads a statement after its INSERT.
func (s *scanner) insert() text {
	all := text{statement: string(s.source)}
	token := s.next()
	for token.is("INTO") || token.is("TABLE") {
		token = s.next()
	}
	if token.is("FUNCTION") {
		token = s.next()
	}
	// The name, which may look like a keyword: word or quoted, dots between.
	for token.kind == word || token.kind == quoted {
		dot := s.peek()
		if !dot.is(".") {
			break
		}
		s.next()
		token = s.next()
	}
	for {
		before := s.at
		switch token = s.next(); {
		case token.kind == end, token.is(";") && s.depth == 0:
			all.insert, all.rows, all.format = true, s.at, "Values"
			all.statement = string(s.source[:before])
			return all
		case token.is("("):
			if next := s.peek(); s.depth == 0 && (next.is("SELECT") || next.is("WITH")) {
				s.depth++
				return s.rest(all, true)
			}
			s.depth++
		case token.is(")"):
			s.depth--
		case s.depth != 0:
		case token.is("VALUES"):
			all.insert, all.rows, all.format = true, s.at, "Values"
			all.statement = string(s.source[:token.from])
			return all
		case token.is("FORMAT"):
			return s.insertFormat(all, before)
		case token.is("SELECT"), token.is("WITH"), token.is("WATCH"), token.is("EXPLAIN"), token.is("FROM"):
			s.at = token.from
			return s.rest(all, true)
		}
	}
}

// insertFormat reads after FORMAT: the name, settings, then the rows, which
// start behind at most one line end, as in ClickHouse's ParserInsertQuery.
func (s *scanner) insertFormat(t text, head int) text {
	name := s.next()
	if name.kind != word {
		return t
	}
	t.insert, t.format = true, string(name.text)
	t.statement = string(s.source[:head])
	if s.peek().is("SETTINGS") {
		from := s.peek().from
		s.next()
		for {
			s.next() // name
			s.next() // =
			if s.peek().is("-") {
				s.next()
			}
			s.next() // value
			if !s.peek().is(",") {
				break
			}
			s.next()
		}
		t.statement += " " + string(s.source[from:s.at])
	}
	at := s.at
	skip := func(set string) {
		for at < len(s.source) && strings.IndexByte(set, s.source[at]) >= 0 {
			at++
		}
	}
	skip(" \t\f\v")
	if at < len(s.source) && s.source[at] == ';' {
		at++
		skip(" \t\f\v")
	}
	if at < len(s.source) && s.source[at] == '\r' {
		at++
	}
	if at < len(s.source) && s.source[at] == '\n' {
		at++
	}
	t.rows = at
	return t
}

// rest reads to the end of a statement that is not followed by rows.
func (s *scanner) rest(t text, inserting bool) text {
	var last token
	for {
		token := s.next()
		switch {
		case token.kind == end:
			return t
		case token.is("("):
			t.input = t.input || inserting && last.is("input")
			s.depth++
		case token.is(")"):
			s.depth--
		case token.is(";"):
			if s.peek().kind != end && !s.peek().is(";") {
				t.several = true
				return t
			}
		case s.depth == 0 && last.is("FORMAT") && token.kind == word:
			t.format = string(token.text)
		case last.is("INTO") && token.is("OUTFILE"), last.is("FROM") && token.is("INFILE"):
			t.files = true
		}
		last = token
	}
}

type tokenKind int

const (
	end tokenKind = iota
	word
	quoted // `name` or "name"
	literal
	sign
)

type token struct {
	kind tokenKind
	from int
	text []byte
}

// is compares a word without regard to case, or a sign.
func (t token) is(keyword string) bool {
	return (t.kind == word || t.kind == sign) && len(t.text) == len(keyword) && strings.EqualFold(string(t.text), keyword)
}

// scanner splits SQL as ClickHouse's Lexer does, as far as the scan needs it.
type scanner struct {
	source []byte
	at     int
	depth  int
}

func (s *scanner) peek() token {
	at := s.at
	t := s.next()
	s.at = at
	return t
}

func (s *scanner) next() token {
	s.skipSpace()
	from := s.at
	if from >= len(s.source) {
		return token{kind: end, from: len(s.source)}
	}
	kind := sign
	switch c := s.source[from]; {
	case c == '\'':
		kind = literal
		s.skipQuoted(c)
	case c == '"' || c == '`':
		kind = quoted
		s.skipQuoted(c)
	case c == '$' && s.skipHeredoc():
		kind = literal
	case bytes.HasPrefix(s.source[from:], []byte("‘")):
		kind = literal
		s.skipPast("’")
	case bytes.HasPrefix(s.source[from:], []byte("“")):
		kind = quoted
		s.skipPast("”")
	case isWordByte(c):
		kind = word
		for s.at < len(s.source) && isWordByte(s.source[s.at]) {
			s.at++
		}
	default:
		s.at++
	}
	return token{kind: kind, from: from, text: s.source[from:s.at]}
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$'
}

func (s *scanner) skipSpace() {
	for s.at < len(s.source) {
		left := s.source[s.at:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v\x00", left[0]) >= 0:
			s.at++
		case bytes.HasPrefix(left, []byte("\u00a0")): // no-break space
			s.at += 2
		case bytes.HasPrefix(left, []byte("--")), bytes.HasPrefix(left, []byte("//")),
			bytes.HasPrefix(left, []byte("# ")), bytes.HasPrefix(left, []byte("#!")):
			s.skipPast("\n")
		case bytes.HasPrefix(left, []byte("/*")):
			s.skipComment()
		default:
			return
		}
	}
}

// skipComment skips a block comment; ClickHouse's nest.
func (s *scanner) skipComment() {
	for depth := 0; s.at < len(s.source); {
		switch left := s.source[s.at:]; {
		case bytes.HasPrefix(left, []byte("/*")):
			depth++
			s.at += 2
		case bytes.HasPrefix(left, []byte("*/")):
			depth--
			s.at += 2
			if depth == 0 {
				return
			}
		default:
			s.at++
		}
	}
}

// skipPast skips to behind a mark, or to the end without one.
func (s *scanner) skipPast(mark string) {
	if i := bytes.Index(s.source[s.at:], []byte(mark)); i >= 0 {
		s.at += i + len(mark)
	} else {
		s.at = len(s.source)
	}
}

// skipQuoted skips a quoted text: backslash escapes, a doubled quote is one.
func (s *scanner) skipQuoted(quote byte) {
	for s.at++; s.at < len(s.source); s.at++ {
		switch s.source[s.at] {
		case '\\':
			s.at++
		case quote:
			if s.at+1 < len(s.source) && s.source[s.at+1] == quote {
				s.at++
				continue
			}
			s.at++
			return
		}
	}
	s.at = len(s.source)
}

// skipHeredoc skips $tag$...$tag$ and reports whether there was one.
func (s *scanner) skipHeredoc() bool {
	left := s.source[s.at:]
	length := bytes.IndexByte(left[1:], '$')
	if length < 0 {
		return false
	}
	mark := left[:length+2]
	for _, c := range mark[1 : len(mark)-1] {
		if !isWordByte(c) {
			return false
		}
	}
	closing := bytes.Index(left[len(mark):], mark)
	if closing < 0 {
		return false
	}
	s.at += 2*len(mark) + closing
	return true
}
