package chdb

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The Go runtime needs its own signal handlers: SIGURG preempts goroutines,
// SIGSEGV and its kin become panics. libchdb resets handlers while it loads and
// boots, even when told to leave them alone, so they are read before and put
// back after.

const (
	signalCount = 64
	// sigactionSize is at least sizeof(struct sigaction) of every supported
	// system (152 bytes with glibc on Linux, 16 on macOS).
	sigactionSize = 256
)

type signalHandlers struct {
	sigaction func(signal int32, set, old unsafe.Pointer) int32
	saved     [signalCount + 1]*[sigactionSize]byte
}

func saveSignalHandlers() (*signalHandlers, error) {
	symbol, err := purego.Dlsym(purego.RTLD_DEFAULT, "sigaction")
	if err != nil {
		return nil, fmt.Errorf("find sigaction in the C library: %w", err)
	}
	s := &signalHandlers{}
	purego.RegisterFunc(&s.sigaction, symbol)
	for signal := 1; signal <= signalCount; signal++ {
		if current, ok := s.read(signal); ok {
			s.saved[signal] = current
		}
	}
	return s, nil
}

func (s *signalHandlers) read(signal int) (*[sigactionSize]byte, bool) {
	current := new([sigactionSize]byte)
	ok := s.sigaction(int32(signal), nil, unsafe.Pointer(current)) == 0
	return current, ok
}

// restore puts back every handler that differs from the saved one and returns
// the signals it touched. Only the handler's address is compared (the first
// word of the structure): the C library fills the other fields in its own way.
func (s *signalHandlers) restore() []int {
	var changed []int
	for signal, saved := range &s.saved {
		if saved == nil {
			continue
		}
		if current, ok := s.read(signal); !ok || [8]byte(current[:8]) == [8]byte(saved[:8]) {
			continue
		}
		if s.sigaction(int32(signal), unsafe.Pointer(saved), nil) == 0 {
			changed = append(changed, signal)
		}
	}
	return changed
}
