package devices

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
)

const (
	askEvery   = 250 * time.Millisecond
	plainEvery = 5 * time.Second // where the output is no terminal
	// patience is how long the API may be away.
	patience = time.Minute
	barWidth = 30
)

// follow asks how far the operation is until it has ended, and shows it: in place
// on a terminal, a line now and then elsewhere.
func (a *client) follow(ctx context.Context, o operation, progress io.Writer) (operation, error) {
	file, _ := progress.(*os.File)
	live := file != nil && term.IsTerminal(int(file.Fd()))
	if live {
		defer fmt.Fprintln(progress)
	}
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	began, shown, heard := time.Now(), time.Now(), time.Now()
	for {
		if live {
			fmt.Fprintf(progress, "\r\x1b[K%s", bar(o, time.Since(began)))
		} else if time.Since(shown) >= plainEvery {
			fmt.Fprintln(progress, bar(o, time.Since(began)))
			shown = time.Now()
		}
		if o.ended() {
			return o, nil
		}
		select {
		case <-ctx.Done():
			return o, fmt.Errorf("%w; see how far it is at %s/api/deviceOperations/%s", errDetached, a.address, o.ID)
		case <-ticker.C:
		}
		next, err := a.get(ctx, o.ID)
		switch {
		case err == nil:
			o, heard = next, time.Now()
		case !busy(err) || time.Since(heard) > patience:
			return o, err
		}
	}
}

// bar is how far the operation is as a person sees it.
func bar(o operation, since time.Duration) string {
	done := o.Succeeded + o.Failed
	if o.Total == 0 {
		return fmt.Sprintf("%s: %s", o.Type, o.Status)
	}
	full := barWidth * done / o.Total
	rate := 0.0
	if since > 0 {
		rate = float64(done) / since.Seconds()
	}
	return fmt.Sprintf("%s: [%s%s] %3d %%  %d/%d  %.0f/s  failed %d",
		o.Type, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*done/o.Total, done, o.Total, rate, o.Failed)
}

// show prints the beginning of an error report.
func show(out io.Writer, report string, most int) error {
	file, err := os.Open(report)
	if err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	rows := csv.NewReader(file)
	rows.ReuseRecord = true
	for line := 0; ; line++ {
		cells, err := rows.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the report: %w", err)
		case line == 0: // the header
		case line > most:
			fmt.Fprintf(out, "  … more in %s\n", report)
			return nil
		case len(cells) == 4:
			fmt.Fprintf(out, "  line %s  %s  %s: %s\n", printable(cells[0]), printable(cells[1]), cells[2], printable(cells[3]))
		}
	}
}

// printable is a cell without what would move a terminal's cursor; `-` for none.
func printable(cell string) string {
	if cell == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, cell)
}
