package projections

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections/schema"
)

// Options have good defaults; the zero value is fine.
type Options struct {
	// Logger takes what an operator should know; slog.Default() when nil.
	Logger *slog.Logger
	// Registerer takes the metrics; nobody does when nil.
	Registerer prometheus.Registerer
	// Node is this node's name in the consumer group, stable over restarts and
	// unlike any other node's: a node that was killed has its partitions back as
	// soon as it returns, instead of when the group has given it up. Empty: a new
	// member with every start.
	Node string
	// Retention is what the tables in it are to have; the others keep theirs.
	Retention schema.Retention
	// Linger is how long a block that is not full waits for more records: at
	// least this, and up to a second when inserts are slow; 250 ms when zero.
	// Longer makes fewer and larger parts in ClickHouse, and rows visible later.
	Linger time.Duration
	// BlockRows closes a block; 50,000 when zero.
	BlockRows int
	// BlockBytes closes a block; 16 MiB when zero. A partition holds two
	// blocks, and half as much in fetched records.
	BlockBytes int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Linger == 0 {
		o.Linger = 250 * time.Millisecond
	}
	if o.BlockRows == 0 {
		o.BlockRows = 50_000
	}
	if o.BlockBytes == 0 {
		o.BlockBytes = 16 << 20
	}
	return o
}

const (
	// confirmAfter is how long a block waits for the next one to confirm it.
	confirmAfter = time.Second
	// attemptTimeout bounds one attempt at anything.
	attemptTimeout = 60 * time.Second
	firstPause     = 100 * time.Millisecond
	longestPause   = 5 * time.Second
	// stopGrace is how long the block in hand may take at shutdown and when
	// the group takes a partition away. Giving up is safe, only slower for who
	// comes next.
	stopGrace = 5 * time.Second
	// leaveTimeout bounds saying goodbye to the group.
	leaveTimeout = 2 * time.Second
)

// Projection carries one topic into one table.
type Projection struct {
	table   *table
	log     *eventlog.Log
	conn    *clickhouse.Conn
	options Options
	logger  *slog.Logger
	metrics *metrics
	retry   retry
	grace   time.Duration
	state   atomic.Pointer[string] // why it is not ready, nil when it is

	// partitions this node has. The group's callbacks change it.
	mu         sync.Mutex
	partitions map[int32]*partition
}

// newProjection prepares a projection. It fails when the registerer has the
// metrics of another one of the same name already.
func newProjection(t *table, log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	options = options.withDefaults()
	metrics, err := newMetrics(options.Registerer, t.projection)
	if err != nil {
		return nil, err
	}
	p := &Projection{
		table: t, log: log, conn: conn, options: options,
		logger:     options.Logger.With("projection", t.projection),
		metrics:    metrics,
		grace:      stopGrace,
		partitions: map[int32]*partition{},
	}
	p.retry = retry{logger: p.logger, first: firstPause, longest: longestPause, attempt: attemptTimeout, retried: metrics.retries.Inc}
	p.notReady("the projection has not started")
	return p, nil
}

