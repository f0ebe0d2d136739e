package eventlog

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Follow reads a whole topic from its start and then along with its growth,
// committed records only, until ctx ends, which is its only way to return nil.
// It calls apply for each record in partition order, and caughtUp once, when
// everything that was committed at the time of the call has been applied. Both
// are called from Follow's own goroutine.
//
// A follower belongs to no consumer group: every node that follows sees
// everything.
func (l *Log) Follow(ctx context.Context, t Topic, apply func(*kgo.Record), caughtUp func()) error {
	behind, err := l.behind(ctx, t, l.admin.ListCommittedOffsets)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	client, err := l.NewClient(append(readCommitted(), kgo.ConsumeTopics(l.Name(t)), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer client.Close()
	if len(behind) == 0 {
		caughtUp()
		caughtUp = func() {}
	}
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil
		}
		l.logFetchErrors(fetches)
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				apply(r)
			}
			if end, ok := behind[r.Partition]; ok && r.Offset >= end-1 {
				delete(behind, r.Partition)
				if len(behind) == 0 {
					caughtUp()
				}
			}
		})
	}
}

// ReadPartition reads one partition from its start up to its end at the time of the
// call, and calls apply for each record that is committed.
//
// It waits for transactions that are open at the end. One whose outcome is decided
// may not have its marker in the partition yet, although its offsets are committed
// (Kafka writes the markers one by one): who takes a partition over and read only up
// to the last stable offset would miss the last state of who had it before.
func (l *Log) ReadPartition(ctx context.Context, t Topic, partition int32, apply func(*kgo.Record)) error {
	behind, err := l.behind(ctx, t, l.admin.ListEndOffsets)
	if err != nil {
		return err
	}
	end, ok := behind[partition]
	if !ok {
		return nil
	}
	start := map[string]map[int32]kgo.Offset{l.Name(t): {partition: kgo.NewOffset().AtStart()}}
	client, err := l.NewClient(append(readCommitted(), kgo.ConsumePartitions(start))...)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s/%d: %w", l.Name(t), partition, err)
		}
		l.logFetchErrors(fetches)
		done := false
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() && r.Offset < end {
				apply(r)
			}
			done = done || r.Offset >= end-1
		})
		if done {
			return nil
		}
	}
}

// readCommitted shows control records too: a transaction's commit marker holds
// the last offset of a partition, and without it a reader could not tell that
// it has reached the end.
func readCommitted() []kgo.Opt {
	return []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()}
}

// behind is the end offset of each partition that holds anything; listEnds says
// whether that of what is committed.
func (l *Log) behind(ctx context.Context, t Topic, listEnds func(context.Context, ...string) (kadm.ListedOffsets, error)) (map[int32]int64, error) {
	name := l.Name(t)
	starts, err := l.admin.ListStartOffsets(ctx, name)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list start offsets of %s: %w", name, err)
	}
	ends, err := listEnds(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list end offsets of %s: %w", name, err)
	}
	behind := map[int32]int64{}
	for partition, end := range ends[name] {
		if start, ok := starts.Lookup(name, partition); !ok || start.Offset < end.Offset {
			behind[partition] = end.Offset
		}
	}
	return behind, nil
}

func (l *Log) logFetchErrors(fetches kgo.Fetches) {
	fetches.EachError(func(topic string, partition int32, err error) {
		l.logger.Warn("cannot read from the log, trying again", "topic", topic, "partition", partition, "error", err)
	})
}
