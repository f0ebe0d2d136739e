// Package kafka is the embedded log engine: one Kafka broker in this process,
// on a loopback port, with its records on disk. In go a listen address and a
// directory; out comes an address that any Kafka client can use. It wraps
// franz-go's kfake and keeps the promises kfake leaves to its owner: one
// process per directory, transactions and compaction that are whole even when
// the process is killed amid them, retention that never touches compacted topics,
// consumer offsets that never expire. With SyncWrites an acknowledged record is
// on disk. It must never listen beyond the
// host: the broker has no authentication.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Options say where the broker listens and keeps its records.
type Options struct {
	// Addr is the loopback address to listen on, host:port. Port 0 takes a free
	// one, which [Broker.Addr] tells.
	Addr string
	// DataDir keeps the records; it is created when missing. One broker at a
	// time has it.
	DataDir string
	// SyncWrites has every batch on disk (fsync) before it is acknowledged.
	// Without it a killed process loses nothing, a power cut loses what the
	// operating system had not written yet.
	SyncWrites bool
	// CompactAfter is how many bytes the log may grow by before the next start
	// compacts the compacted topics; 64 MiB when zero.
	CompactAfter int64
	// RetentionEvery is how often expired records are deleted; 5 minutes when zero.
	RetentionEvery time.Duration
	// Logger takes the broker's messages; slog.Default() when nil.
	Logger *slog.Logger
}

// Broker is a running embedded broker.
type Broker struct {
	addr    string
	dir     string
	cluster *kfake.Cluster
	journal *intents
	disk    *groupSync // nil without SyncWrites
	lock    *os.File
	stop    context.CancelFunc
	upkeep  sync.WaitGroup
	closed  sync.Once
	logger  *slog.Logger
}

// ErrNotLoopback is returned for a listen address that others than this host
// could reach.
var ErrNotLoopback = errors.New("the embedded Kafka broker has no authentication and listens on loopback only: give it 127.0.0.1:PORT, or run Apache Kafka and point --kafka to it")

const (
	defaultCompactAfter   = 64 << 20
	defaultRetentionEvery = 5 * time.Minute
)

// Start opens the directory, repairs what a killed process left half done,
// compacts when enough has grown, and listens. It fails with [ErrNotLoopback]
// for a reachable address and with [ErrInUse] when another process has the
// directory.
func Start(opts Options) (*Broker, error) {
	listen, err := loopback(opts.Addr)
	if err != nil {
		return nil, err
	}
	if opts.DataDir == "" {
		return nil, errors.New("embedded Kafka broker: no data directory given")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.CompactAfter == 0 {
		opts.CompactAfter = defaultCompactAfter
	}
	if opts.RetentionEvery == 0 {
		opts.RetentionEvery = defaultRetentionEvery
	}
	lock, err := lockDir(opts.DataDir)
	if err != nil {
		return nil, err
	}
	b, err := start(opts, listen, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return b, nil
}

func start(opts Options, listen string, lock *os.File) (*Broker, error) {
	if err := recoverCompaction(opts.DataDir); err != nil {
		return nil, err
	}
	if err := settle(opts); err != nil {
		return nil, err
	}
	journal, err := openIntents(opts)
	if err != nil {
		return nil, err
	}
	var gate *gatedListener
	var disk *groupSync
	if opts.SyncWrites {
		disk = newGroupSync(filepath.Join(opts.DataDir, logDir), opts.Logger)
	}
	kopts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("fleetlog"),
		kfake.DataDir(filepath.Join(opts.DataDir, logDir)),
		kfake.WithLogger(brokerLogger{opts.Logger}),
		kfake.BrokerConfigs(brokerConfigs()),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			ln, err := (&net.ListenConfig{}).Listen(context.Background(), network, listen)
			if err != nil {
				return nil, err
			}
			gate = newGatedListener(ln)
			if disk != nil {
				return durableListener{gate, disk}, nil
			}
			return gate, nil
		}),
	}
	cluster, err := kfake.NewCluster(kopts...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start embedded Kafka broker on %s with %s: %w", opts.Addr, opts.DataDir, err), disk.close(), journal.file.Close())
	}
	if err := compact(opts, cluster); err != nil {
		cluster.Close()
		return nil, errors.Join(err, disk.close(), journal.file.Close())
	}
	journal.watch(cluster)
	gate.open()
	ctx, stop := context.WithCancel(context.Background())
	b := &Broker{addr: gate.Addr().String(), dir: opts.DataDir, cluster: cluster, journal: journal, disk: disk, lock: lock, stop: stop, logger: opts.Logger}
	b.upkeep.Go(func() { retain(ctx, b.addr, opts.RetentionEvery, opts.Logger) })
	return b, nil
}

// Addr is where the broker listens, host:port.
func (b *Broker) Addr() string { return b.addr }

// Close stops the broker and writes its state down. Close the clients first:
// what they have in flight then fails. Close may be called more than once.
func (b *Broker) Close() error {
	var err error
	b.closed.Do(func() {
		b.stop()
		b.upkeep.Wait()
		settled, listErr := noOpenTransactions(b.addr)
		b.cluster.Close()
		err = b.disk.close()
		if settled && err == nil {
			err = os.WriteFile(filepath.Join(b.dir, cleanFile), nil, 0o600)
		} else {
			b.logger.Warn("embedded log closed with transactions open; the next start aborts them", "error", listErr)
		}
		err = errors.Join(err, b.journal.file.Close(), b.lock.Close())
	})
	return err
}

// closeTimeout bounds what Close asks the broker.
const closeTimeout = 2 * time.Second

func noOpenTransactions(addr string) (bool, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return false, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	open, err := kadm.NewClient(client).ListTransactions(ctx, nil, []string{"Ongoing"})
	return err == nil && len(open) == 0, err
}

// logDir is the broker's own directory inside DataDir.
const logDir = "log"

// brokerConfigs sets what kfake's defaults would get wrong for records that are
// kept.
func brokerConfigs() map[string]string {
	century := 100 * 365 * 24 * time.Hour
	return map[string]string{
		"default.replication.factor": "1",
		"message.max.bytes":          strconv.Itoa(4 << 20),
		// kfake reads whole segments when it starts, one per partition at a time.
		"log.segment.bytes": strconv.Itoa(64 << 20),
		// A topic without retention.ms of its own keeps its records. kfake would
		// else delete week-old records from compacted topics too.
		"log.retention.ms": "-1",
		// Consumer offsets carry the projections' ledger: a platform that was
		// switched off for a month must find them.
		"offsets.retention.minutes": strconv.Itoa(int(century / time.Minute)),
		// kfake's own cleaner deletes segments before it writes their
		// replacement, and empties partitions: see compact.go and retention.go.
		"log.cleaner.backoff.ms": strconv.FormatInt(century.Milliseconds(), 10),
	}
}

// loopback gives the address to listen on, its host resolved to an IP address.
func loopback(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("embedded Kafka broker: listen address %q: %w: write it as 127.0.0.1:9092", addr, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("embedded Kafka broker: listen address %q: port must be a number from 0 to 65535", addr)
	} else if host == "localhost" {
		return net.JoinHostPort("127.0.0.1", strconv.FormatUint(n, 10)), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return "", fmt.Errorf("listen on %q: %w", addr, ErrNotLoopback)
	}
	return addr, nil
}
