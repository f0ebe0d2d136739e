package chdb

import (
	"strings"

	"github.com/fleetlog/fleetlog/internal/sqltext"
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
	s := scanner{Scanner: sqltext.Scanner{Source: source}}
	first := s.Next()
	for first.Is("(") {
		s.depth++
		first = s.Next()
	}
	if first.Is("INSERT") && s.depth == 0 {
		return s.insert()
	}
	t := s.rest(text{statement: string(source)}, false)
	t.query = first.Is("SELECT") || first.Is("WITH") || first.Is("FROM")
	return t
}

// insert reads a statement after its INSERT.
func (s *scanner) insert() text {
	all := text{statement: string(s.Source)}
	token := s.Next()
	for token.Is("INTO") || token.Is("TABLE") {
		token = s.Next()
	}
	if token.Is("FUNCTION") {
		token = s.Next()
	}
	// The name, which may look like a keyword: word or quoted, dots between.
	for token.Kind == sqltext.Word || token.Kind == sqltext.Quoted {
		dot := s.Peek()
		if !dot.Is(".") {
			break
		}
		s.Next()
		token = s.Next()
	}
	for {
		before := s.At
		switch token = s.Next(); {
		case token.Kind == sqltext.End, token.Is(";") && s.depth == 0:
			all.insert, all.rows, all.format = true, s.At, "Values"
			all.statement = string(s.Source[:before])
			return all
		case token.Is("("):
			if next := s.Peek(); s.depth == 0 && (next.Is("SELECT") || next.Is("WITH")) {
				s.depth++
				return s.rest(all, true)
			}
			s.depth++
		case token.Is(")"):
			s.depth--
		case s.depth != 0:
		case token.Is("VALUES"):
			all.insert, all.rows, all.format = true, s.At, "Values"
			all.statement = string(s.Source[:token.From])
			return all
		case token.Is("FORMAT"):
			return s.insertFormat(all, before)
		case token.Is("SELECT"), token.Is("WITH"), token.Is("WATCH"), token.Is("EXPLAIN"), token.Is("FROM"):
			s.At = token.From
			return s.rest(all, true)
		}
	}
}

// insertFormat reads after FORMAT: the name, settings, then the rows, which
// start behind at most one line end, as in ClickHouse's ParserInsertQuery.
func (s *scanner) insertFormat(t text, head int) text {
	name := s.Next()
	if name.Kind != sqltext.Word {
		return t
	}
	t.insert, t.format = true, string(name.Text)
	t.statement = string(s.Source[:head])
	if s.Peek().Is("SETTINGS") {
		from := s.Peek().From
		s.Next()
		for {
			s.Next() // name
			s.Next() // =
			if s.Peek().Is("-") {
				s.Next()
			}
			s.Next() // value
			if !s.Peek().Is(",") {
				break
			}
			s.Next()
		}
		t.statement += " " + string(s.Source[from:s.At])
	}
	at := s.At
	skip := func(set string) {
		for at < len(s.Source) && strings.IndexByte(set, s.Source[at]) >= 0 {
			at++
		}
	}
	skip(" \t\f\v")
	if at < len(s.Source) && s.Source[at] == ';' {
		at++
		skip(" \t\f\v")
	}
	if at < len(s.Source) && s.Source[at] == '\r' {
		at++
	}
	if at < len(s.Source) && s.Source[at] == '\n' {
		at++
	}
	t.rows = at
	return t
}

// rest reads to the end of a statement that is not followed by rows.
func (s *scanner) rest(t text, inserting bool) text {
	var last sqltext.Token
	for {
		token := s.Next()
		switch {
		case token.Kind == sqltext.End:
			return t
		case token.Is("("):
			t.input = t.input || inserting && last.Is("input")
			s.depth++
		case token.Is(")"):
			s.depth--
		case token.Is(";"):
			if s.Peek().Kind != sqltext.End && !s.Peek().Is(";") {
				t.several = true
				return t
			}
		case s.depth == 0 && last.Is("FORMAT") && token.Kind == sqltext.Word:
			t.format = string(token.Text)
		case last.Is("INTO") && token.Is("OUTFILE"), last.Is("FROM") && token.Is("INFILE"):
			t.files = true
		}
		last = token
	}
}

// scanner is at a depth of parentheses.
type scanner struct {
	sqltext.Scanner

	depth int
}
