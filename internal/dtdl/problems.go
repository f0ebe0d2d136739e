package dtdl

import (
	"fmt"
	"slices"
	"strings"
)

// maxProblems are told of one document; a person mends these first.
const maxProblems = 100

// Problem is one place where a document breaks a rule.
type Problem struct {
	// Path is the JSON path, such as $.contents[2].schema.enumValues[0].name.
	Path string
	// Rule and where it comes from, such as "DTDL v2 §Telemetry".
	Rule string
	// Message says what is wrong and what to do.
	Message string
}

// String is the problem in one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s (%s)", p.Path, p.Message, p.Rule)
}

// Problems are all that is wrong with a document, in its order. When there are more
// than 100, the last one says how many were left out.
type Problems []Problem

// Error is one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return "the device model breaks the rules of DTDL: " + strings.Join(lines, "\n")
}

// findings gathers problems while a document is read.
type findings struct {
	found []finding
	more  int
}

type finding struct {
	at int // offset in the document
	Problem
}

func (f *findings) add(n *node, rule, format string, args ...any) {
	if len(f.found) >= maxProblems {
		f.more++
		return
	}
	f.found = append(f.found, finding{at: n.at, Problem: Problem{
		Path: n.path(), Rule: rule, Message: fmt.Sprintf(format, args...),
	}})
}

func (f *findings) count() int { return len(f.found) + f.more }

// err is nil when nothing was found.
func (f *findings) err(root string) error {
	if len(f.found) == 0 {
		return nil
	}
	slices.SortStableFunc(f.found, func(a, b finding) int { return a.at - b.at })
	problems := make(Problems, len(f.found), len(f.found)+1)
	for i := range f.found {
		problems[i] = f.found[i].Problem
	}
	if f.more > 0 {
		problems = append(problems, Problem{
			Path: root, Rule: "limit of this list",
			Message: fmt.Sprintf("there are %d more problems; mend these first", f.more),
		})
	}
	return problems
}
