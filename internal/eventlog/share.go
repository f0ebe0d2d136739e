package eventlog

import (
	"context"
	"maps"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Share divides the work on a topic's keys among the nodes that take part, by its
// partitions, without reading it: held is called with the partitions that are this
// node's whenever they change, one call at a time, and with none when ctx ends, upon
// which Share returns nil. Another node is given a partition only after the call
// without it has returned, or when this one is dead.
func (l *Log) Share(ctx context.Context, name, node string, t Topic, held func(partitions map[int32]bool)) error {
	topic, mine := l.Name(t), map[int32]bool{}
	given := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		for _, p := range partitions[topic] {
			mine[p] = true
		}
		held(maps.Clone(mine))
	}
	taken := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		for _, p := range partitions[topic] {
			delete(mine, p)
		}
		held(maps.Clone(mine))
	}
	client, err := l.NewClient(
		kgo.ConsumerGroup(l.Group(name)), kgo.ConsumeTopics(topic), kgo.InstanceID(node), kgo.SessionTimeout(sessionTimeout),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		kgo.OnPartitionsAssigned(given), kgo.OnPartitionsRevoked(taken), kgo.OnPartitionsLost(taken),
	)
	if err != nil {
		return err
	}
	client.PauseFetchTopics(topic)
	for ctx.Err() == nil {
		l.logFetchErrors(client.PollFetches(ctx)) // there is nothing else: nothing is fetched
	}
	client.Close()
	held(nil)
	if err := l.LeaveGroup(ctx, name, node); err != nil {
		l.logger.Warn("the other nodes have to wait for this one's partitions", "stage", name, "error", err)
	}
	return nil
}

// PartitionOf is the partition of the topic that records of the key are in.
func (l *Log) PartitionOf(t Topic, key []byte) int32 {
	by := kgo.StickyKeyPartitioner(nil).ForTopic(l.Name(t))
	return int32(by.Partition(&kgo.Record{Key: key}, int(l.Partitions(t))))
}
