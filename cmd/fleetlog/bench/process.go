package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 60 * time.Second // until a server is ready
	stopLimit  = 30 * time.Second // until it has ended
	pollEvery  = 20 * time.Millisecond

	javaTerminated = 128 + int(syscall.SIGTERM) // a Java virtual machine's exit status after SIGTERM
)

// process is a server under measurement. It ends when it is stopped, and with this
// process whatever happens.
type process struct {
	command *exec.Cmd
	output  string // file
	ended   chan struct{}
	err     error // after ended
}

// start starts a server whose output goes to a file in the scratch directory.
func (b *bench) start(name string, args ...string) (*process, error) {
	p := &process{ended: make(chan struct{}), output: filepath.Join(b.work, filepath.Base(name)+".log")}
	output, err := os.OpenFile(p.output, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p.command = exec.Command(name, args...) //nolint:noctx // stop ends it, gently
	p.command.Stdout, p.command.Stderr = output, output
	dieWithParent(p.command)
	err = p.command.Start()
	_ = output.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	return p, nil
}

// until waits for a server to be ready; when it isn't in time, or ends, the error
// has the end of its output.
func (p *process) until(ctx context.Context, ready func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for !ready(ctx) {
		select {
		case <-time.After(pollEvery):
		case <-p.ended:
			return fmt.Errorf("%s ended: %w\n%s", p.command.Path, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.command.Path, ctx.Err(), p.tail())
		}
	}
	return nil
}

func (p *process) tail() string {
	const most = 4096
	file, err := os.Open(p.output)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(size-most, 0), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(file, most))
	return string(text)
}

// stop asks the server to end and waits until it has.
func (p *process) stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		_ = p.command.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.command.Path, stopLimit)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		status := exit.Sys().(syscall.WaitStatus) //nolint:forcetypeassert // so on every Unix
		if status.Signaled() || status.ExitStatus() == javaTerminated {
			return nil // by our signal
		}
	}
	return p.err
}

// rss is the memory the server has in RAM, in bytes.
func (p *process) rss() (int64, error) {
	var kib int64
	value := field(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid), "VmRSS")
	if _, err := fmt.Sscanf(value, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("read VmRSS %q: %w", strings.TrimSpace(value), err)
	}
	return kib << 10, nil
}

// cpu is how long the server has computed so far.
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	// After the name, which may hold anything but ends with the last parenthesis:
	// field 3 and on; utime and stime are 14 and 15 (proc_pid_stat(5)).
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0
	}
	user, _ := strconv.ParseInt(fields[utime], 10, 64)
	system, _ := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * time.Second / clockTicks
}

// ownCPU is how long this process, the load generator (RUSAGE_SELF), or the servers
// that have ended (RUSAGE_CHILDREN) have computed so far.
func ownCPU(who int) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(who, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
