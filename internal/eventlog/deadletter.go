package eventlog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers a dead letter carries beside those of the record it was.
const (
	HeaderDeadStage     = "fleetlog-dead-stage"
	HeaderDeadReason    = "fleetlog-dead-reason"
	HeaderDeadTopic     = "fleetlog-dead-topic"
	HeaderDeadPartition = "fleetlog-dead-partition"
	HeaderDeadOffset    = "fleetlog-dead-offset"
)

// maxReasonBytes bounds the reason, which may quote what a device sent.
const maxReasonBytes = 1 << 10

// DeadLetterRecord is the record as it came, key, value and headers untouched,
// addressed to the dead-letter topic with the stage that refused it, why, and
// where it came from. Topic, partition and offset identify it: a stage that
// crashes and refuses it again writes the same identity twice.
func (l *Log) DeadLetterRecord(origin *kgo.Record, stage, reason string) *kgo.Record {
	if len(reason) > maxReasonBytes {
		reason = reason[:maxReasonBytes]
	}
	headers := make([]kgo.RecordHeader, 0, len(origin.Headers)+5)
	headers = append(headers, origin.Headers...)
	add := func(key, value string) {
		headers = append(headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add(HeaderDeadStage, stage)
	add(HeaderDeadReason, reason)
	add(HeaderDeadTopic, origin.Topic)
	add(HeaderDeadPartition, strconv.FormatInt(int64(origin.Partition), 10))
	add(HeaderDeadOffset, strconv.FormatInt(origin.Offset, 10))
	return &kgo.Record{
		Topic:     l.Name(DeadLetter),
		Partition: origin.Partition % l.partitions[DeadLetter],
		Key:       origin.Key,
		Value:     origin.Value,
		Headers:   headers,
		Timestamp: origin.Timestamp,
	}
}

// DeadLetter appends the record to the dead-letter topic and waits for it.
func (l *Log) DeadLetter(ctx context.Context, origin *kgo.Record, stage, reason string) error {
	if err := l.AppendSync(ctx, l.DeadLetterRecord(origin, stage, reason)); err != nil {
		return fmt.Errorf("dead-letter %s/%d@%d: %w", origin.Topic, origin.Partition, origin.Offset, err)
	}
	return nil
}
