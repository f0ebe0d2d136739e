package dtdl

import (
	"fmt"
	"strings"
)

// Problem is one place where a document breaks a rule.
type Problem struct {
	// Path is the JSON path of the place, `$.contents[2].schema`.
	Path string
	// Rule is what it breaks and where that is written, `DTDL v2 §Telemetry`.
	Rule string
	// Message says what is wrong and what to do.
	Message string
}

func (p Problem) String() string { return fmt.Sprintf("%s: %s (%s)", p.Path, p.Message, p.Rule) }

// Problems are all of a document's, in its order.
type Problems []Problem

// maxProblems bounds how many are told.
const maxProblems = 100

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
