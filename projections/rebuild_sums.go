package projections

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// SumsTables is the name by which the tables of sums and of latest values are rebuilt,
// all together.
const SumsTables = "telemetry_sums"

const latestTable = "telemetry_latest"

// sumsStretch is what there is to do of one partition: for each table of sums up to
// the offset that the live one has.
type sumsStretch struct {
	partition int32
	begin     int64
	upTo      [len(intervals)]int64 // -1: nothing
	counts    [len(intervals)]uint64
}

// runSums rebuilds the tables of sums. Sums cannot be copied by their offsets, so the
// live tables refuse inserts all the while; their projection sits it out, and goes on
// where it was. Questions find what there was before.
func (r *Rebuild) runSums(ctx context.Context) (err error) {
	var tables []string
	for _, by := range intervals {
		tables = append(tables, by.table)
	}
	defer func() {
		resume, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
		defer cancel()
		for _, t := range tables {
			err = errors.Join(err, resumeInserts(resume, r.Conn, t))
		}
	}()
	for _, t := range tables {
		if err := r.Conn.Exec(ctx, "ALTER TABLE "+t+" MODIFY SETTING "+paused); err != nil {
			return fmt.Errorf("have %s refuse inserts: %w", t, err)
		}
		if err := r.quiet(ctx, &table{name: t}); err != nil {
			return err
		}
	}
	prefix, err := r.sumsPrefix(ctx)
	if err != nil {
		return err
	}
	parts, err := r.sumsStretches(ctx, prefix)
	if err != nil {
		return err
	}
	for _, t := range append(slices.Clone(tables), latestTable) {
		for _, statement := range []string{"DROP TABLE IF EXISTS " + t + shadowSuffix + " SYNC", "CREATE TABLE " + t + shadowSuffix + " AS " + t} {
			if err := r.Conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("make the shadow of %s: %w", t, err)
			}
		}
		if t != latestTable {
			if err := resumeInserts(ctx, r.Conn, t+shadowSuffix); err != nil { // it was made like one that refuses them
				return err
			}
		}
	}
	if err := r.replaySums(ctx, prefix, parts); err != nil {
		return fmt.Errorf("replay the log, the live tables are as they were: %w", err)
	}
	if err := r.verifySums(ctx, parts); err != nil {
		return fmt.Errorf("the live tables are as they were: %w", err)
	}
	return r.swapSums(ctx, tables, parts)
}

// sumsPrefix is what the live projection's marks begin with.
func (r *Rebuild) sumsPrefix(ctx context.Context) (string, error) {
	name := r.Log.Name(telemetrySumsTable.topic)
	topics, err := r.Log.Admin().ListTopics(ctx, name)
	if err != nil {
		return "", fmt.Errorf("look up topic %s: %w", name, err)
	}
	topic := topics[name]
	return telemetrySumsTable.name + "/" + name + "/" + hex.EncodeToString(topic.ID[:]), topic.Err
}

