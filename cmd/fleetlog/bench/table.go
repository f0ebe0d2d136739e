package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

type result string

const (
	passed result = "pass"
	failed result = "**miss**"
	noted  result = "–" // a figure without a target
)

// row is one line of the table.
type row struct {
	what, measured, peer, ratio, target string
	result                              result
	note                                string
}

// judge is passed when it holds.
func judge(holds bool) result {
	if holds {
		return passed
	}
	return failed
}

func misses(rows []row) (n int) {
	for _, r := range rows {
		if r.result == failed {
			n++
		}
	}
	return n
}

// table is the rows in Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| what | Fleetlog | compared with | ratio | target | result |\n|---|---:|---:|---:|---:|---|\n")
	for _, r := range rows {
		cells := []string{r.what, r.measured, r.peer, r.ratio, r.target, string(r.result)}
		if r.note != "" {
			cells[5] += " (" + r.note + ")"
		}
		for _, cell := range cells {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// perSecond writes 123456.7 as 123,457/s.
func perSecond(n float64) string { return thousands(int64(n+0.5)) + "/s" }

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func times(ratio float64) string { return fmt.Sprintf("%.2f ×", ratio) }

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

const (
	beginMark = "<!-- bench:begin -->"
	endMark   = "<!-- bench:end -->"
)

// writeReport replaces what is between the marks of the file.
func writeReport(path, report string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the table: %w; run from the repository's root", err)
	}
	replaced, err := between(string(text), report)
	if err != nil {
		return fmt.Errorf("write the table to %s: %w", path, err)
	}
	return os.WriteFile(path, []byte(replaced), 0o644) //nolint:gosec // a document for everyone
}

func between(text, report string) (string, error) {
	before, rest, found := strings.Cut(text, beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !found || !ended {
		return "", errors.New("it lacks the marks " + beginMark + " and " + endMark)
	}
	return before + beginMark + "\n\n" + strings.TrimSpace(report) + "\n\n" + endMark + after, nil
}
