package fleetql

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a query.
const (
	MaxBytes = 64 << 10
	maxItems = 100
	// maxConditions bounds comparisons, maxListed the values of one list.
	maxConditions = 200
	maxListed     = 10_000
	maxDepth      = 50
	maxSources    = 50
	maxText       = 4 << 10
)

type kind int

const (
	end kind = iota
	word
	text
	number
	symbol
	broken
)

type token struct {
	kind
	pos  Pos
	text string // a word as it is, a text without its quotes, a symbol
	num  float64
}

// lexer cuts the text into tokens.
type lexer struct {
	source string
	at     int
}

// Name is the form of a name: words with dots between them, the first of which may
// begin with a $.
var Name = regexp.MustCompile(`^\$?[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

var (
	wordPattern   = regexp.MustCompile(`^(?:dtmi:[A-Za-z0-9_:]+(?:;[0-9]+)?|\$?[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)`)
	numberPattern = regexp.MustCompile(`^-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?`)
	symbols       = []string{"<>", "!=", "<=", ">=", "==", "=", "<", ">", "(", ")", "[", "]", ",", "*"}
)

func (l *lexer) next() token {
	for l.at < len(l.source) && strings.IndexByte(" \t\r\n", l.source[l.at]) >= 0 {
		l.at++
	}
	t := token{pos: Pos(l.at)}
	rest := l.source[l.at:]
	if rest == "" {
		return t
	}
	if found := wordPattern.FindString(rest); found != "" {
		return l.take(token{kind: word, pos: t.pos, text: found}, len(found))
	}
	if found := numberPattern.FindString(rest); found != "" {
		value, err := strconv.ParseFloat(found, 64)
		if err != nil {
			return l.take(token{kind: broken, pos: t.pos, text: "the number is too large"}, len(rest))
		}
		return l.take(token{kind: number, pos: t.pos, text: found, num: value}, len(found))
	}
	if rest[0] == '\'' || rest[0] == '"' {
		return l.quoted(t.pos, rest)
	}
	for _, s := range symbols {
		if strings.HasPrefix(rest, s) {
			return l.take(token{kind: symbol, pos: t.pos, text: s}, len(s))
		}
	}
	r, size := utf8.DecodeRuneInString(rest)
	return l.take(token{kind: broken, pos: t.pos, text: "unexpected character " + strconv.QuoteRune(r)}, size)
}

func (l *lexer) take(t token, n int) token {
	l.at += n
	return t
}

// quoted reads a text; the quote itself is written twice in it.
func (l *lexer) quoted(pos Pos, rest string) token {
	quote := rest[:1]
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		if rest[i] != quote[0] {
			b.WriteByte(rest[i])
			continue
		}
		if i+1 < len(rest) && rest[i+1] == quote[0] {
			b.WriteByte(quote[0])
			i++
			continue
		}
		if b.Len() > maxText {
			return l.take(token{kind: broken, pos: pos, text: "the text is too long: use at most 4096 bytes"}, i+1)
		}
		return l.take(token{kind: text, pos: pos, text: b.String()}, i+1)
	}
	return l.take(token{kind: broken, pos: pos, text: "the text has no closing " + quote}, len(rest))
}