func (r *Rebuild) sumsStretches(ctx context.Context, prefix string) (parts []*sumsStretch, err error) {
	name := r.Log.Name(telemetrySumsTable.topic)
	begins, err := r.Log.Admin().ListStartOffsets(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up the beginning of %s: %w", name, err)
	}
	for partition := range r.Log.Partitions(telemetrySumsTable.topic) {
		begin, _ := begins.Lookup(name, partition)
		if begin.Err != nil {
			return nil, fmt.Errorf("look up partition %d of %s: %w", partition, name, begin.Err)
		}
		if begin.Offset > 0 {
			return nil, fmt.Errorf("the log has deleted the first %d messages of partition %d: what they add up to cannot be made anew", begin.Offset, partition)
		}
		p := &sumsStretch{partition: partition, begin: begin.Offset}
		for i, by := range intervals {
			var marks uint64
			var upTo float64
			if err := r.Conn.QueryRow(ctx, "SELECT count(), max(max) FROM "+by.table+" WHERE tenant = '' AND path = ?", fmt.Sprintf("%s/%d", prefix, partition)).Scan(&marks, &upTo); err != nil {
				return nil, fmt.Errorf("read how far %s is: %w", by.table, err)
			}
			if p.upTo[i] = -1; marks > 0 {
				p.upTo[i] = int64(upTo)
			}
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (r *Rebuild) replaySums(ctx context.Context, prefix string, parts []*sumsStretch) error {
	into := newRollups(r.Conn, retry{logger: r.Logger, first: firstPause, longest: longestPause, attempt: attemptTimeout, retried: func() {}})
	into.suffix = shadowSuffix
	all, done := int64(0), make(chan int64, 64)
	for _, p := range parts {
		all += slices.Max(p.upTo[:]) + 1 - p.begin
	}
	reporting := make(chan struct{})
	go func() { defer close(reporting); r.report(done, all) }()
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(rebuildPartitions)
	for _, p := range parts {
		if slices.Max(p.upTo[:]) >= p.begin {
			group.Go(func() error { return r.replayPartitionSums(working, into, prefix, p, done) })
		}
	}
	err := group.Wait()
	close(done)
	<-reporting
	return err
}

// replayPartitionSums adds up block by block. A block ends where a table ends.
func (r *Rebuild) replayPartitionSums(ctx context.Context, into *rollups, prefix string, p *sumsStretch, done chan<- int64) error {
	client, err := r.Log.NewClient(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Log.Name(telemetrySumsTable.topic): {p.partition: kgo.NewOffset().At(p.begin)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxPartitionBytes(fetchBytes))
	if err != nil {
		return err
	}
	defer client.Close()
	b := newBlock(p.partition, &telemetrySumsTable)
	last := slices.Max(p.upTo[:])
	for next := p.begin; next <= last; {
		fetches := client.PollRecords(ctx, pollRecords)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return fmt.Errorf("read partition %d: %w", p.partition, err)
		}
		before := next
		for _, record := range fetches.Records() {
			if record.Offset > last {
				break
			}
			b.add(record, time.Now())
			next = record.Offset + 1
			if b.records == sumsRecords || b.bytes >= rebuildBytes || slices.Contains(p.upTo[:], record.Offset) {
				if err := r.flushSums(ctx, into, prefix, p, b); err != nil {
					return err
				}
			}
		}
		if n := next - before; n > 0 {
			done <- n
		}
	}
	return nil
}

// flushSums writes the block into the tables that it belongs to.
func (r *Rebuild) flushSums(ctx context.Context, into *rollups, prefix string, p *sumsStretch, b *block) error {
	for i, sums := range b.filler.(*telemetrySums).sums {
		if b.last > p.upTo[i] {
			sums.all = sums.all[:0]
		}
		for n := range sums.all {
			p.counts[i] += sums.all[n].count
		}
	}
	mark := fmt.Sprintf("%s/%d", prefix, p.partition)
	err := into.write(ctx, b, mark, fmt.Sprintf("rebuild/%d/%s/%d-%d", time.Now().UnixNano(), mark, b.first, b.last))
	b.reset()
	return err
}

// verifySums compares how many numbers the shadows have with how many were added up.
func (r *Rebuild) verifySums(ctx context.Context, parts []*sumsStretch) error {
	for i, by := range intervals {
		var have, want uint64
		for _, p := range parts {
			want += p.counts[i]
		}
		if err := r.Conn.QueryRow(ctx, "SELECT sum(count) FROM "+by.table+shadowSuffix+" WHERE tenant != ''").Scan(&have); err != nil {
			return fmt.Errorf("verify the shadow of %s: %w", by.table, err)
		}
		if have != want {
			return fmt.Errorf("the shadow of %s has %d numbers, added up were %d", by.table, have, want)
		}
	}
	return nil
}

// swapSums puts the shadows in place. Latest values that came meanwhile are copied;
// that may be done any number of times.
func (r *Rebuild) swapSums(ctx context.Context, tables []string, parts []*sumsStretch) error {
	var newer []string
	for _, p := range parts {
		newer = append(newer, fmt.Sprint(slices.Max(p.upTo[:])))
	}
	copying := "INSERT INTO %s (tenant, path, device, component, module, last) SELECT tenant, path, device, component, module, last FROM %s WHERE last.offset > " +
		"arrayMin([" + strings.Join(newer, ", ") + "])"
	if err := r.Conn.Exec(ctx, fmt.Sprintf(copying, latestTable+shadowSuffix, latestTable)); err != nil {
		return fmt.Errorf("copy latest values, the live tables are as they were: %w", err)
	}
	for _, t := range tables {
		if still, err := isTablePaused(ctx, r.Conn, t); err != nil || !still {
			return errors.Join(err, fmt.Errorf("somebody has begun to insert into %s again, the live tables are as they were: try once more", t))
		}
	}
	for _, t := range append(slices.Clone(tables), latestTable) {
		if err := r.Conn.Exec(ctx, "EXCHANGE TABLES "+t+" AND "+t+shadowSuffix); err != nil {
			return fmt.Errorf("exchange %s and its shadow; run it once more: %w", t, err)
		}
	}
	if err := r.Conn.Exec(ctx, fmt.Sprintf(copying, latestTable, latestTable+shadowSuffix)); err != nil {
		return fmt.Errorf("copy latest values: %w", err)
	}
	for _, t := range append(slices.Clone(tables), latestTable) {
		if err := r.Conn.Exec(ctx, "DROP TABLE "+t+shadowSuffix+" SYNC"); err != nil {
			return fmt.Errorf("drop the old table, the new one is in place: %w", err)
		}
	}
	return nil
}
