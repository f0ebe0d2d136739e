package devicefilter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is what is wrong with a filter, and where.
type Error struct {
	// Message says what was expected.
	Message string
	// Offset is where, in bytes.
	Offset int
	text   string
}

// window is how much of a long line an error shows on either side of the place,
// in characters.
const window = 40

// Error shows the line with a caret under the place.
func (e *Error) Error() string {
	before, after := e.text[:e.Offset], e.text[e.Offset:]
	column := utf8.RuneCountInString(before) + 1
	before = before[strings.LastIndexByte(before, '\n')+1:]
	after, _, _ = strings.Cut(after, "\n")
	left, right := []rune(before), []rune(after)
	if len(left) > window {
		left = append([]rune("…"), left[len(left)-window:]...)
	}
	if len(right) > window {
		right = append(right[:window:window], '…')
	}
	return fmt.Sprintf("the filter is not valid at character %d: %s\n%s%s\n%s^", column, e.Message, string(left), string(right), strings.Repeat(" ", len(left)))
}
