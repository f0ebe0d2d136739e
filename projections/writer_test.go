package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// world is what outlives a crash: a partition, its ledger, ClickHouse and the
// dead letters. Everything a writer does in it can go wrong in every way it can
// in the real one.
type world struct {
	t *rapid.T
	// faults that are still to come; without them everything works.
	faults int
	crash  context.CancelFunc
	// replaces: rows take the place of those they had before, and tokens are nothing.
	replaces bool

	records   []*kgo.Record
	committed int64
	metadata  string
	tokens    map[string]bool
	rows      map[int64]int // copies by offset
	poison    map[int64]bool
	letters   map[int64]int
}

var (
	errOutage   = errors.New("connection refused")
	errPoison   = &driver.Exception{Code: 117, Message: "Cannot parse JSON"}
	errNoMemory = &driver.Exception{Code: 241, Message: "memory limit exceeded"}
)

// fault draws one of the ways, 0 being that all goes well.
func (w *world) fault(name string, ways int) int {
	if w.faults == 0 {
		return 0
	}
	// Most calls go well.
	if rapid.IntRange(0, 2).Draw(w.t, name+"?") != 0 {
		return 0
	}
	w.faults--
	return rapid.IntRange(0, ways).Draw(w.t, name)
}

func (w *world) die() error { w.crash(); return context.Canceled }

func (w *world) commit(ctx context.Context, _ int32, at int64, metadata string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	way := w.fault("commit", 4)
	switch way {
	case 1:
		return errOutage
	case 2:
		return w.die()
	}
	require.GreaterOrEqual(w.t, at, w.committed, "the ledger never goes back")
	w.committed, w.metadata = at, metadata
	switch way {
	case 3:
		return errOutage // the answer is lost
	case 4:
		return w.die()
	}
	return nil
}

func (w *world) insert(ctx context.Context, r rows, token string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	way := w.fault("insert", 6)
	switch way {
	case 1:
		return errOutage
	case 2:
		return w.die()
	case 3:
		return errNoMemory
	case 4: // ClickHouse is killed between the token and the rows
		if !w.anyPoison(r) {
			w.tokens[token] = true
		}
		return errOutage
	}
	if w.anyPoison(r) {
		return errPoison
	}
	if w.replaces {
		for _, offset := range r.offset.of {
			w.rows[offset] = 1
		}
	} else if !w.tokens[token] {
		w.tokens[token] = true
		for _, offset := range r.offset.of {
			w.rows[offset]++
		}
	}
	switch way {
	case 5:
		return errOutage // the answer is lost
	case 6:
		return w.die()
	}
	return nil
}

func (w *world) anyPoison(r rows) bool {
	for _, offset := range r.offset.of {
		if w.poison[offset] {
			return true
		}
	}
	return false
}

func (w *world) present(ctx context.Context, r rows) (map[int64]bool, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	switch w.fault("present", 2) {
	case 1:
		return nil, errOutage
	case 2:
		return nil, w.die()
	}
	present := map[int64]bool{}
	for _, offset := range r.offset.of {
		if w.rows[offset] > 0 {
			present[offset] = true
		}
	}
	return present, nil
}

func (w *world) put(ctx context.Context, r *kgo.Record, _ string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch w.fault("letter", 2) {
	case 1:
		return errOutage
	case 2:
		return w.die()
	}
	w.letters[r.Offset]++
	return nil
}

func (w *world) read(_ context.Context, _ int32, offset int64) (*kgo.Record, error) {
	for _, r := range w.records {
		if r.Offset == offset {
			return r, nil
		}
	}
	return nil, nil
}

// live is one life of a projection: from where the ledger says until it dies or
// all is done. Its blocks are as large as it happens.
func (w *world) live() {
	ctx, crash := context.WithCancel(context.Background())
	defer crash()
	w.crash = crash
	metrics, err := newMetrics(prometheus.NewRegistry(), "test")
	require.NoError(w.t, err)
	writer := &writer{sink: w, ledger: w, letters: w, prefix: "test", metrics: metrics, lettersAtOnce: 1, replaces: w.replaces,
		retry: retry{logger: slog.New(slog.DiscardHandler), first: 1, longest: 1, attempt: time.Minute, retried: func() {}}}
	cut := cutter{next: w.committed}
	b := newBlock(0, &telemetry)
	announced, err := decodePlan(w.committed, w.metadata)
	if err == nil {
		cut.redo = &announced
		b.announce(announced)
	}
	write := func() bool {
		err := writer.write(ctx, b)
		b.reset()
		return err == nil
	}
	for _, r := range w.records {
		if r.Offset < w.committed {
			continue // not fetched
		}
		switch cut.judge(r.Offset) {
		case skip:
		case take:
			b.add(r, time.Time{})
			if !b.announced && rapid.IntRange(0, 4).Draw(w.t, "close") == 0 && !write() {
				return
			}
		case takeAndClose:
			b.add(r, time.Time{})
			if !write() {
				return
			}
		case closeBefore:
			if !write() {
				return
			}
			cut.judge(r.Offset)
			b.add(r, time.Time{})
		}
	}
	if b.records > 0 && !write() {
		return
	}
	if n := len(w.records); n > 0 {
		_ = writer.confirm(ctx, 0, w.records[n-1].Offset+1)
	}
}

