package eventlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Stage is a consume-process-append step: what it reads, how it learns its
// state, and what it makes of a batch.
type Stage struct {
	// Name is the stage's consumer group and transactional id, with the log's
	// prefix.
	Name string
	// Topic the stage reads.
	Topic Topic
	// Load makes the stage forget what it held for the partition and build it
	// anew from the log. It is called before the first batch of a partition that
	// this node has just been given, and again after a transaction that failed.
	Load func(ctx context.Context, partition int32) error
	// Handle turns a batch of one partition into the records to append, each
	// with its Topic and Partition. What it appends and how far it has read are
	// committed together, or not at all.
	Handle func(ctx context.Context, partition int32, batch []*kgo.Record) ([]*kgo.Record, error)
}

const (
	// maxBatch bounds a transaction, so that readers see progress.
	maxBatch = 10_000
	// transactionTimeout is how long readers wait at most for a node that died
	// in a transaction and does not come back.
	transactionTimeout = 15 * time.Second
	sessionTimeout     = 10 * time.Second
)

// Transact runs a stage exactly once: each batch's appends and offsets are one
// Kafka transaction. The node id makes the transactional id: it must be stable
// over restarts, so that a restarted node ends what it left open, and unlike
// that of any other node. Transact returns nil when ctx ends; anything else that
// goes wrong it logs and tries again.
func (l *Log) Transact(ctx context.Context, node string, s Stage) error {
	// Retry fails only when ctx ends: a session that fails is tried again for ever.
	_, _ = backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, l.transactSession(ctx, node, s)
	}, backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		l.logger.Warn("processing stage failed, trying again", "stage", s.Name, "error", err, "wait", wait)
	}))
	return nil
}

// held is the set of partitions whose state is loaded. Rebalance callbacks
// empty it from the client's goroutine.
type held struct {
	mu         sync.Mutex
	partitions map[int32]bool
}

func (h *held) has(p int32) bool { h.mu.Lock(); defer h.mu.Unlock(); return h.partitions[p] }
func (h *held) add(p int32)      { h.mu.Lock(); defer h.mu.Unlock(); h.partitions[p] = true }
func (h *held) clear()           { h.mu.Lock(); defer h.mu.Unlock(); clear(h.partitions) }

func (l *Log) transactSession(ctx context.Context, node string, s Stage) error {
	loaded := &held{partitions: map[int32]bool{}}
	forget := func(context.Context, *kgo.Client, map[string][]int32) { loaded.clear() }
	session, err := kgo.NewGroupTransactSession(append(append([]kgo.Opt{}, l.base...),
		kgo.ConsumerGroup(l.Group(s.Name)),
		kgo.ConsumeTopics(l.Name(s.Topic)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.InstanceID(node), // a restarted node has its partitions back at once
		kgo.TransactionalID(l.Group(s.Name)+"."+node),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.SessionTimeout(sessionTimeout),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(MaxRecordBytes),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.OnPartitionsRevoked(forget),
		kgo.OnPartitionsLost(forget),
	)...)
	if err != nil {
		return fmt.Errorf("open stage %s: %w", s.Name, err)
	}
	defer session.Close()
	for {
		fetches := session.PollRecords(ctx, maxBatch)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			session.Close()
			if err := l.LeaveGroup(ctx, s.Name, node); err != nil {
				l.logger.Warn("the other nodes have to wait for this one's partitions", "stage", s.Name, "error", err)
			}
			return nil
		}
		l.logFetchErrors(fetches)
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := l.transactBatch(ctx, session, loaded, s, fetches); err != nil {
			return err
		}
	}
}

// transactBatch commits one poll's work. State that ran ahead of a transaction
// that did not commit is dropped and loaded again.
func (l *Log) transactBatch(ctx context.Context, session *kgo.GroupTransactSession, loaded *held, s Stage, fetches kgo.Fetches) error {
	if err := session.Begin(); err != nil {
		return fmt.Errorf("begin transaction of %s: %w", s.Name, err)
	}
	appended := kgo.AbortingFirstErrPromise(session.Client())
	handleErr := handleFetches(ctx, session, loaded, s, fetches, appended)
	if appendErr := appended.Err(); handleErr == nil && appendErr != nil {
		handleErr = fmt.Errorf("append results of %s: %w", s.Name, appendErr)
	}
	// The transaction is ended even while shutting down, so that it does not
	// stay open before the eyes of every reader.
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionTimeout)
	defer cancel()
	committed, err := session.End(endCtx, kgo.TransactionEndTry(handleErr == nil))
	if err != nil {
		return fmt.Errorf("end transaction of %s: %w", s.Name, err)
	}
	if !committed {
		loaded.clear()
	}
	return handleErr
}

func handleFetches(ctx context.Context, session *kgo.GroupTransactSession, loaded *held, s Stage, fetches kgo.Fetches, appended *kgo.FirstErrPromise) error {
	var firstErr error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if firstErr != nil || len(p.Records) == 0 {
			return
		}
		if !loaded.has(p.Partition) {
			if err := s.Load(ctx, p.Partition); err != nil {
				firstErr = fmt.Errorf("load state of %s for partition %d: %w", s.Name, p.Partition, err)
				return
			}
			loaded.add(p.Partition)
		}
		out, err := s.Handle(ctx, p.Partition, p.Records)
		if err != nil {
			firstErr = fmt.Errorf("handle batch of %s in partition %d: %w", s.Name, p.Partition, err)
			return
		}
		for _, r := range out {
			session.Produce(ctx, r, appended.Promise())
		}
	})
	return firstErr
}
