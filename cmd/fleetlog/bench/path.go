package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

const (
	pathConnections = 5000
	pathInflight    = 16
	firstCounter    = "100000000"      // what package load numbers a connection's messages from
	pathTarget      = 50_000           // messages/s
	settleLimit     = 30 * time.Second // for the last rows; "a few seconds" is the target below
	settleTarget    = 10 * time.Second

	// growth is how much of the rate the gap between acknowledged messages and
	// rows may grow by and still count as noise.
	growth = 0.01
)

// walk is one run over the whole path.
type walk struct {
	load.Result
	slope   float64       // of the gap between acknowledged messages and rows, per second
	lastGap int64         // when the last message was acknowledged
	settled time.Duration // until all rows were there
	cores   float64       // computing, the platform
	load    float64       // computing, the load generator
	faults  []string      // what else isn't as promised
}

// keepsUp tells whether the projection did, at that rate.
func (w walk) keepsUp() bool { return w.slope <= growth*w.Rate && w.settled <= settleTarget }

// path sends smart-meter messages at a steady rate and watches that their rows
// follow: device, acknowledgement, log, ClickHouse.
func (b *bench) path(ctx context.Context) ([]row, error) {
	w, err := b.walk(ctx, "path", b.rate, b.duration)
	if err != nil {
		return nil, err
	}
	rows := []row{
		{
			what:     fmt.Sprintf("whole path, 5,000 connections, %s at %s", b.duration, perSecond(b.rate)),
			measured: perSecond(w.Rate), peer: "fixed target", ratio: times(w.Rate / pathTarget), target: "≥ 50,000/s",
			result: judge(w.Rate >= pathTarget),
			note:   fmt.Sprintf("PUBACK p50 %s, p99 %s", millis(w.Latency.P50), millis(w.Latency.P99)) + fmt.Sprintf("; %.2f cores, load generator %.2f", w.cores, w.load),
		},
		{
			what: "… nothing falls behind", measured: fmt.Sprintf("gap grows by %.0f/s", w.slope), peer: "acknowledged", ratio: "–",
			target: fmt.Sprintf("≤ %.0f/s", growth*w.Rate), result: judge(w.keepsUp()),
			note: fmt.Sprintf("gap at the end %s rows, gone after %s", thousands(w.lastGap), w.settled.Round(10*time.Millisecond)),
		},
		{
			what: "… rows are the acknowledged messages, each once", measured: thousands(w.Acked), peer: "acknowledged", ratio: "–",
			target: "all, once", result: judge(len(w.faults) == 0), note: strings.Join(w.faults, "; "),
		},
	}
	if b.stretch {
		highest, err := b.highest(ctx, w)
		if err != nil {
			return rows, err
		}
		b.peak = highest
		rows = append(rows, row{
			what: "… highest rate it keeps up with for a while", measured: perSecond(highest), peer: "stretch goal",
			ratio: times(highest / 100_000), target: "100,000/s", result: noted,
		})
	}
	return rows, nil
}

// highest tries ever higher rates, each on a new directory.
func (b *bench) highest(ctx context.Context, first walk) (float64, error) {
	if !first.keepsUp() {
		return 0, errors.New("it doesn't keep up with the first rate: begin with a lower -rate")
	}
	const step, most = 1.15, 1_000_000
	highest := first.Rate
	for rate := b.rate * step; rate < most; rate *= step {
		w, err := b.walk(ctx, "stretch", rate, pick(b, time.Minute, 15*time.Second))
		if err != nil {
			return highest, err
		}
		if !w.keepsUp() || w.Rate < 0.98*rate {
			break
		}
		highest = w.Rate
	}
	return highest, nil
}

