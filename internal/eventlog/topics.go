package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Topic is one of Fleetlog's topics, by the name it has in the design. The
// name on the broker carries the log's prefix; [Log.Name] gives it.
type Topic string

// The topics. See DESIGN.md, "The log", for keys and values.
const (
	// Telemetry holds device payloads, byte for byte as sent, keyed tenant/device.
	Telemetry Topic = "telemetry"
	// Devices holds DeviceEvent intents, keyed tenant/device, for ever.
	Devices Topic = "devices"
	// DeviceState holds DeviceSnapshot, the fold of Devices, keyed
	// tenant/device, compacted. It has as many partitions as Devices and a
	// device has the same partition in both.
	DeviceState Topic = "device-state"
	// Catalog holds CatalogEvent intents, keyed tenant/kind/id, for ever. It has
	// one partition: every node folds all of them in one order.
	Catalog Topic = "catalog"
	// Alerts holds AlertEvent, what rules have found and what became of it, keyed
	// tenant/device, for a year.
	Alerts Topic = "alerts"
	// Jobs holds JobEvent, keyed tenant/job, for ever.
	Jobs Topic = "jobs"
	// Audit holds AuditEvent, who was not let do what, keyed tenant/id, for a year.
	Audit Topic = "audit"
	// AuditChain holds AuditLink, hashes over Catalog, Devices and Audit, keyed
	// tenant/topic/partition, for ever. It has one partition.
	AuditChain Topic = "audit-chain"
	// DeadLetter holds records that could not be handled, as they were.
	DeadLetter Topic = "dead-letter"
)

// MaxRecordBytes bounds one record on every topic: IoT Hub's largest message
// (256 KiB) with its headers, and room for a device's state.
const MaxRecordBytes = 1 << 20

// creationTimeout bounds how long a new topic may take to be usable.
const creationTimeout = 30 * time.Second

const forever = -1 * time.Millisecond

// alertRetention is how long alerts and refused calls are kept: as long as ClickHouse
// keeps them by default, so that the table can be rebuilt from the log.
const alertRetention = 365 * 24 * time.Hour

type topicSettings struct {
	topic     Topic
	retention time.Duration // forever keeps everything
	compacted bool
	single    bool // one partition, whatever is configured
}

// settings lists every topic with how long the log keeps it.
func settings(telemetryRetention time.Duration) []topicSettings {
	return []topicSettings{
		{topic: Telemetry, retention: telemetryRetention},
		{topic: Devices, retention: forever},
		{topic: DeviceState, compacted: true},
		{topic: Catalog, retention: forever, single: true},
		{topic: Alerts, retention: alertRetention},
		{topic: Jobs, retention: forever},
		{topic: Audit, retention: alertRetention},
		{topic: AuditChain, retention: forever, single: true},
		{topic: DeadLetter, retention: telemetryRetention},
	}
}

func (s topicSettings) configs() map[string]*string {
	value := func(v string) *string { return &v }
	configs := map[string]*string{"max.message.bytes": value(strconv.Itoa(MaxRecordBytes))}
	if s.compacted {
		configs["cleanup.policy"] = value("compact")
		return configs
	}
	configs["cleanup.policy"] = value("delete")
	configs["retention.ms"] = value(strconv.FormatInt(s.retention.Milliseconds(), 10))
	configs["retention.bytes"] = value("-1")
	return configs
}

// createTopics creates the topics that are missing and sets the retention of
// those that are there to what is configured. Partition counts of existing
// topics are left alone: a key must keep its partition.
func (l *Log) createTopics(ctx context.Context, cfg Config) error {
	for _, s := range settings(cfg.TelemetryRetention) {
		name := l.Name(s.topic)
		partitions := cfg.Partitions
		if s.single {
			partitions = 1
		}
		resp, err := l.admin.CreateTopic(ctx, partitions, cfg.Replication, s.configs(), name)
		if err == nil {
			err = resp.Err
		}
		switch {
		case errors.Is(err, kerr.TopicAlreadyExists):
			if err := l.alterSettings(ctx, name, s); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	// A broker may answer that a topic was created before it knows it itself.
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, l.readPartitionCounts(ctx) },
		backoff.WithMaxElapsedTime(creationTimeout))
	if err != nil {
		return err
	}
	if l.partitions[Catalog] != 1 {
		return fmt.Errorf("topic %s has %d partitions: it must have exactly one, so that every node sees its events in the same order; recreate it with one",
			l.Name(Catalog), l.partitions[Catalog])
	}
	if l.partitions[Devices] != l.partitions[DeviceState] {
		return fmt.Errorf("topics %s and %s have %d and %d partitions: a device must have the same partition in both; recreate %s with %d partitions",
			l.Name(Devices), l.Name(DeviceState), l.partitions[Devices], l.partitions[DeviceState], l.Name(DeviceState), l.partitions[Devices])
	}
	return nil
}

func (l *Log) alterSettings(ctx context.Context, name string, s topicSettings) error {
	var alter []kadm.AlterConfig
	for key, v := range s.configs() {
		alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: v})
	}
	resps, err := l.admin.AlterTopicConfigs(ctx, alter, name)
	if err != nil {
		return fmt.Errorf("set configuration of topic %s: %w", name, err)
	}
	if _, err := resps.On(name, func(r *kadm.AlterConfigsResponse) error { return r.Err }); err != nil {
		return fmt.Errorf("set configuration of topic %s: %w", name, err)
	}
	return nil
}

func (l *Log) readPartitionCounts(ctx context.Context) error {
	var names []string
	for _, s := range settings(0) {
		names = append(names, l.Name(s.topic))
	}
	details, err := l.admin.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, s := range settings(0) {
		d, ok := details[l.Name(s.topic)]
		if !ok || d.Err != nil {
			return fmt.Errorf("topic %s is not readable after its creation: %w", l.Name(s.topic), d.Err)
		}
		for _, p := range d.Partitions {
			if p.Err != nil {
				return fmt.Errorf("topic %s has no leader for partition %d yet: %w", l.Name(s.topic), p.Partition, p.Err)
			}
		}
		l.partitions[s.topic] = int32(len(d.Partitions))
	}
	return nil
}
