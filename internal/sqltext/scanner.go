package sqltext

import (
	"bytes"
	"strings"
)

// Kind is what a token is.
type Kind int

// Kinds of tokens.
const (
	End Kind = iota
	Word
	Quoted // `name` or "name"
	Literal
	Sign
)

// Token is one token as it stands in the source.
type Token struct {
	Kind Kind
	From int
	Text []byte
}

// Is compares a word without regard to case, or a sign.
func (t Token) Is(keyword string) bool {
	return (t.Kind == Word || t.Kind == Sign) && len(t.Text) == len(keyword) && strings.EqualFold(string(t.Text), keyword)
}

// Scanner splits SQL as ClickHouse's Lexer does, as far as the scan needs it.
type Scanner struct {
	Source []byte
	// At is the offset of what is read next.
	At int
}

// Peek is the token that Next will return.
func (s *Scanner) Peek() Token {
	at := s.At
	t := s.Next()
	s.At = at
	return t
}

// Next reads one token; of kind End at the end.
func (s *Scanner) Next() Token {
	s.skipSpace()
	from := s.At
	if from >= len(s.Source) {
		return Token{Kind: End, From: len(s.Source)}
	}
	kind := Sign
	switch c := s.Source[from]; {
	case c == '\'':
		kind = Literal
		s.skipQuoted(c)
	case c == '"' || c == '`':
		kind = Quoted
		s.skipQuoted(c)
	case c == '$' && s.skipHeredoc():
		kind = Literal
	case bytes.HasPrefix(s.Source[from:], []byte("‘")):
		kind = Literal
		s.skipPast("’")
	case bytes.HasPrefix(s.Source[from:], []byte("“")):
		kind = Quoted
		s.skipPast("”")
	case isWordByte(c):
		kind = Word
		for s.At < len(s.Source) && isWordByte(s.Source[s.At]) {
			s.At++
		}
	default:
		s.At++
	}
	return Token{Kind: kind, From: from, Text: s.Source[from:s.At]}
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$'
}

func (s *Scanner) skipSpace() {
	for s.At < len(s.Source) {
		left := s.Source[s.At:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v\x00", left[0]) >= 0:
			s.At++
		case bytes.HasPrefix(left, []byte("\u00a0")): // no-break space
			s.At += 2
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
func (s *Scanner) skipComment() {
	for depth := 0; s.At < len(s.Source); {
		switch left := s.Source[s.At:]; {
		case bytes.HasPrefix(left, []byte("/*")):
			depth++
			s.At += 2
		case bytes.HasPrefix(left, []byte("*/")):
			depth--
			s.At += 2
			if depth == 0 {
				return
			}
		default:
			s.At++
		}
	}
}

// skipPast skips to behind a mark, or to the end without one.
func (s *Scanner) skipPast(mark string) {
	if i := bytes.Index(s.Source[s.At:], []byte(mark)); i >= 0 {
		s.At += i + len(mark)
	} else {
		s.At = len(s.Source)
	}
}

// skipQuoted skips a quoted text: backslash escapes, a doubled quote is one.
func (s *Scanner) skipQuoted(quote byte) {
	for s.At++; s.At < len(s.Source); s.At++ {
		switch s.Source[s.At] {
		case '\\':
			s.At++
		case quote:
			if s.At+1 < len(s.Source) && s.Source[s.At+1] == quote {
				s.At++
				continue
			}
			s.At++
			return
		}
	}
	s.At = len(s.Source)
}

// skipHeredoc skips $tag$...$tag$ and reports whether there was one.
func (s *Scanner) skipHeredoc() bool {
	left := s.Source[s.At:]
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
	s.At += 2*len(mark) + closing
	return true
}
