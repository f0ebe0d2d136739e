// Command bench measures Fleetlog's performance targets, each next to what it is
// compared with, and prints a table of ratios:
//
//	go run ./cmd/fleetlog/bench            # all sections, about 15 minutes
//	go run ./cmd/fleetlog/bench -quick     # a rough idea, about 2 minutes
//	go run ./cmd/fleetlog/bench -run ingest,memory
//
// The servers are child processes, one at a time; this process is the load
// generator, so both share the machine's cores. Everything ends by itself, and
// nothing is left behind but the table. It ends with status 1 when a target is
// missed or a section could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	run       string
	quick     bool
	write     bool
	stretch   bool
	rate      float64
	duration  time.Duration
	probeRate float64
	messages  int64
	binary    string
	dir       string
}

// section is one measurement.
type section struct {
	name    string
	measure func(*bench, context.Context) ([]row, error)
}

func sections() []section {
	return []section{
		{"ingest", (*bench).ingest},
		{"path", (*bench).path},
		{"projection", (*bench).projection},
		{"latency", (*bench).latency},
		{"memory", (*bench).memory},
		{"crowd", (*bench).crowd},
		{"state", (*bench).state},
		{"tsbs", (*bench).tsbs},
		{"analytics", (*bench).analytics},
		{"access", (*bench).access},
	}
}

// bench is one run of this command.
type bench struct {
	settings
	work string // scratch directory, removed at the end
	peak float64
}

func main() {
	var s settings
	serve := flag.Bool("serve-mochi", false, "be the mochi-mqtt broker to compare with; used by this command itself")
	play := flag.Bool("play-devices", false, "play devices of a crowd; used by this command itself")
	flag.StringVar(&s.run, "run", "", "sections to measure, separated by commas; all when empty: ingest, path, projection, latency, memory, crowd, state, tsbs, analytics, access")
	flag.BoolVar(&s.quick, "quick", false, "measure for seconds only: a rough idea")
	flag.BoolVar(&s.write, "write", false, "write the table into BENCHMARKS.md of the current directory")
	flag.BoolVar(&s.stretch, "stretch", false, "whole path: also find the highest rate it keeps up with")
	flag.Float64Var(&s.rate, "rate", 51_000, "whole path: messages/s to send")
	flag.DurationVar(&s.duration, "duration", 5*time.Minute, "whole path: how long")
	flag.Float64Var(&s.probeRate, "probe-rate", 0, "latency: messages/s besides the probes; 0: a quarter of the whole path's highest rate, or 25,000/s when -stretch didn't find it")
	flag.Int64Var(&s.messages, "messages", 0, "analytics: how many messages; 0: 100 million, which takes 40 GB of disk and half an hour")
	flag.StringVar(&s.binary, "binary", "", "fleetlog binary to measure; built from the source when empty")
	flag.StringVar(&s.dir, "dir", "", "directory for the servers' files, on the disk to measure; a temporary one when empty")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := errors.New("unexpected arguments: see -help")
	switch {
	case *serve:
		err = serveMochi(ctx, os.Stdout)
	case *play:
		err = playDevices(ctx, os.Stdin, os.Stdout)
	case flag.NArg() == 0:
		err = s.main(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// say tells the person who waits what is going on; the table goes to stdout.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

func (s settings) main(ctx context.Context) (err error) {
	chosen, err := s.chosen()
	if err != nil {
		return err
	}
	if s.quick {
		s.duration = min(s.duration, 20*time.Second)
	}
	work, err := os.MkdirTemp(s.dir, "fleetlog-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &bench{settings: s, work: work}
	if err := b.build(ctx); err != nil {
		return err
	}
	facts := machineFacts(ctx)
	fmt.Fprintln(os.Stderr, facts)

	var rows []row
	elsewhere := watchOthers()
	for _, c := range chosen {
		say("%s", c.name)
		measured, err := c.measure(b, ctx)
		if err != nil {
			say("%s: %v", c.name, err)
			measured = append(measured, row{what: c.name, result: failed, note: "could not be measured: " + firstLine(err)})
		}
		rows = append(rows, measured...)
		if ctx.Err() != nil {
			break
		}
	}
	report := fmt.Sprintf("%s\n- other programs took %.2f cores meanwhile\n\n%s", facts, elsewhere.cores(), table(rows))
	fmt.Println(report)
	if s.write {
		if err := writeReport("BENCHMARKS.md", report); err != nil {
			return err
		}
	}
	if n := misses(rows); n > 0 {
		return fmt.Errorf("%d of %d targets missed", n, len(rows))
	}
	return ctx.Err()
}

func (s settings) chosen() ([]section, error) {
	all := sections()
	if s.run == "" {
		return all, nil
	}
	var chosen []section
	for name := range strings.SplitSeq(s.run, ",") {
		i := slices.IndexFunc(all, func(c section) bool { return c.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("unknown section %q: use some of ingest, path, projection, latency, memory, crowd, state, tsbs, analytics, access", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// build makes the binary to measure.
func (b *bench) build(ctx context.Context) error {
	if b.binary != "" {
		return nil
	}
	b.binary = filepath.Join(b.work, "fleetlog")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "github.com/fleetlog/fleetlog/cmd/fleetlog")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build fleetlog: %w\n%s", err, out)
	}
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// pick is the first value for a full measurement, the second for a quick one.
func pick[T any](b *bench, full, quick T) T {
	if b.quick {
		return quick
	}
	return full
}
