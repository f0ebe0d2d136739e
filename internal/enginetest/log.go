// Package enginetest gives integration tests real engines: the embedded Kafka
// broker, Apache Kafka where the environment names one, and the embedded
// ClickHouse. A test gets an address and a name space of its own, and leaves
// nothing behind. It must only be imported by tests.
package enginetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/engine/kafka"
)

// KafkaEnv names the environment variable that holds the address of an Apache
// Kafka broker for the tests, host:port. `make test` sets it.
const KafkaEnv = "FLEETLOG_TEST_KAFKA"

// Log is a Kafka broker to test against.
type Log struct {
	// Addr is the broker's address, host:port.
	Addr string
	// TopicPrefix is the test's own: topics, groups and transactional ids that
	// begin with it belong to nobody else.
	TopicPrefix string
}

// EachLog runs the test once per broker: as subtest "embedded", and as subtest
// "apache" when FLEETLOG_TEST_KAFKA is set.
func EachLog(t *testing.T, run func(t *testing.T, log Log)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { run(t, EmbeddedLog(t)) })
	if addr := os.Getenv(KafkaEnv); addr != "" {
		t.Run("apache", func(t *testing.T) { run(t, ApacheLog(t, addr)) })
	}
}

// EmbeddedLog starts an embedded broker that lives as long as the test.
func EmbeddedLog(t testing.TB) Log {
	t.Helper()
	log, _ := StoppableLog(t)
	return log
}

// StoppableLog is EmbeddedLog with a way to take the broker away in mid-test.
func StoppableLog(t testing.TB) (log Log, stop func()) {
	t.Helper()
	broker, err := kafka.Start(kafka.Options{
		Addr: "127.0.0.1:0", DataDir: t.TempDir(), SyncWrites: true, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	stop = func() { require.NoError(t, broker.Close()) }
	t.Cleanup(stop)
	return Log{Addr: broker.Addr(), TopicPrefix: randomName() + "."}, stop
}

// cleanupTimeout bounds how long a test waits for the engine to take back what
// was the test's.
const cleanupTimeout = 30 * time.Second

// ApacheLog is a name space of its own on the Apache Kafka at the address.
func ApacheLog(t *testing.T, addr string) Log {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	require.NoError(t, client.Ping(ctx), "Apache Kafka of %s does not answer at %s: start it with `make kafka`, or unset %s", KafkaEnv, addr, KafkaEnv)
	log := Log{Addr: addr, TopicPrefix: randomName() + "."}
	t.Cleanup(func() { deleteTopics(t, kadm.NewClient(client), log.TopicPrefix) })
	return log
}

// deleteTopics deletes the topics of the prefix.
func deleteTopics(t *testing.T, admin *kadm.Client, prefix string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	topics, err := admin.ListTopics(ctx)
	require.NoError(t, err)
	var mine []string
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, prefix) {
			mine = append(mine, name)
		}
	}
	if len(mine) == 0 {
		return
	}
	_, err = admin.DeleteTopics(ctx, mine...)
	require.NoError(t, err)
}

// randomName is unique enough to share an engine with others' tests, and good as
// part of a topic's or a database's name.
func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return "t" + hex.EncodeToString(b[:])
}
