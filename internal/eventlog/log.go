package eventlog

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says where the log is and how its topics are made.
type Config struct {
	// Brokers are the seed addresses, host:port.
	Brokers []string
	// Prefix of the topics, consumer groups and transactional ids on the
	// broker; "fleetlog." when empty. It lets several Fleetlogs share one cluster.
	Prefix string
	// Partitions of each topic when it is created; 4 when zero. Existing
	// topics keep theirs.
	Partitions int32
	// Replication factor of each topic when it is created; the broker's
	// default when zero.
	Replication int16
	// TelemetryRetention is how long telemetry and dead letters are kept; 7
	// days when zero.
	TelemetryRetention time.Duration
	// TLS dials the brokers with TLS when set.
	TLS *tls.Config
	// Logger takes the client's messages; slog.Default() when nil.
	Logger *slog.Logger
}

// Log is a connection to the log with its topics in place. It is safe for
// concurrent use.
type Log struct {
	prefix     string
	base       []kgo.Opt
	client     *kgo.Client // appends
	admin      *kadm.Client
	partitions map[Topic]int32
	logger     *slog.Logger
}

// Open waits until a broker answers, creates the topics that are missing and
// reads how many partitions each has. It fails when ctx ends first.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = "fleetlog."
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 4
	}
	if cfg.Replication == 0 {
		cfg.Replication = -1
	}
	if cfg.TelemetryRetention == 0 {
		cfg.TelemetryRetention = 7 * 24 * time.Hour
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	l := &Log{prefix: cfg.Prefix, partitions: map[Topic]int32{}, logger: cfg.Logger}
	l.base = []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID("fleetlog"),
		kgo.WithLogger(newClientLogger(cfg.Logger)),
		kgo.DisableClientMetrics(), // Prometheus has ours
	}
	if cfg.TLS != nil {
		l.base = append(l.base, kgo.DialTLSConfig(cfg.TLS))
	}
	var err error
	if l.client, err = l.NewClient(appendOpts()...); err != nil {
		return nil, err
	}
	l.admin = kadm.NewClient(l.client)
	err = l.awaitBrokers(ctx)
	if err == nil {
		err = l.createTopics(ctx, cfg)
	}
	if err != nil {
		l.client.Close()
		return nil, fmt.Errorf("open log at %v: %w", cfg.Brokers, err)
	}
	return l, nil
}

// awaitBrokers waits for a broker that is still starting, or away for a moment.
func (l *Log) awaitBrokers(ctx context.Context) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, l.Ping(ctx) },
		backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
			l.logger.Warn("Kafka does not answer, trying again", "error", err, "wait", wait)
		}))
	return err
}

// Close flushes nothing: callers wait for their own acknowledgements first. It
// fails records that are still buffered.
func (l *Log) Close() { l.client.Close() }

// NewClient opens another client of the same brokers, for a consumer that
// needs its own settings. The caller closes it.
func (l *Log) NewClient(opts ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(append([]kgo.Opt{}, l.base...), opts...)...)
	if err != nil {
		return nil, fmt.Errorf("configure Kafka client: %w", err)
	}
	return client, nil
}

// Admin is a client for offsets, groups and topics.
func (l *Log) Admin() *kadm.Client { return l.admin }

// Name is the topic's name on the broker.
func (l *Log) Name(t Topic) string { return l.prefix + string(t) }

// Group is the consumer group's name on the broker.
func (l *Log) Group(name string) string { return l.prefix + name }

// Partitions is how many partitions the topic has.
func (l *Log) Partitions(t Topic) int32 { return l.partitions[t] }

// Ping asks the brokers for their metadata; an error means none answered.
func (l *Log) Ping(ctx context.Context) error {
	if err := l.client.Ping(ctx); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}