// Ready is nil when the schema is in place and the group has given this node its
// partitions, which may be none.
func (p *Projection) Ready() error {
	if why := p.state.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

func (p *Projection) notReady(why string) { p.state.Store(&why) }

// Run projects until ctx ends, and then finishes the blocks in hand, for a
// bounded time. It outlives every outage of ClickHouse and of the log. It
// fails only when the database cannot have the schema this program needs.
// It can be called again after it has returned.
func (p *Projection) Run(ctx context.Context) error {
	if err := p.prepareSchema(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	p.notReady("the projection waits for its consumer group")
	id, err := p.topicID(ctx)
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	topic := p.log.Name(p.table.topic)
	group := p.log.Group(p.table.projection)
	// The partitions outlive ctx by the grace they are given in stop.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ledger := &groupLedger{admin: p.log.Admin(), group: group, topic: topic}
	w := &writer{
		sink:    &clickHouse{p.conn, p.table},
		ledger:  ledger,
		letters: &logLetters{log: p.log, topic: p.table.topic, stage: p.table.projection},
		prefix:  p.table.name + "/" + topic + "/" + id,

		longestInsert: serverTimeout,
		lettersAtOnce: 256,
		replaces:      p.table.replaces,
		retry:         p.retry, metrics: p.metrics,
	}
	if p.table.rollups {
		w.rollups = newRollups(p.conn, p.retry)
	}
	ready := make(chan struct{})
	client, err := p.log.NewClient(append(p.consumerOpts(group, topic),
		kgo.OnPartitionsAssigned(func(_ context.Context, client *kgo.Client, assigned map[string][]int32) {
			<-ready // the ledger's client
			p.take(working, client, w, ledger, assigned[topic])
			p.state.Store(nil)
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, revoked map[string][]int32) {
			p.giveBack(revoked[topic], p.grace)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			p.giveBack(lost[topic], 0)
		}))...)
	if err != nil {
		return err
	}
	ledger.client = client
	close(ready)
	p.logger.Info("projection started", "topic", topic, "group", group, "database", p.conn.Database())
	p.poll(ctx, client)

	p.notReady("the projection has stopped")
	p.leave(working, client)
	return nil
}

// leave gives the partitions back, which waits for the blocks in hand, and takes
// this node out of the group.
func (p *Projection) leave(ctx context.Context, client *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, p.grace+leaveTimeout)
	defer cancel()
	err := client.LeaveGroupContext(ctx)
	p.giveBackAll()
	client.Close()
	if p.options.Node != "" { // whose place the client keeps
		err = errors.Join(err, p.log.LeaveGroup(ctx, p.table.projection, p.options.Node))
	}
	if err != nil {
		p.logger.Warn("did not leave the consumer group: the other nodes have to wait for this one's partitions", "error", err)
	}
}

// ignoreEnd makes the end of ctx no error.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

func (p *Projection) prepareSchema(ctx context.Context) error {
	p.notReady("the projection waits for ClickHouse to take its schema")
	var impossible error
	err := p.retry.untilDone(ctx, "migrate schema", func(ctx context.Context) error {
		err := schema.Migrate(ctx, p.conn)
		if err == nil {
			err = p.options.Retention.Apply(ctx, p.conn)
		}
		if errors.Is(err, schema.ErrIncompatible) {
			impossible = err
			return nil
		}
		if err != nil {
			return err
		}
		return p.endPause(ctx)
	})
	return errors.Join(err, impossible)
}

// endPause has a table take inserts again that a rebuild which was killed left paused.
func (p *Projection) endPause(ctx context.Context) error {
	names := []string{p.table.name}
	if p.table.rollups {
		names = names[:0]
		for _, by := range intervals {
			names = append(names, by.table)
		}
	}
	for _, name := range names {
		paused, err := isTablePaused(ctx, p.conn, name)
		if err != nil {
			return err
		}
		if !paused {
			continue
		}
		p.logger.Warn("a rebuild was killed while the table refused inserts: it takes them again", "table", name)
		if err := resumeInserts(ctx, p.conn, name); err != nil {
			return err
		}
	}
	return nil
}

// topicID tells a topic from another one that had its name before: its offsets
// begin anew, and so must the tokens made of them.
func (p *Projection) topicID(ctx context.Context) (id string, err error) {
	name := p.log.Name(p.table.topic)
	err = p.retry.untilDone(ctx, "look up topic", func(ctx context.Context) error {
		topics, err := p.log.Admin().ListTopics(ctx, name)
		if err != nil {
			return fmt.Errorf("look up topic %s: %w", name, err)
		}
		topic := topics[name]
		id = hex.EncodeToString(topic.ID[:])
		return topic.Err
	})
	return id, err
}

// poll hands fetched records to their partitions until ctx ends.
func (p *Projection) poll(ctx context.Context, client *kgo.Client) {
	for {
		fetches := client.PollRecords(ctx, pollRecords)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(_ string, number int32, err error) {
			p.logger.Warn("fetch failed, trying again", "partition", number, "error", err)
		})
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			p.mu.Lock()
			mine := p.partitions[fetched.Partition]
			p.mu.Unlock()
			if mine != nil { // else it was just taken away
				mine.queue.push(fetched.Records, fetched.HighWatermark)
			}
		})
	}
}

// take begins work on the partitions.
func (p *Projection) take(ctx context.Context, client *kgo.Client, w *writer, l *groupLedger, numbers []int32) {
	if len(numbers) > 0 {
		p.logger.Info("partitions taken", "partitions", numbers)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, number := range numbers {
		this := map[string][]int32{l.topic: {number}}
		q := newQueue(func() { client.PauseFetchPartitions(this) }, func() { client.ResumeFetchPartitions(this) })
		q.resume() // a former owner in this process may have paused it
		taken := newPartition(number, p.table, q, w, limits{
			rows: p.options.BlockRows, bytes: p.options.BlockBytes, linger: p.options.Linger, confirm: confirmAfter,
		}, p.locate(l), p.metrics)
		p.partitions[number] = taken
		taken.start(ctx)
	}
}

func (p *Projection) locate(l *groupLedger) func(context.Context, int32) (position, error) {
	return func(ctx context.Context, partition int32) (position, error) {
		at, badPlan, err := l.locate(ctx, partition)
		if badPlan != nil {
			p.logger.Error("the group's commit holds no plan of ours; rows after it may be doubled if a block was being inserted", "partition", partition, "error", badPlan)
		}
		return at, err
	}
}

// giveBack ends the work on the partitions and waits for it.
func (p *Projection) giveBack(numbers []int32, grace time.Duration) {
	var stopping sync.WaitGroup
	for _, number := range numbers {
		p.mu.Lock()
		given := p.partitions[number]
		delete(p.partitions, number)
		p.mu.Unlock()
		if given == nil {
			continue
		}
		stopping.Go(func() {
			given.stop(grace)
			p.metrics.forget(number)
		})
	}
	stopping.Wait()
	if len(numbers) > 0 {
		p.logger.Info("partitions given back", "partitions", numbers)
	}
}

// giveBackAll ends what leaving the group has left.
func (p *Projection) giveBackAll() {
	p.mu.Lock()
	var numbers []int32
	for number := range p.partitions {
		numbers = append(numbers, number)
	}
	p.mu.Unlock()
	p.giveBack(numbers, 0)
}
