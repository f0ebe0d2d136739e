package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Pace is how a fleet publishes.
type Pace struct {
	Rate     float64       // messages/s of the whole fleet; 0: as fast as it goes
	Warmup   time.Duration // before measuring
	Duration time.Duration // of measuring
}

// Result is what a fleet did while it was measured.
type Result struct {
	Sent, Acked int64         // of the whole run, warm-up and end included
	Rate        float64       // acknowledged messages/s, measured
	Latency     Latency       // publish to PUBACK, measured
	Drained     time.Duration // from the last message sent to the last acknowledgement
	Lost        int           // connections that ended before the run did
	Reason      error         // why the first of them did
}

// Latency holds percentiles.
type Latency struct{ P50, P99, Max time.Duration }

const (
	pacers     = 2
	tick       = time.Millisecond // of a pacer
	shards     = 16               // histograms, so that connections don't wait for each other
	drainLimit = 15 * time.Second // for the last acknowledgements
	maxLatency = time.Minute
)

// run is one call of Publish.
type run struct {
	fleet     *Fleet
	paced     bool
	stopping  atomic.Bool // no more messages
	measuring atomic.Bool
	lost      atomic.Int64
	firstLoss sync.Once
	reason    error
	shards    [shards]struct {
		sync.Mutex
		*hdrhistogram.Histogram // of microseconds
	}
}

// Publish publishes at a pace and returns when all is acknowledged, at the latest
// drainLimit after the duration. It fails when ctx ends first or all connections
// are lost.
func (f *Fleet) Publish(ctx context.Context, p Pace) (Result, error) {
	r := &run{fleet: f, paced: p.Rate > 0}
	for i := range r.shards {
		r.shards[i].Histogram = hdrhistogram.New(1, maxLatency.Microseconds(), 3)
	}
	// One for all, because setting it for each write costs as much as the write.
	end := time.Now().Add(p.Warmup + p.Duration + writeTimeout)
	for _, c := range f.conns {
		_ = c.net.SetWriteDeadline(end) // a broken connection says so when it is written to
	}
	var receivers, senders sync.WaitGroup
	for i, c := range f.conns {
		receivers.Go(func() { r.receive(i, c) })
	}
	if r.paced {
		parts := min(pacers, len(f.conns))
		for part := range parts {
			senders.Go(func() { r.pace(part, parts, p.Rate/float64(parts)) })
		}
	}
	result, err := r.measure(ctx, p)
	r.stopping.Store(true)
	senders.Wait()
	if err == nil {
		result.Drained, err = r.drain(ctx)
	}
	for _, c := range f.conns {
		_ = c.net.SetReadDeadline(time.Now()) // wakes the receiver
	}
	receivers.Wait()
	for _, c := range f.conns {
		_ = c.net.SetReadDeadline(time.Time{})
	}
	result.Sent, result.Acked = f.Sent(), f.Acked()
	result.Lost, result.Reason = int(r.lost.Load()), r.reason
	if err == nil && result.Lost == len(f.conns) {
		err = fmt.Errorf("all connections were lost: %w", r.reason)
	}
	return result, err
}

func (r *run) measure(ctx context.Context, p Pace) (result Result, err error) {
	if err := wait(ctx, p.Warmup); err != nil {
		return result, err
	}
	r.measuring.Store(true)
	before, began := r.fleet.Acked(), time.Now()
	err = wait(ctx, p.Duration)
	after, took := r.fleet.Acked(), time.Since(began)
	r.measuring.Store(false)
	result.Rate = float64(after-before) / took.Seconds()
	all := hdrhistogram.New(1, maxLatency.Microseconds(), 3)
	for i := range r.shards {
		r.shards[i].Lock()
		all.Merge(r.shards[i].Histogram)
		r.shards[i].Unlock()
	}
	micros := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	result.Latency = Latency{P50: micros(all.ValueAtQuantile(50)), P99: micros(all.ValueAtQuantile(99)), Max: micros(all.Max())}
	return result, err
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *run) drain(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for time.Since(began) < drainLimit && r.outstanding() {
		if err := wait(ctx, tick); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (r *run) outstanding() bool {
	return slices.ContainsFunc(r.fleet.conns, func(c *conn) bool {
		return !c.lost.Load() && c.acked.Load() < c.sent.Load()
	})
}

// receive reads one connection's acknowledgements and, without a pace, fills the
// window again.
func (r *run) receive(i int, c *conn) {
	shard := &r.shards[i%shards]
	timed := func(took time.Duration) {
		if r.measuring.Load() {
			shard.Lock()
			_ = shard.RecordValue(min(max(took, time.Microsecond), maxLatency).Microseconds()) // is in range
			shard.Unlock()
		}
	}
	for {
		if !r.paced && !r.stopping.Load() {
			if room := c.room(); room > 0 {
				if err := c.send(room); err != nil {
					r.lose(c, err)
					return
				}
			}
		}
		if err := c.receive(timed); err != nil {
			if !r.stopping.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
				r.lose(c, err)
			}
			return
		}
	}
}

func (r *run) lose(c *conn, err error) {
	if c.lost.Swap(true) {
		return
	}
	r.lost.Add(1)
	r.firstLoss.Do(func() { r.reason = err })
}

// pace sends one message after the other through its part of the connections, as
// many as the time says. A connection whose window is full, or which is lost, is
// passed over; what no connection could take is sent later.
func (r *run) pace(part, parts int, rate float64) {
	var conns []*conn
	for i := part; i < len(r.fleet.conns); i += parts {
		conns = append(conns, r.fleet.conns[i])
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began, issued, next := time.Now(), int64(0), 0
	for range ticker.C {
		if r.stopping.Load() {
			return
		}
		due := int64(time.Since(began).Seconds() * rate)
		for passed := 0; issued < due && passed < len(conns); {
			i := next
			next = (next + 1) % len(conns)
			if conns[i].lost.Load() || conns[i].room() < 1 {
				passed++
				continue
			}
			passed = 0
			if err := conns[i].send(1); err != nil {
				r.lose(conns[i], err)
				continue
			}
			issued++
		}
	}
}