// TestEachRecordOnce: whatever fails, wherever it crashes and however the log is
// cut into blocks before and after, each good record is one row, each bad one a
// dead letter, and nothing is both.
func TestEachRecordOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, replaces: rapid.Bool().Draw(t, "replaces"), tokens: map[string]bool{}, rows: map[int64]int{}, poison: map[int64]bool{}, letters: map[int64]int{}}
		bad := map[int64]bool{}
		offset := int64(0)
		for range rapid.IntRange(0, 30).Draw(t, "records") {
			offset += int64(rapid.IntRange(1, 2).Draw(t, "gap")) // a log may have gaps
			r := goodRecord()
			r.Offset = offset
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				r.Value = []byte("{")
				bad[offset] = true
			case 1:
				w.poison[offset], bad[offset] = true, true
			}
			w.records = append(w.records, r)
		}
		w.faults = rapid.IntRange(0, 15).Draw(t, "faults")
		for lives := 0; ; lives++ {
			require.Less(t, lives, 100, "no progress")
			w.live()
			if n := len(w.records); n == 0 || w.committed == w.records[n-1].Offset+1 {
				break
			}
		}
		for _, r := range w.records {
			if bad[r.Offset] {
				require.Zero(t, w.rows[r.Offset], "offset %d is bad", r.Offset)
				require.Positive(t, w.letters[r.Offset], "offset %d is bad", r.Offset)
			} else {
				require.Equal(t, 1, w.rows[r.Offset], "offset %d", r.Offset)
				require.Zero(t, w.letters[r.Offset], "offset %d", r.Offset)
			}
		}
	})
}

// TestAnAnnouncedBlockWhoseRecordsAreGone: the log's retention may have deleted a
// block, or a part of it, before its insert was known to have happened.
func TestAnAnnouncedBlockWhoseRecordsAreGone(t *testing.T) {
	for name, test := range map[string]struct {
		plan  offsets
		first int64 // of the log
		want  []verdict
	}{
		"beginning gone": {offsets{5, 8}, 7, []verdict{take, takeAndClose, take}},
		"all gone":       {offsets{5, 8}, 10, []verdict{closeBefore, take, take}},
		"last gone":      {offsets{5, 8}, 9, []verdict{closeBefore, take}},
		"all there":      {offsets{5, 6}, 5, []verdict{take, takeAndClose, take}},
		"one record":     {offsets{5, 5}, 5, []verdict{takeAndClose, take}},
	} {
		t.Run(name, func(t *testing.T) {
			cut := cutter{next: test.plan.first, redo: &test.plan}
			offset := test.first
			for i, want := range test.want {
				got := cut.judge(offset)
				require.Equal(t, want, got, fmt.Sprint(i))
				if got != closeBefore {
					offset++
				}
			}
			require.Equal(t, skip, cut.judge(offset-1), "fetched twice")
		})
	}
}

// answers is a sink that gives the answers it has, and then takes everything.
type answers struct {
	sink
	given []error
	rows  int
}

func (a *answers) insert(_ context.Context, r rows, _ string) error {
	if len(a.given) > 0 {
		err := a.given[0]
		a.given = a.given[1:]
		return err
	}
	a.rows += r.len()
	return nil
}

// TestABlockTooLargeAfterAnOutageIsCut: rows that replace others are nowhere looked
// for, so a block is in doubt no longer than until its next insert.
func TestABlockTooLargeAfterAnOutageIsCut(t *testing.T) {
	metrics, err := newMetrics(prometheus.NewRegistry(), "test")
	require.NoError(t, err)
	s := &answers{given: []error{errOutage, errNoMemory, errNoMemory, errNoMemory}}
	w := &writer{sink: s, prefix: "test", metrics: metrics, replaces: true,
		retry: retry{logger: slog.New(slog.DiscardHandler), first: 1, longest: 1, attempt: time.Minute, retried: func() {}}}
	b := newBlock(0, &telemetry)
	for offset := range 4 {
		r := goodRecord()
		r.Offset = int64(offset)
		b.add(r, time.Time{})
	}
	require.NoError(t, (&settlement{writer: w, aside: map[int64]bool{}}).insert(t.Context(), b.rows, "token"))
	require.Equal(t, 4, s.rows)
}
