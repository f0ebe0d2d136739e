package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// machineFacts says on what and with what the figures came about.
func machineFacts(ctx context.Context) string {
	lines := []string{
		fmt.Sprintf("- %s, %d × %s, %s", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), cpuModel(), memory()),
		fmt.Sprintf("- %s, %s, %s", kernel(), runtime.Version(), mosquittoVersion(ctx)),
		"- `go run ./cmd/fleetlog/bench " + strings.Join(os.Args[1:], " ") + "`, load generator on the same cores",
	}
	limit, err := raiseFileLimit()
	if err != nil {
		lines = append(lines, fmt.Sprintf("- open files: %v", err))
	} else {
		lines = append(lines, fmt.Sprintf("- open files: %s a process", thousands(int64(limit))))
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), "bench `", "bench`")
}

// clockTicks is USER_HZ, the same on all of Linux that Go runs on.
const clockTicks = 100

// field reads the value of a line like `model name : …` in /proc.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func cpuModel() string { return or(field("/proc/cpuinfo", "model name"), runtime.GOARCH) }

func memory() string {
	var kib int64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d", &kib); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%d GiB", kib>>20)
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(release))
}

func mosquittoVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// It prints its help with a status other than 0.
	out, _ := exec.CommandContext(ctx, mosquittoPath(), "-h").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	return or(first, "no Mosquitto")
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// raiseFileLimit raises the soft limit of open files, which child processes
// inherit, as far as it may be and returns it.
func raiseFileLimit() (uint64, error) {
	const wanted = 1 << 20
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	for _, most := range []uint64{max(limit.Max, wanted), limit.Max} {
		raised := syscall.Rlimit{Cur: most, Max: most}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
			return most, nil
		}
	}
	return limit.Cur, nil
}

// connectionLimit is how many connections one process can hold, with some files
// left for the rest of what it does.
func connectionLimit() int {
	const others = 600
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1000
	}
	return int(min(limit.Cur, 1<<20)) - others
}

// others watches how much other programs compute, because figures from a machine
// that is busy with something else say little.
type others struct {
	began time.Time
	busy  time.Duration // at the beginning
}

func watchOthers() others { return others{time.Now(), othersTime()} }

// othersTime is how long others have computed since the machine started.
func othersTime() time.Duration {
	return busyTime() - ownCPU(syscall.RUSAGE_SELF) - ownCPU(syscall.RUSAGE_CHILDREN)
}

// cores is how many cores others have taken since on average; servers under
// measurement count as ours once they have ended.
func (o others) cores() float64 {
	return max((othersTime()-o.busy).Seconds()/time.Since(o.began).Seconds(), 0)
}

// busyTime is how long all cores have computed since the machine started
// (proc_stat(5)); 0 where that can't be read.
func busyTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var user, nice, system, idle, waiting, hard, soft int64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &waiting, &hard, &soft); err != nil {
		return 0
	}
	return time.Duration(user+nice+system+hard+soft) * time.Second / clockTicks
}