// walk runs the platform on a new directory under one rate.
func (b *bench) walk(ctx context.Context, name string, rate float64, duration time.Duration) (w walk, err error) {
	p, err := b.startFleetlog(ctx, filepath.Join(b.work, fmt.Sprintf("%s-%.0f", name, rate)))
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, b.discard(p)) }()
	devices, err := p.devices(ctx, pathConnections)
	if err != nil {
		return w, err
	}
	fleet, err := load.Connect(ctx, load.Options{Address: p.mqtt(), Devices: devices, Payload: meterPayload(0), Inflight: pathInflight})
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, fleet.Close()) }()

	watching, stop := context.WithCancel(ctx)
	watched := make(chan []point, 1)
	go func() { watched <- b.watch(watching, p, fleet) }()
	began, theirs, own := time.Now(), p.cpu(), ownCPU(syscall.RUSAGE_SELF)
	w.Result, err = fleet.Publish(ctx, load.Pace{Rate: rate, Warmup: pick(b, 10*time.Second, 3*time.Second), Duration: duration})
	stop()
	points := <-watched
	took := time.Since(began).Seconds()
	w.cores, w.load = (p.cpu()-theirs).Seconds()/took, (ownCPU(syscall.RUSAGE_SELF)-own).Seconds()/took
	if err != nil {
		return w, err
	}
	w.slope = slope(points)
	return w, w.settle(ctx, p)
}

// discard stops the platform and removes its directory.
func (b *bench) discard(p *platform) error {
	return errors.Join(p.stop(), os.RemoveAll(p.dir))
}

// point is the gap between acknowledged messages and rows at a time in seconds.
type point struct{ at, gap float64 }

// watch compares the counts again and again until ctx ends, at the latest until
// the messages end.
func (b *bench) watch(ctx context.Context, p *platform, fleet *load.Fleet) (points []point) {
	ticker := time.NewTicker(pick(b, 5*time.Second, time.Second))
	defer ticker.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return points
		case <-ticker.C:
		}
		acked := fleet.Acked()
		rows, err := p.rows(ctx)
		if err != nil {
			continue // what is lost is seen in the end
		}
		points = append(points, point{time.Since(began).Seconds(), float64(acked - rows)})
		say("  acknowledged %s, rows %s, gap %s", thousands(acked), thousands(rows), thousands(acked-rows))
	}
}

// slope is how much the gap grows a second, by least squares over all but the
// first fifth, in which the gap has to come about.
func slope(points []point) float64 {
	points = points[len(points)/5:]
	var n, x, y, xx, xy float64
	for _, p := range points {
		n, x, y, xx, xy = n+1, x+p.at, y+p.gap, xx+p.at*p.at, xy+p.at*p.gap
	}
	if spread := n*xx - x*x; spread > 0 {
		return (n*xy - x*y) / spread
	}
	return 0
}

// settle waits for the last rows and checks that they are the messages sent.
func (w *walk) settle(ctx context.Context, p *platform) error {
	rows, err := p.rows(ctx)
	if err != nil {
		return err
	}
	w.lastGap = max(w.Acked-rows, 0)
	if rows, w.settled, err = p.untilRows(ctx, w.Acked, settleLimit); err != nil {
		return err
	}
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			w.faults = append(w.faults, fmt.Sprintf(format, args...))
		}
	}
	fault(w.Lost > 0, "%d connections lost: %v", w.Lost, w.Reason)
	fault(rows < w.Acked, "%s rows missing", thousands(w.Acked-rows))
	// Each device's messages are numbered from 0 without a gap, so a message twice or
	// missing in the middle shows in its count, sum or sum of squares.
	text, err := p.query(ctx, `SELECT count(), sum(n), countIf(total = intDiv(n * (n - 1), 2) AND squares = intDiv(n * (n - 1) * (2 * n - 1), 6)) FROM (
		SELECT count() AS n, sum(v) AS total, sum(v * v) AS squares
		FROM (SELECT device, toUInt64(ifNull(body.pulseCounter::Nullable(UInt64), 0) - `+firstCounter+`) AS v FROM fleetlog.telemetry)
		GROUP BY device)`)
	if err != nil {
		return err
	}
	counts := strings.Fields(text)
	if len(counts) != 3 {
		return fmt.Errorf("unexpected answer %q", text)
	}
	n, err := strconv.ParseInt(counts[1], 10, 64)
	if err != nil {
		return fmt.Errorf("unexpected answer %q: %w", text, err)
	}
	fault(counts[0] != counts[2], "%s devices, but only %s whose rows are all there, each once", counts[0], counts[2])
	fault(n > w.Sent, "%s rows of %s messages sent", thousands(n), thousands(w.Sent))
	return nil
}
