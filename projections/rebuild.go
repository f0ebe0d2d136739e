package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// Rebuild is a table made anew from the log beside the live one, and put in its
// place.
//
//  1. A shadow of the table gets what the log has, partition by partition, up to where
//     the live projection is now. Inserts into the live table and questions go on.
//  2. The live table is told to refuse inserts for a moment, which its projection sits
//     out. What it got meanwhile is copied.
//  3. The shadow is verified: as many rows of each partition as records made rows, and
//     the sum of their offsets. Then the two change places, and the old one is dropped.
//
// What goes wrong before the last step leaves the live table as it was.
type Rebuild struct {
	// Log and Conn are where from and where to.
	Log  *eventlog.Log
	Conn *clickhouse.Conn
	// Table is one of Rebuildable.
	Table string
	// KeepOlder takes over rows of records that the log no longer has; without it they
	// are a reason not to begin.
	KeepOlder bool
	// Progress is called now and then with the records done, and those there are.
	Progress func(done, all int64)
	Logger   *slog.Logger
}

// rebuildable are the tables whose rows are records of a topic that keeps them all.
var rebuildable = []*table{&telemetry, &deviceEvents, &catalogEvents, &alertEvents, &jobEvents, &auditEvents}

// Rebuildable are the names of the tables that can be made anew.
func Rebuildable() (names []string) {
	for _, t := range rebuildable {
		names = append(names, t.name)
	}
	return append(names, SumsTables)
}

const (
	shadowSuffix = "__rebuild"
	// rebuildRows and rebuildBytes close a block: larger than a live one, nobody waits
	// for it.
	rebuildRows  = 200_000
	rebuildBytes = 64 << 20
	// rebuildPartitions are worked on at once.
	rebuildPartitions = 4
	progressEvery     = 500 * time.Millisecond
	// pauseLongest bounds how long the live table refuses inserts.
	pauseLongest = 2 * time.Minute
	// settling is how long it refuses them before it is copied. A projection that has
	// lost an answer looks for its rows with each attempt, longestPause apart, and has
	// found them then: they are not inserted once more into the table that comes.
	settling = longestPause + 2*time.Second
)

// stretch is what there is to do of one partition.
type stretch struct {
	partition  int32
	begin, end int64 // offsets; end is not included
	rows, sum  int64 // made of its records, and the sum of their offsets
}

// Run rebuilds the table. Its errors say what became of it.
func (r *Rebuild) Run(ctx context.Context) (err error) {
	i := slices.IndexFunc(rebuildable, func(t *table) bool { return t.name == r.Table })
	switch {
	case r.Conn.Cluster() != "":
		return errors.New("a table of a cluster cannot be rebuilt yet: its shards would have to change places at once")
	case r.Table == SumsTables:
		return r.runSums(ctx)
	case i < 0:
		return fmt.Errorf("table %q cannot be rebuilt: use one of %s", r.Table, strings.Join(Rebuildable(), ", "))
	}
	live := rebuildable[i]
	shadow := *live
	shadow.name += shadowSuffix
	parts, err := r.stretches(ctx, live)
	if err != nil {
		return err
	}
	for _, statement := range []string{"DROP TABLE IF EXISTS " + shadow.name + " SYNC", "CREATE TABLE " + shadow.name + " AS " + live.name} {
		if err := r.Conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make the shadow %s: %w", shadow.name, err)
		}
	}
	if err := r.replay(ctx, &shadow, parts); err != nil {
		return fmt.Errorf("replay the log into %s, the live table is as it was: %w", shadow.name, err)
	}
	if err := r.swap(ctx, live, &shadow, parts); err != nil {
		return fmt.Errorf("put %s in place, the live table is as it was: %w", shadow.name, err)
	}
	return nil
}

