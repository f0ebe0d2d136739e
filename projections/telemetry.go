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

// projection is the name of this one: of its consumer group, its stage in dead
// letters and its metrics.
const projection = "project-telemetry"

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

// Telemetry projects the telemetry topic into the table telemetry.
type Telemetry struct {
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

// NewTelemetry prepares the projection. It fails when the registerer has the
// metrics of another one already.
func NewTelemetry(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Telemetry, error) {
	options = options.withDefaults()
	metrics, err := newMetrics(options.Registerer)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{
		log: log, conn: conn, options: options,
		logger:     options.Logger.With("projection", projection),
		metrics:    metrics,
		grace:      stopGrace,
		partitions: map[int32]*partition{},
	}
	t.retry = retry{logger: t.logger, first: firstPause, longest: longestPause, attempt: attemptTimeout, retried: metrics.retries.Inc}
	t.notReady("the projection has not started")
	return t, nil
}

// Ready is nil when the schema is in place and the group has given this node its
// partitions, which may be none.
func (t *Telemetry) Ready() error {
	if why := t.state.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

func (t *Telemetry) notReady(why string) { t.state.Store(&why) }

// Run projects until ctx ends, and then finishes the blocks in hand, for a
// bounded time. It outlives every outage of ClickHouse and of the log. It
// fails only when the database cannot have the schema this program needs.
// It can be called again after it has returned.
func (t *Telemetry) Run(ctx context.Context) error {
	if err := t.prepareSchema(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	t.notReady("the projection waits for its consumer group")
	id, err := t.topicID(ctx)
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	topic := t.log.Name(eventlog.Telemetry)
	group := t.log.Group(projection)
	// The partitions outlive ctx by the grace they are given in stop.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ledger := &groupLedger{admin: t.log.Admin(), group: group, topic: topic}
	w := &writer{
		sink:    &table{t.conn},
		ledger:  ledger,
		letters: &logLetters{log: t.log, topic: eventlog.Telemetry, stage: projection},
		prefix:  "telemetry/" + topic + "/" + id,

		longestInsert: serverTimeout,
		lettersAtOnce: 256,
		retry:         t.retry, metrics: t.metrics,
	}
	ready := make(chan struct{})
	client, err := t.log.NewClient(append(consumerOpts(group, topic, t.options.Node),
		kgo.OnPartitionsAssigned(func(_ context.Context, client *kgo.Client, assigned map[string][]int32) {
			<-ready // the ledger's client
			t.take(working, client, w, ledger, assigned[topic])
			t.state.Store(nil)
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, revoked map[string][]int32) {
			t.giveBack(revoked[topic], t.grace)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			t.giveBack(lost[topic], 0)
		}))...)
	if err != nil {
		return err
	}
	ledger.client = client
	close(ready)
	t.logger.Info("projection started", "topic", topic, "group", group, "database", t.conn.Database())
	t.poll(ctx, client)

	t.notReady("the projection has stopped")
	t.leave(working, client)
	return nil
}

// leave gives the partitions back, which waits for the blocks in hand, and takes
// this node out of the group.
func (t *Telemetry) leave(ctx context.Context, client *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, t.grace+leaveTimeout)
	defer cancel()
	err := client.LeaveGroupContext(ctx)
	t.giveBackAll()
	client.Close()
	if t.options.Node != "" { // whose place the client keeps
		err = errors.Join(err, t.log.LeaveGroup(ctx, projection, t.options.Node))
	}
	if err != nil {
		t.logger.Warn("did not leave the consumer group: the other nodes have to wait for this one's partitions", "error", err)
	}
}

// ignoreEnd makes the end of ctx no error.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

func (t *Telemetry) prepareSchema(ctx context.Context) error {
	t.notReady("the projection waits for ClickHouse to take its schema")
	var impossible error
	err := t.retry.untilDone(ctx, "migrate schema", func(ctx context.Context) error {
		err := schema.Migrate(ctx, t.conn)
		if errors.Is(err, schema.ErrIncompatible) {
			impossible = err
			return nil
		}
		return err
	})
	return errors.Join(err, impossible)
}

// topicID tells a topic from another one that had its name before: its offsets
// begin anew, and so must the tokens made of them.
func (t *Telemetry) topicID(ctx context.Context) (id string, err error) {
	name := t.log.Name(eventlog.Telemetry)
	err = t.retry.untilDone(ctx, "look up topic", func(ctx context.Context) error {
		topics, err := t.log.Admin().ListTopics(ctx, name)
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
func (t *Telemetry) poll(ctx context.Context, client *kgo.Client) {
	for {
		fetches := client.PollRecords(ctx, pollRecords)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(_ string, number int32, err error) {
			t.logger.Warn("fetch failed, trying again", "partition", number, "error", err)
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			t.mu.Lock()
			mine := t.partitions[p.Partition]
			t.mu.Unlock()
			if mine != nil { // else it was just taken away
				mine.queue.push(p.Records, p.HighWatermark)
			}
		})
	}
}

// take begins work on the partitions.
func (t *Telemetry) take(ctx context.Context, client *kgo.Client, w *writer, l *groupLedger, numbers []int32) {
	if len(numbers) > 0 {
		t.logger.Info("partitions taken", "partitions", numbers)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, number := range numbers {
		this := map[string][]int32{l.topic: {number}}
		q := newQueue(func() { client.PauseFetchPartitions(this) }, func() { client.ResumeFetchPartitions(this) })
		q.resume() // a former owner in this process may have paused it
		p := newPartition(number, q, w, limits{
			rows: t.options.BlockRows, bytes: t.options.BlockBytes, linger: t.options.Linger, confirm: confirmAfter,
		}, t.locate(l), t.metrics)
		t.partitions[number] = p
		p.start(ctx)
	}
}

func (t *Telemetry) locate(l *groupLedger) func(context.Context, int32) (position, error) {
	return func(ctx context.Context, partition int32) (position, error) {
		at, badPlan, err := l.locate(ctx, partition)
		if badPlan != nil {
			t.logger.Error("the group's commit holds no plan of ours; rows after it may be doubled if a block was being inserted", "partition", partition, "error", badPlan)
		}
		return at, err
	}
}

// giveBack ends the work on the partitions and waits for it.
func (t *Telemetry) giveBack(numbers []int32, grace time.Duration) {
	var stopping sync.WaitGroup
	for _, number := range numbers {
		t.mu.Lock()
		p := t.partitions[number]
		delete(t.partitions, number)
		t.mu.Unlock()
		if p == nil {
			continue
		}
		stopping.Go(func() {
			p.stop(grace)
			t.metrics.forget(number)
		})
	}
	stopping.Wait()
	if len(numbers) > 0 {
		t.logger.Info("partitions given back", "partitions", numbers)
	}
}

// giveBackAll ends what leaving the group has left.
func (t *Telemetry) giveBackAll() {
	t.mu.Lock()
	var numbers []int32
	for number := range t.partitions {
		numbers = append(numbers, number)
	}
	t.mu.Unlock()
	t.giveBack(numbers, 0)
}
