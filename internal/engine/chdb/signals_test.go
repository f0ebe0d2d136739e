package chdb

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The library must leave the Go runtime its signals: a nil pointer is a panic,
// and a loop without calls can be preempted (SIGURG).
func TestGoKeepsItsSignals(t *testing.T) {
	_, url := startEngine(t)
	ask(t, url, "SELECT sum(number) FROM numbers(10000000)")

	require.Panics(t, func() {
		nothing := func() *struct{ field int } { return nil }
		nothing().field++
	})

	signals, err := saveSignalHandlers()
	require.NoError(t, err)
	ask(t, url, "SELECT 1")
	require.Empty(t, signals.restore(), "a running engine changes no handler")

	stop, stopped := make(chan struct{}), make(chan struct{})
	spin := func() {
		for n := 0; ; n++ {
			if n%(1<<30) == 0 {
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	}
	for range 8 {
		go func() { spin(); stopped <- struct{}{} }()
	}
	// More loops than processors: this goes on only when they are preempted.
	start := time.Now()
	for time.Since(start) < 200*time.Millisecond {
		ask(t, url, "SELECT 1")
	}
	close(stop)
	for range 8 {
		<-stopped
	}
}