// stretches finds out what the log has.
func (r *Rebuild) stretches(ctx context.Context, live *table) ([]*stretch, error) {
	topic := r.Log.Name(live.topic)
	begins, err := r.Log.Admin().ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("look up the beginning of %s: %w", topic, err)
	}
	// Only what the live projection is done with is replayed: it will insert the rest
	// itself, into whichever table is there.
	ends, err := r.Log.Admin().FetchOffsetsForTopics(ctx, r.Log.Group(live.projection), topic)
	if err != nil {
		return nil, fmt.Errorf("look up how far the projection of %s is: %w", live.name, err)
	}
	var parts []*stretch
	for partition := range r.Log.Partitions(live.topic) {
		begin, _ := begins.Lookup(topic, partition)
		end, _ := ends.Lookup(topic, partition)
		if err := errors.Join(begin.Err, end.Err); err != nil {
			return nil, fmt.Errorf("look up partition %d of %s: %w", partition, topic, err)
		}
		var older uint64
		if err := r.Conn.QueryRow(ctx, "SELECT count() FROM "+live.name+" WHERE partition = ? AND offset < ?", partition, begin.Offset).Scan(&older); err != nil {
			return nil, fmt.Errorf("count rows of %s that are older than the log: %w", live.name, err)
		}
		if older > 0 && !r.KeepOlder {
			return nil, fmt.Errorf("%d rows of %s are of records that the log has deleted: they cannot be made anew; take them over as they are with --keep-older", older, live.name)
		}
		parts = append(parts, &stretch{partition: partition, begin: begin.Offset, end: max(end.At, begin.Offset)})
	}
	return parts, nil
}

// replay fills the shadow.
func (r *Rebuild) replay(ctx context.Context, shadow *table, parts []*stretch) error {
	w := &writer{
		sink: &clickHouse{r.Conn, shadow}, ledger: noLedger{}, letters: noLetters{}, prefix: fmt.Sprintf("%s/%d", shadow.name, time.Now().UnixNano()),
		longestInsert: serverTimeout, lettersAtOnce: 1, metrics: noMetrics(shadow.projection),
		retry: retry{logger: r.Logger, first: firstPause, longest: longestPause, attempt: attemptTimeout, retried: func() {}},
	}
	all, done := int64(0), make(chan int64, 64)
	for _, p := range parts {
		all += p.end - p.begin
	}
	reporting := make(chan struct{})
	go func() { defer close(reporting); r.report(done, all) }()
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(rebuildPartitions)
	for _, p := range parts {
		if p.end > p.begin {
			group.Go(func() error { return r.replayPartition(working, w, shadow, p, done) })
		}
	}
	err := group.Wait()
	close(done)
	<-reporting
	return err
}

func (r *Rebuild) report(done <-chan int64, all int64) {
	so, last := int64(0), time.Time{}
	for n := range done {
		if so += n; r.Progress != nil && (time.Since(last) > progressEvery || so == all) {
			last = time.Now()
			r.Progress(so, all)
		}
	}
}

// replayPartition writes one block while it fills the next.
func (r *Rebuild) replayPartition(ctx context.Context, w *writer, shadow *table, p *stretch, done chan<- int64) (err error) {
	client, err := r.Log.NewClient(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Log.Name(shadow.topic): {p.partition: kgo.NewOffset().At(p.begin)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxPartitionBytes(fetchBytes))
	if err != nil {
		return err
	}
	defer client.Close()
	blocks := [2]*block{newBlock(p.partition, shadow), newBlock(p.partition, shadow)}
	var writing errgroup.Group
	defer func() { err = errors.Join(err, writing.Wait()) }()
	for next, full := p.begin, 0; next < p.end; {
		b := blocks[full%2]
		fetches := client.PollRecords(ctx, pollRecords)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return fmt.Errorf("read partition %d: %w", p.partition, err)
		}
		before := next
		fetches.EachRecord(func(record *kgo.Record) {
			if record.Offset < p.end {
				b.add(record, time.Now())
				next = record.Offset + 1
			}
		})
		if fetches.NumRecords() == 0 {
			continue
		}
		done <- next - before
		if b.records < rebuildRows && b.bytes < rebuildBytes && next < p.end {
			continue
		}
		if err := writing.Wait(); err != nil {
			return err
		}
		for _, offset := range b.rows.offset.of {
			p.rows++
			p.sum += offset
		}
		writing = errgroup.Group{}
		writing.Go(func() error {
			defer b.reset()
			return w.write(ctx, b)
		})
		full++
	}
	return nil
}

