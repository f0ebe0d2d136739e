package devicefilter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	end tokenKind = iota
	name
	text
	number
	sign
)

// token is one word of a filter.
type token struct {
	kind tokenKind
	// word is the text of a name or a sign, or the content of a text.
	word string
	// path are the segments of a name between its dots.
	path []string
	// quoted names are no keywords.
	quoted bool
	number float64
	at     int
}

// String is the token as an error quotes it.
func (t token) String() string {
	switch t.kind {
	case end:
		return "the end"
	case number:
		return strconv.FormatFloat(t.number, 'g', -1, 64)
	}
	word := t.word
	if r := []rune(word); len(r) > 40 {
		word = string(r[:40]) + "…"
	}
	return strconv.Quote(word)
}

// signs are tried in order: the longer ones first.
var signs = []string{"==", "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", "*"}

// lexer cuts a filter into tokens.
type lexer struct {
	text string
	at   int
	// escapes says that a backslash in a text escapes the next character.
	escapes bool
}

// cut is all tokens of the text, the last one an end.
func cut(source string, escapes bool) ([]token, error) {
	if len(source) > MaxBytes {
		return nil, fmt.Errorf("the filter has %d bytes: use at most %d", len(source), MaxBytes)
	}
	if !utf8.ValidString(source) {
		return nil, fmt.Errorf("the filter is not UTF-8")
	}
	l := lexer{text: source, escapes: escapes}
	var tokens []token
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		if t.kind == end {
			return tokens, nil
		}
	}
}

func (l *lexer) fail(at int, format string, args ...any) error {
	return &Error{Message: fmt.Sprintf(format, args...), Offset: at, text: l.text}
}

func (l *lexer) next() (token, error) {
	l.at += len(l.text[l.at:]) - len(strings.TrimLeftFunc(l.text[l.at:], unicode.IsSpace))
	rest := l.text[l.at:]
	if rest == "" {
		return token{kind: end, at: l.at}, nil
	}
	first, _ := utf8.DecodeRuneInString(rest)
	switch {
	case first == '\'' || first == '"':
		return l.quotedText(byte(first))
	case first == '`' || startsName(first):
		return l.name()
	case first >= '0' && first <= '9' || first == '-' || first == '.':
		return l.number()
	}
	for _, s := range signs {
		if strings.HasPrefix(rest, s) {
			l.at += len(s)
			return token{kind: sign, word: s, at: l.at - len(s)}, nil
		}
	}
	return token{}, l.fail(l.at, "%q has no meaning here: put texts between quotes", first)
}

func startsName(r rune) bool { return r == '_' || r == '$' || unicode.IsLetter(r) }

func inName(r rune) bool { return r == '_' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// name is segments with dots between them; a segment between backticks may hold
// any character but those that could end it.
func (l *lexer) name() (token, error) {
	t := token{kind: name, at: l.at}
	for {
		segment, quoted, err := l.segment()
		if err != nil {
			return t, err
		}
		t.path, t.quoted = append(t.path, segment), t.quoted || quoted
		if len(t.path) > maxPath {
			return t, l.fail(t.at, "the name has more than %d parts", maxPath)
		}
		if !strings.HasPrefix(l.text[l.at:], ".") {
			t.word = strings.Join(t.path, ".")
			return t, nil
		}
		l.at++
	}
}

func (l *lexer) segment() (segment string, quoted bool, err error) {
	start := l.at
	if strings.HasPrefix(l.text[start:], "`") {
		length := strings.IndexAny(l.text[start+1:], "`\\.\x00\n\r\t")
		if length < 0 || l.text[start+1+length] != '`' {
			return "", true, l.fail(start, "the name between backticks has no end, or a dot, a backslash or a line break in it")
		}
		segment, quoted = l.text[start+1:start+1+length], true
		l.at = start + length + 2
	} else {
		rest := l.text[start:]
		if r, size := utf8.DecodeRuneInString(rest); startsName(r) {
			rest = strings.TrimLeftFunc(rest[size:], inName)
		}
		segment = l.text[start : len(l.text)-len(rest)]
		l.at += len(segment)
	}
	if segment == "" || len(segment) > maxSegment {
		return "", quoted, l.fail(start, "expected a name of 1 to %d bytes", maxSegment)
	}
	return segment, quoted, nil
}

// quotedText ends at its quote; a doubled one is part of it.
func (l *lexer) quotedText(quote byte) (token, error) {
	start := l.at
	var content strings.Builder
	for l.at++; l.at < len(l.text); l.at++ {
		switch c := l.text[l.at]; {
		case c == quote && l.at+1 < len(l.text) && l.text[l.at+1] == quote:
			l.at++
			content.WriteByte(quote)
		case c == quote:
			l.at++
			return token{kind: text, word: content.String(), at: start}, nil
		case c == '\\' && l.escapes:
			if err := l.escape(&content); err != nil {
				return token{}, err
			}
		default:
			content.WriteByte(c)
		}
	}
	return token{}, l.fail(start, "the text has no end: close it with %c", quote)
}

// escape reads what follows a backslash and leaves the lexer at its last byte.
func (l *lexer) escape(content *strings.Builder) error {
	rest := l.text[l.at+1:]
	if rest == "" {
		return l.fail(l.at, "the text has no end")
	}
	switch c := rest[0]; c {
	case '\\', '\'', '"', '/':
		content.WriteByte(c)
	case 'n':
		content.WriteByte('\n')
	case 'r':
		content.WriteByte('\r')
	case 't':
		content.WriteByte('\t')
	case 'u':
		code, err := strconv.ParseUint(rest[1:min(5, len(rest))], 16, 16)
		if err != nil || len(rest) < 5 || !utf8.ValidRune(rune(code)) {
			return l.fail(l.at, "\\u needs four hexadecimal digits of a character")
		}
		content.WriteRune(rune(code))
		l.at += 4
	default:
		return l.fail(l.at, `there is no escape like this: write \\ for a backslash`)
	}
	l.at++
	return nil
}

func (l *lexer) number() (token, error) {
	start := l.at
	rest := strings.TrimLeftFunc(l.text[start:], func(r rune) bool {
		return r == '.' || r == '+' || inName(r)
	})
	word := l.text[start : len(l.text)-len(rest)]
	value, err := strconv.ParseFloat(word, 64)
	if err != nil || strings.ContainsAny(word, "xXpP_iInN") {
		return token{}, l.fail(start, "%.40q is not a number", word)
	}
	l.at += len(word)
	return token{kind: number, word: word, number: value, at: start}, nil
}
