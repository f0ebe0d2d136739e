package sim

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

const (
	liveEvery  = time.Second     // on a terminal, in place
	plainEvery = 5 * time.Second // elsewhere, a line each
)

// report writes a progress line again and again until the function it returns is
// called, which waits for the last one.
func (m *meter) report(w io.Writer) (stop func()) {
	if w == nil {
		return func() {}
	}
	file, _ := w.(*os.File)
	live := file != nil && term.IsTerminal(int(file.Fd()))
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		every, form := plainEvery, "%s\n"
		if live {
			every, form = liveEvery, "\r\x1b[K%s"
			defer fmt.Fprintln(w)
		}
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		var acked int64
		for {
			select {
			case <-stopping:
				return
			case <-ticker.C:
				fmt.Fprintf(w, form, m.line(&acked, every))
			}
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}

// line describes the time since the line before, when acked were acknowledged.
func (m *meter) line(acked *int64, since time.Duration) string {
	now := m.acked.Load()
	rate := float64(now-*acked) / since.Seconds()
	*acked = now
	p50, p99 := m.closeWindow()
	return fmt.Sprintf("connected %d/%d  sent %d  acked %.0f/s  p50 %s  p99 %s  failed %d",
		m.connected.Load(), m.devices, m.sent.Load(), rate, brief(p50), brief(p99), m.failed.Load())
}