// swap puts the shadow in the live table's place.
func (r *Rebuild) swap(ctx context.Context, live, shadow *table, parts []*stretch) (err error) {
	ctx, cancel := context.WithTimeout(ctx, pauseLongest)
	defer cancel()
	if err := r.Conn.Exec(ctx, "ALTER TABLE "+live.name+" MODIFY SETTING "+paused); err != nil {
		return fmt.Errorf("have %s refuse inserts: %w", live.name, err)
	}
	swapped := live.name
	defer func() {
		resume, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
		defer cancel()
		if swapped == live.name { // else it is gone
			err = errors.Join(err, resumeInserts(resume, r.Conn, live.name))
		}
	}()
	if err := r.quiet(ctx, live); err != nil {
		return err
	}
	settled := time.NewTimer(settling)
	defer settled.Stop()
	select {
	case <-settled.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.copyRest(ctx, live, shadow, parts); err != nil {
		return err
	}
	if err := r.verify(ctx, shadow, parts); err != nil {
		return err
	}
	if still, err := isTablePaused(ctx, r.Conn, live.name); err != nil || !still {
		return errors.Join(err, errors.New("somebody has begun to insert again: try once more"))
	}
	if err := r.Conn.Exec(ctx, "EXCHANGE TABLES "+live.name+" AND "+shadow.name); err != nil {
		return fmt.Errorf("exchange %s and %s: %w", live.name, shadow.name, err)
	}
	swapped = shadow.name
	if err := r.Conn.Exec(ctx, "DROP TABLE "+shadow.name+" SYNC"); err != nil {
		return fmt.Errorf("drop the old table, the new one is in place: %w", err)
	}
	return nil
}

// paused has every insert into a table fail with TOO_MANY_PARTS, which a projection
// sits out.
const paused = "max_parts_in_total = 1, parts_to_throw_insert = 1, parts_to_delay_insert = 1"

func isTablePaused(ctx context.Context, conn *clickhouse.Conn, table string) (bool, error) {
	var engine string
	if err := conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = ? AND name = ?", conn.Database(), table).Scan(&engine); err != nil {
		return false, fmt.Errorf("look whether %s takes inserts: %w", table, err)
	}
	return strings.Contains(engine, paused), nil
}

func resumeInserts(ctx context.Context, conn *clickhouse.Conn, table string) error {
	if err := conn.Exec(ctx, "ALTER TABLE "+table+" RESET SETTING max_parts_in_total, parts_to_throw_insert, parts_to_delay_insert"); err != nil {
		return fmt.Errorf("have %s take inserts again: %w", table, err)
	}
	return nil
}

// quiet waits until no insert into the table is under way.
func (r *Rebuild) quiet(ctx context.Context, live *table) error {
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		var running uint64
		if err := r.Conn.QueryRow(ctx, "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND query LIKE ?", "INSERT INTO "+live.name+" (%").Scan(&running); err != nil {
			return fmt.Errorf("look for inserts into %s: %w", live.name, err)
		}
		if running == 0 {
			tick.Stop()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("an insert into %s does not end: %w", live.name, ctx.Err())
		}
	}
}

// copyRest copies what the live table has beyond the replayed stretches, and before
// them.
func (r *Rebuild) copyRest(ctx context.Context, live, shadow *table, parts []*stretch) error {
	var some []string
	for _, p := range parts {
		some = append(some, fmt.Sprintf("partition = %d AND (offset >= %d OR offset < %d)", p.partition, p.end, p.begin))
	}
	if err := r.Conn.Exec(ctx, "INSERT INTO "+shadow.name+" SELECT * FROM "+live.name+" WHERE "+strings.Join(some, " OR ")); err != nil {
		return fmt.Errorf("copy what came meanwhile: %w", err)
	}
	return nil
}

// verify compares the shadow with what was replayed.
func (r *Rebuild) verify(ctx context.Context, shadow *table, parts []*stretch) error {
	for _, p := range parts {
		var rows uint64
		var sum int64
		if err := r.Conn.QueryRow(ctx, "SELECT count(), sum(offset) FROM "+shadow.name+" WHERE partition = ? AND offset >= ? AND offset < ?", p.partition, p.begin, p.end).Scan(&rows, &sum); err != nil {
			return fmt.Errorf("verify partition %d: %w", p.partition, err)
		}
		if int64(rows) != p.rows || sum != p.sum {
			return fmt.Errorf("partition %d of %s has %d rows whose offsets add up to %d, made were %d and %d", p.partition, shadow.name, rows, sum, p.rows, p.sum)
		}
	}
	return nil
}

// noLedger is that of a replay, which begins anew when it is broken off.
type noLedger struct{}

func (noLedger) commit(context.Context, int32, int64, string) error { return nil }

// noLetters is that of a replay: what is no row has its dead letter already.
type noLetters struct{}

func (noLetters) put(context.Context, *kgo.Record, string) error { return nil }

func (noLetters) read(context.Context, int32, int64) (*kgo.Record, error) { return nil, nil } //nolint:nilnil // there is none to put aside
