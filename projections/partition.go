package projections

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// limits close a block.
type limits struct {
	rows  int
	bytes int
	// linger is how long a block that is not full waits for more records. While
	// the block before it is being inserted it waits anyway, so blocks are small
	// when little arrives and large when much does.
	linger time.Duration
	// confirm is how long a finished block waits for the next one's announcement
	// to confirm it.
	confirm time.Duration
}

// position is where a partition's projection stands: the ledger's answer.
type position struct {
	next  int64    // the first record that may not be a row yet; -1 when nothing was ever projected
	block *offsets // the block that was announced there, nil when none was
}

// partition projects one partition for as long as this node has it. Two
// goroutines work on it: one fills the next block while the other one writes
// the block before.
type partition struct {
	number  int32
	gaps    bool // of the topic
	queue   *queue
	writer  *writer
	limits  limits
	locate  func(ctx context.Context, partition int32) (position, error)
	metrics *metrics

	lastWrite atomic.Int64 // nanoseconds it took to write the last block

	full chan *block // blocks to write
	free chan *block // blocks to fill

	stopping context.Context // no new block is begun when it ends
	endSoon  context.CancelFunc
	cancel   context.CancelFunc // gives up on the block in hand
	done     chan struct{}      // all has ended
}

func newPartition(number int32, t *table, q *queue, w *writer, l limits, locate func(context.Context, int32) (position, error), m *metrics) *partition {
	p := &partition{
		number: number, gaps: t.gaps, queue: q, writer: w, limits: l, locate: locate, metrics: m,
		full: make(chan *block), free: make(chan *block, 2),
		done: make(chan struct{}),
	}
	p.free <- newBlock(number, t)
	p.free <- newBlock(number, t)
	return p
}

// start begins the work; the caller ends it with stop.
func (p *partition) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	stopping, endSoon := context.WithCancel(ctx)
	p.stopping, p.endSoon = stopping, endSoon
	go func() {
		defer close(p.done)
		defer p.cancel()
		var at position
		if p.writer.retry.untilDone(stopping, "find position", func(ctx context.Context) (err error) {
			at, err = p.locate(ctx, p.number)
			return err
		}) != nil {
			return
		}
		var workers sync.WaitGroup
		workers.Go(func() { p.fill(ctx, at) })
		workers.Go(func() { p.drain(ctx) })
		workers.Wait()
	}()
}

// stop begins no new block, waits at most so long for the one in hand, and
// returns when nothing works on the partition any more.
func (p *partition) stop(grace time.Duration) {
	p.endSoon()
	timer := time.AfterFunc(grace, p.cancel)
	defer timer.Stop()
	<-p.done
}

// fill makes blocks of the queue's records.
func (p *partition) fill(ctx context.Context, at position) {
	cut := cutter{next: max(0, at.next), redo: at.block}
	expected := at.next
	var pending []*kgo.Record
	b := <-p.free
	if at.block != nil {
		b.announce(*at.block)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		closed := false
		for !closed {
			if len(pending) == 0 {
				if pending = p.queue.pop(); len(pending) == 0 {
					break
				}
			}
			if !p.gaps {
				p.noteDeleted(&expected, pending)
			}
			pending, closed = p.fillFrom(b, &cut, pending)
		}
		var out chan<- *block
		var more <-chan struct{}
		var aged <-chan time.Time
		if closed {
			out = p.full
		} else {
			more = p.queue.filled
			if b.records > 0 && !b.announced {
				if rest := p.linger() - time.Since(b.opened); rest > 0 {
					timer.Reset(rest)
					aged = timer.C
				} else {
					out = p.full
				}
			}
		}
		select {
		case out <- b:
			select {
			case b = <-p.free:
			case <-ctx.Done():
				return
			}
		case <-more:
		case <-aged:
		case <-p.stopping.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// linger is how long the open block waits for more records: long enough that the
// partition is being written to a quarter of the time at most. On a busy machine
// inserts take longer, so blocks grow, and with them what each costs shrinks.
func (p *partition) linger() time.Duration {
	const share, longest = 4, time.Second
	busy := share * time.Duration(p.lastWrite.Load())
	return max(p.limits.linger, min(busy, longest))
}

// fillFrom adds records until the block is closed, and returns those left over.
func (p *partition) fillFrom(b *block, cut *cutter, records []*kgo.Record) (left []*kgo.Record, closed bool) {
	now := time.Now()
	for i, r := range records {
		switch cut.judge(r.Offset) {
		case skip:
		case closeBefore:
			return records[i:], true
		case takeAndClose:
			b.add(r, now)
			return records[i+1:], true
		case take:
			b.add(r, now)
			if !b.announced && (b.records >= p.limits.rows || b.bytes >= p.limits.bytes) {
				return records[i+1:], true
			}
		}
	}
	return nil, false
}

// noteDeleted counts the records that the log deleted before they were read.
func (p *partition) noteDeleted(expected *int64, records []*kgo.Record) {
	first, last := records[0].Offset, records[len(records)-1].Offset
	if *expected >= 0 && first > *expected {
		p.metrics.deleted.Add(float64(first - *expected))
		p.writer.retry.logger.Error("records were deleted from the log before they were projected: make its retention longer than the projection can lag",
			"partition", p.number, "from", *expected, "to", first-1)
	}
	*expected = max(*expected, last+1)
}

// drain writes blocks. When none comes for a while, and at the end, it confirms
// the last one.
func (p *partition) drain(ctx context.Context) {
	unconfirmed := int64(-1)
	timer := time.NewTimer(p.limits.confirm)
	defer timer.Stop()
	for {
		var idle <-chan time.Time
		if unconfirmed >= 0 {
			idle = timer.C
		}
		select {
		case b := <-p.full:
			began := time.Now()
			if p.writer.write(ctx, b) == nil {
				p.lastWrite.Store(int64(time.Since(began)))
				unconfirmed = b.last + 1
				p.metrics.lag.WithLabelValues(partitionLabel(p.number)).Set(float64(max(0, p.queue.end()-unconfirmed)))
				b.reset()
				p.free <- b
				timer.Reset(p.limits.confirm)
			}
		case <-idle:
			if p.writer.confirm(ctx, p.number, unconfirmed) == nil {
				unconfirmed = -1
			}
		case <-p.stopping.Done():
			if unconfirmed >= 0 && p.writer.confirm(ctx, p.number, unconfirmed) != nil {
				p.writer.retry.logger.Warn("last block stays unconfirmed, it will be checked at the next start", "partition", p.number)
			}
			return
		case <-ctx.Done():
			return
		}
	}
}
