package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// maxDepth bounds how deep objects and arrays nest. ClickHouse gives up at a
// thousand; every level makes every path below it longer.
const maxDepth = 128

// checkBody tells whether ClickHouse's JSON type takes the payload: a JSON
// object (RFC 8259) whose numbers it can hold. The error says what is wrong and
// at which byte. Finding it here keeps ClickHouse from refusing a whole block.
func checkBody(body []byte) error {
	start := skipSpace(body)
	switch {
	case start == len(body):
		return errors.New("payload is empty: send a JSON object")
	case !utf8.Valid(body):
		return fmt.Errorf("payload is not UTF-8 at byte %d: send a JSON object in UTF-8", invalidUTF8(body))
	}
	// The flaw is looked for first because it bounds the depth, on which
	// validation recurses, but a syntax error is the better message.
	flaw := findFlaw(body)
	if flaw != nil && flaw.tooDeep {
		return flaw
	}
	if !gjson.ValidBytes(body) {
		return syntaxError(body)
	}
	if body[start] != '{' {
		return fmt.Errorf("payload is JSON but not an object at byte %d: send an object, names and values in braces", start)
	}
	if flaw != nil {
		return flaw
	}
	return nil
}

func skipSpace(b []byte) int {
	for i, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return i
		}
	}
	return len(b)
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(b)
}

// syntaxError is slow, and only asked for a payload known to be broken.
func syntaxError(body []byte) error {
	var raw json.RawMessage
	var syntax *json.SyntaxError
	if errors.As(json.Unmarshal(body, &raw), &syntax) {
		return fmt.Errorf("payload is not JSON at byte %d: %w", max(0, syntax.Offset-1), syntax)
	}
	return errors.New("payload is not JSON")
}

// flaw is something JSON allows and ClickHouse's JSON type does not.
type flaw struct {
	at      int
	tooDeep bool
	what    string
}

func (f *flaw) Error() string { return fmt.Sprintf("payload at byte %d: %s", f.at, f.what) }

// findFlaw looks for the first flaw. Of text that is not JSON it says nothing
// reliable but whether it nests too deep.
func findFlaw(b []byte) *flaw {
	var first *flaw
	note := func(at int, what string) {
		if first == nil {
			first = &flaw{at: at, what: what}
		}
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '"':
			i = scanString(b, i+1, note)
		case '{', '[':
			if depth++; depth > maxDepth {
				return &flaw{at: i, tooDeep: true, what: fmt.Sprintf("objects and arrays nest deeper than %d", maxDepth)}
			}
		case '}', ']':
			depth--
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			i = scanNumber(b, i, note)
		}
	}
	return first
}

// scanString returns where the closing quote of the string beginning at i is.
func scanString(b []byte, i int, note func(int, string)) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i
		case '\\':
			i++
			if i < len(b) && b[i] == 'u' {
				i = scanUnicodeEscape(b, i, note)
			}
		}
	}
	return i
}

// scanUnicodeEscape wants surrogates in pairs (RFC 8259 §7). It begins at the u
// and returns the escape's last byte.
func scanUnicodeEscape(b []byte, i int, note func(int, string)) int {
	const lone = "half a surrogate pair: \\ud800 to \\udbff and \\udc00 to \\udfff stand only together"
	switch unit := hex4(b, i+1); {
	case unit >= 0xd800 && unit < 0xdc00:
		if low := hex4(b, i+7); i+6 < len(b) && b[i+5] == '\\' && b[i+6] == 'u' && low >= 0xdc00 && low < 0xe000 {
			return i + 10
		}
		note(i-1, lone)
	case unit >= 0xdc00 && unit < 0xe000:
		note(i-1, lone)
	}
	return i
}

// hex4 is the number written in four hexadecimal digits at i, or -1.
func hex4(b []byte, i int) int {
	if i+4 > len(b) {
		return -1
	}
	n, err := strconv.ParseUint(string(b[i:i+4]), 16, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// isNumeric tells the bytes that a number is made of.
func isNumeric(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c|0x20 == 'e'
}

// shortestLarge is the length of the shortest whole number that an Int64 or
// UInt64 may not hold.
const shortestLarge = 19

// scanNumber returns the last byte of the number beginning at i.
func scanNumber(b []byte, i int, note func(int, string)) int {
	end, float, exponent := i+1, false, false
	for ; end < len(b) && isNumeric(b[end]); end++ {
		exponent = exponent || b[end]|0x20 == 'e'
		float = float || exponent || b[end] == '.'
	}
	text := b[i:end]
	switch {
	case len(text) < shortestLarge && !exponent:
	case float:
		if f, err := strconv.ParseFloat(string(text), 64); err != nil && math.IsInf(f, 0) {
			note(i, "number is too large for a 64-bit float")
		}
	default:
		_, signed := strconv.ParseInt(string(text), 10, 64)
		_, unsigned := strconv.ParseUint(string(text), 10, 64)
		if signed != nil && unsigned != nil {
			note(i, "whole number is too large for 64 bits: send it as text or with a decimal point")
		}
	}
	return end - 1
}
