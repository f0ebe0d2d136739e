package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// The sink a writer inserts into, the ledger it announces blocks in, and the
// place where it puts records that are no rows.
type (
	sink interface {
		insert(ctx context.Context, rows rows, token string) error
		present(ctx context.Context, rows rows) (map[int64]bool, error)
	}
	ledger interface {
		// commit puts the group's offset of the partition to at, with the
		// metadata. It fails when the partition is no longer ours.
		commit(ctx context.Context, partition int32, at int64, metadata string) error
	}
	deadLetters interface {
		put(ctx context.Context, record *kgo.Record, reason string) error
		// read gets a record from the log again; nil when it was deleted.
		read(ctx context.Context, partition int32, offset int64) (*kgo.Record, error)
	}
)

// writer brings blocks into the sink, each row exactly once:
//
//  1. Announce: commit the block's first offset with its range as metadata. This
//     confirms all blocks before it. Whoever takes the partition over from here
//     on forms this very block again.
//  2. Insert with a token made of the range. ClickHouse drops an insert whose
//     token it knows, so it may be sent any number of times.
//  3. When anybody may have sent it before without seeing the answer (a writer
//     that died, a connection that broke), look which offsets are there and
//     insert those that are not: ClickHouse writes the token before the rows, and
//     when it is killed in between it remembers a token whose rows never came.
//
// Everything that fails is tried again for ever. The writer gives up only when
// its context ends, and that is as safe as a crash.
type writer struct {
	sink    sink
	ledger  ledger
	letters deadLetters
	prefix  string // of tokens: identifies the projection and the topic
	// longestInsert is how long the sink may be busy with an insert whose answer
	// never came.
	longestInsert time.Duration
	lettersAtOnce int // dead letters under way
	// replaces: an insert that was answered has put the rows there, whoever sent it
	// before, so steps 2 and 3 are an insert without a token, repeated until it is
	// answered.
	replaces bool
	// rollups take what a block adds up to, which then has no rows; nil for tables of
	// rows.
	rollups *rollups
	retry   retry
	metrics *metrics
}

// token names the rows first to last of the partition.
func (w *writer) token(partition int32, rows offsets) string {
	return fmt.Sprintf("%s/%d-%d", w.partitionToken(partition), rows.first, rows.last)
}

func (w *writer) partitionToken(partition int32) string {
	return fmt.Sprintf("%s/%d", w.prefix, partition)
}

// write returns nil when every record of the block is a row or a dead letter,
// else the context's error.
func (w *writer) write(ctx context.Context, b *block) error {
	if !b.announced {
		if err := w.retry.untilDone(ctx, "announce block", func(ctx context.Context) error {
			return w.ledger.commit(ctx, b.partition, b.first, encodePlan(b.offsets))
		}); err != nil {
			return err
		}
	}
	if err := w.putAside(ctx, b); err != nil {
		return err
	}
	started := time.Now()
	if w.rollups != nil {
		if err := w.rollups.write(ctx, b, w.partitionToken(b.partition), w.token(b.partition, b.offsets)); err != nil {
			return err
		}
		w.metrics.blockDone(b, time.Since(started))
		return nil
	}
	settling := settlement{writer: w, aside: map[int64]bool{}}
	insert := settling.insert
	if b.announced && !w.replaces {
		insert = settling.insertAgain
	}
	if err := insert(ctx, b.rows, w.token(b.partition, b.offsets)); err != nil {
		return err
	}
	w.metrics.blockDone(b, time.Since(started))
	return nil
}

// confirm makes the offset of the next record known when no block follows whose
// announcement would do so.
func (w *writer) confirm(ctx context.Context, partition int32, next int64) error {
	return w.retry.untilDone(ctx, "confirm block", func(ctx context.Context) error {
		return w.ledger.commit(ctx, partition, next, "")
	})
}

// putAside writes the block's refused records to the dead letter.
func (w *writer) putAside(ctx context.Context, b *block) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(w.lettersAtOnce)
	for _, bad := range b.refused {
		group.Go(func() error { return w.putAsideRecord(ctx, bad.record, bad.refusal) })
	}
	return group.Wait()
}

func (w *writer) putAsideRecord(ctx context.Context, record *kgo.Record, bad refusal) error {
	if err := w.retry.untilDone(ctx, "write dead letter", func(ctx context.Context) error {
		return w.letters.put(ctx, record, bad.reason)
	}); err != nil {
		return err
	}
	w.metrics.deadLetters.WithLabelValues(bad.class).Inc()
	return nil
}
