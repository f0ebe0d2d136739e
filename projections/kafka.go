package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// groupLedger is the ledger in a consumer group's offsets.
type groupLedger struct {
	client *kgo.Client
	admin  *kadm.Client
	group  string
	topic  string
}

// commit fails when another node has the partition: the group's generation
// fences it.
func (l *groupLedger) commit(ctx context.Context, partition int32, at int64, metadata string) error {
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for t := range req.Topics {
			for p := range req.Topics[t].Partitions {
				req.Topics[t].Partitions[p].Metadata = &metadata
			}
		}
		return nil
	})
	err := errors.New("broker answered for other partitions")
	l.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{l.topic: {partition: {Epoch: -1, Offset: at}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, requestErr error) {
			if requestErr != nil {
				err = requestErr
				return
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					err = kerr.ErrorForCode(p.ErrorCode)
				}
			}
		})
	if err != nil {
		return fmt.Errorf("commit offset %d of %s/%d: %w", at, l.topic, partition, err)
	}
	return nil
}

// locate reads where the group stands in the partition. Metadata that is no plan
// is reported as no announced block, with the error.
func (l *groupLedger) locate(ctx context.Context, partition int32) (at position, badPlan, err error) {
	committed, err := l.admin.FetchOffsetsForTopics(ctx, l.group, l.topic)
	if err != nil {
		return position{}, nil, fmt.Errorf("fetch offsets of group %s: %w", l.group, err)
	}
	o, ok := committed.Lookup(l.topic, partition)
	switch {
	case !ok || o.Err == nil && o.At < 0:
		return position{next: -1}, nil, nil
	case o.Err != nil:
		return position{}, nil, fmt.Errorf("fetch offset of %s/%d: %w", l.topic, partition, o.Err)
	}
	at.next = o.At
	block, planErr := decodePlan(o.At, o.Metadata)
	switch {
	case planErr == nil:
		at.block = &block
	case !errors.Is(planErr, errNoPlan):
		return at, planErr, nil
	}
	return at, nil, nil
}

// logLetters puts dead letters on the log and reads records from it again.
type logLetters struct {
	log   *eventlog.Log
	topic eventlog.Topic
	stage string
}

func (l *logLetters) put(ctx context.Context, record *kgo.Record, reason string) error {
	if l.topic == eventlog.DeadLetter {
		return nil // it is one, and another of it would come back here
	}
	err := l.log.DeadLetter(ctx, record, l.stage, reason)
	if errors.Is(err, kerr.MessageTooLarge) {
		// With the headers of a dead letter it is larger than a record may be.
		short := *record
		short.Value = nil
		err = l.log.DeadLetter(ctx, &short, l.stage, reason+"; the payload is too large to be repeated here")
	}
	return err
}

func (l *logLetters) read(ctx context.Context, partition int32, offset int64) (*kgo.Record, error) {
	name := l.log.Name(l.topic)
	client, err := l.log.NewClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {partition: kgo.NewOffset().At(offset)}}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for {
		fetches := client.PollRecords(ctx, 1)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read %s/%d@%d: %w", name, partition, offset, err)
		}
		for _, r := range fetches.Records() {
			if r.Offset == offset {
				return r, nil
			}
			return nil, nil // the log begins behind it
		}
	}
}

// Settings of the consumer.
const (
	sessionTimeout = 10 * time.Second
	fetchBytes     = 16 << 20
	fetchPartition = 4 << 20
	pollRecords    = 20_000
	// rebalanceTimeout is how long a rebalance waits for a node that died in it;
	// a live one needs stopGrace and a moment.
	rebalanceTimeout = 15 * time.Second
)

// consumerOpts join the group, under the node's own name when it has one. Offsets
// are committed by the writers only.
func (p *Projection) consumerOpts(group, topic string) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(sessionTimeout),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartition),
	}
	if p.options.Node != "" {
		opts = append(opts, kgo.InstanceID(p.options.Node))
	}
	if p.table.gaps {
		// The marker that ends a transaction is a partition's last record. Without
		// it the projection would never be seen to have come to the end.
		opts = append(opts, kgo.KeepControlRecords())
	}
	return opts
}
