package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// settlement is the work on one block: until each of its rows is in the sink
// once, or put aside.
type settlement struct {
	*writer
	aside   map[int64]bool // offsets of rows the sink refused
	repairs int            // so far
}

// insertAgain inserts the rows of a block that somebody else may have been about
// to insert. A part of them being there means that it was cut (see insertHalves),
// and that its token as a whole means nothing.
func (s *settlement) insertAgain(ctx context.Context, r rows, token string) error {
	missing, err := s.missing(ctx, r)
	switch {
	case err != nil:
		return err
	case len(missing) < r.len():
		return s.complete(ctx, r, token)
	}
	if err := s.insert(ctx, r, token); err != nil {
		return err
	}
	return s.complete(ctx, r, token)
}

// splitAfter is how often ClickHouse may lack the memory for a block before it
// gets it in halves.
const splitAfter = 3

// insert brings the rows into the sink under the token.
func (s *settlement) insert(ctx context.Context, r rows, token string) error {
	if r.len() == 0 {
		return nil
	}
	var refusal, tooLarge error
	var unanswered time.Time // when it last stayed open whether the rows are there
	lacking := 0
	lost := false // an answer was
	err := s.retry.untilDone(ctx, "insert block", func(ctx context.Context) error {
		// A rebuilt table that has come in the place of the one that was inserted into
		// has its rows, but does not know their tokens.
		if lost && !s.replaces {
			if present, err := s.sink.present(ctx, r); err != nil || len(present) == r.len() {
				return err
			}
		}
		err := s.sink.insert(ctx, r, token)
		lost = lost || isLost(err)
		switch {
		case err == nil:
			return nil
		case isRefusal(err):
			refusal = err
			return nil
		case !isTooLarge(err):
			unanswered = time.Now()
		default:
			if lacking++; lacking >= splitAfter && r.len() > 1 && time.Since(unanswered) > s.longestInsert {
				tooLarge = err
				return nil
			}
		}
		return err
	})
	doubt := !unanswered.IsZero()
	switch {
	case err != nil:
		return err
	case refusal != nil && r.len() == 1:
		return s.putAsideRow(ctx, r, refusal)
	case refusal != nil, tooLarge != nil && (!doubt || s.replaces):
		return s.insertHalves(ctx, r, token)
	case doubt && !s.replaces:
		return s.complete(ctx, r, token)
	}
	return nil
}

// insertHalves finds the rows ClickHouse refuses by cutting. Where it cuts and
// the tokens of the halves depend on the rows alone, so that whoever repeats it
// does the same.
func (s *settlement) insertHalves(ctx context.Context, r rows, token string) error {
	mid := r.len() / 2
	for _, half := range []rows{r.slice(0, mid), r.slice(mid, r.len())} {
		part := fmt.Sprintf("%s/%d-%d", token, half.offset.of[0], half.offset.of[half.len()-1])
		if err := s.insert(ctx, half, part); err != nil {
			return err
		}
	}
	return nil
}

// maxRepairs is how often, for one block, rows are inserted that ClickHouse has
// confirmed and that are not there. Rows older than the table's retention, an hour at
// least, are gone as soon as they are there.
const (
	maxRepairs        = 10
	shortestRetention = time.Hour
)

// complete inserts the rows that are not in the sink although they should be.
// It must only be called when no insert of them is under way.
func (s *settlement) complete(ctx context.Context, r rows, token string) error {
	for n := 1; ; n++ {
		missing, err := s.missing(ctx, r)
		if err != nil || len(missing) == 0 {
			return err
		}
		if s.repairs++; s.repairs > maxRepairs && time.Since(r.newest(missing)) > shortestRetention {
			s.retry.logger.Warn("rows are gone each time they were inserted: they are older than the table's retention", "token", token, "rows", len(missing))
			return nil
		}
		s.retry.logger.Warn("rows of an inserted block are missing, inserting them", "token", token, "rows", len(missing), "repair", n)
		s.metrics.repaired.Add(float64(len(missing)))
		if err := s.insert(ctx, r.pick(missing), fmt.Sprintf("%s/repair-%d", token, n)); err != nil {
			return err
		}
	}
}

// newest is when the newest of some rows came to the log.
func (r *rows) newest(indexes []int) time.Time {
	newest := int64(0)
	for _, i := range indexes {
		newest = max(newest, r.loggedAt.of[i])
	}
	return time.UnixMilli(newest)
}

// missing are the indexes of the rows that are neither in the sink nor aside.
func (s *settlement) missing(ctx context.Context, r rows) (missing []int, err error) {
	err = s.retry.untilDone(ctx, "look for inserted rows", func(ctx context.Context) error {
		present, err := s.sink.present(ctx, r)
		if err != nil {
			return err
		}
		missing = missing[:0]
		for i, offset := range r.offset.of {
			if !present[offset] && !s.aside[offset] {
				missing = append(missing, i)
			}
		}
		return nil
	})
	return missing, err
}

// putAsideRow writes the record of a row that ClickHouse refused to the dead
// letter. The block has dropped the record, so it is read again.
func (s *settlement) putAsideRow(ctx context.Context, r rows, why error) error {
	s.aside[r.offset.of[0]] = true
	var record *kgo.Record
	if err := s.retry.untilDone(ctx, "read record again", func(ctx context.Context) (err error) {
		record, err = s.letters.read(ctx, r.partition.of[0], r.offset.of[0])
		return err
	}); err != nil {
		return err
	}
	if record == nil {
		s.retry.logger.Error("ClickHouse refuses a row whose record is no longer on the log", "partition", r.partition.of[0], "offset", r.offset.of[0], "error", why)
		s.metrics.deadLetters.WithLabelValues(notInserted).Inc()
		return nil
	}
	return s.putAsideRecord(ctx, record, refusal{notInserted, "ClickHouse refuses the row: " + why.Error()})
}
