package operations

import "strings"

// formula are the characters with which a cell begins that a spreadsheet takes for
// a formula (OWASP, CSV injection).
const formula = "=+-@\t\r"

// harmless is a text as a cell that no spreadsheet takes for a formula: with an
// apostrophe before it, one more than the text has already.
func harmless(text string) string {
	if dangerous(text) {
		return "'" + text
	}
	return text
}

// plain is the text of a cell that harmless may have made.
func plain(cell string) string {
	if rest, quoted := strings.CutPrefix(cell, "'"); quoted && dangerous(rest) {
		return rest
	}
	return cell
}

func dangerous(text string) bool {
	bare := strings.TrimLeft(text, "'")
	return bare != "" && strings.IndexByte(formula, bare[0]) >= 0
}
