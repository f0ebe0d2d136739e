package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// retain deletes expired records until ctx ends. kfake can do that itself, but
// then deletes the last record too, and a partition without records begins again
// at offset 0 after a crash: committed offsets, and the offsets in projected
// rows, would mean other records. Here the last one stays.
func retain(ctx context.Context, addr string, every time.Duration, logger *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := deleteExpired(ctx, addr, time.Now()); err != nil && ctx.Err() == nil {
			logger.Error("expired records of the embedded log were not deleted; trying again", "error", err, "wait", every)
		}
	}
}

// deleteExpired deletes, from topics with cleanup.policy=delete, the records
// older than their retention.ms at the time now. Files go when all their records
// have gone.
func deleteExpired(ctx context.Context, addr string, now time.Time) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	retention, err := retentions(ctx, admin)
	if err != nil {
		return err
	}
	expired := kadm.Offsets{}
	for topic, keep := range retention {
		if err := addExpired(ctx, admin, topic, now.Add(-keep), expired); err != nil {
			return err
		}
	}
	if len(expired) == 0 {
		return nil
	}
	deleted, err := admin.DeleteRecords(ctx, expired)
	if err != nil {
		return fmt.Errorf("delete expired records: %w", err)
	}
	if err := deleted.Error(); err != nil {
		return fmt.Errorf("delete expired records: %w", err)
	}
	return nil
}

// retentions gives how long each topic that forgets keeps its records.
func retentions(ctx context.Context, admin *kadm.Client) (map[string]time.Duration, error) {
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	if len(topics) == 0 {
		return nil, nil
	}
	configs, err := admin.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil {
		return nil, fmt.Errorf("read retention of topics: %w", err)
	}
	keep := map[string]time.Duration{}
	for _, c := range configs {
		if c.Err != nil {
			continue // deleted meanwhile
		}
		// The topic's own settings: kfake reports Kafka's default of 7 days
		// where there is none.
		values := map[string]string{}
		for _, kv := range c.Configs {
			if kv.Source == kmsg.ConfigSourceDynamicTopicConfig {
				values[kv.Key] = kv.MaybeValue()
			}
		}
		ms, err := strconv.ParseInt(values["retention.ms"], 10, 64)
		if err != nil || ms < 0 || strings.Contains(values["cleanup.policy"], "compact") {
			continue
		}
		keep[c.Name] = time.Duration(ms) * time.Millisecond
	}
	return keep, nil
}

func addExpired(ctx context.Context, admin *kadm.Client, topic string, before time.Time, expired kadm.Offsets) error {
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	firstKept, err := admin.ListOffsetsAfterMilli(ctx, before.UnixMilli(), topic)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	firstKept.Each(func(o kadm.ListedOffset) {
		start, ok1 := starts.Lookup(topic, o.Partition)
		end, ok2 := ends.Lookup(topic, o.Partition)
		if !ok1 || !ok2 || o.Err != nil || start.Err != nil || end.Err != nil {
			return
		}
		if to := min(o.Offset, end.Offset-1); to > start.Offset {
			expired.Add(kadm.Offset{Topic: topic, Partition: o.Partition, At: to, LeaderEpoch: -1})
		}
	})
	return nil
}
