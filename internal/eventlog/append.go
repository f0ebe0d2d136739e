package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxBufferedRecords and maxBufferedBytes bound what waits for the
	// brokers; an append beyond them blocks, which is how back-pressure reaches
	// a device's socket.
	maxBufferedRecords = 64 << 10
	maxBufferedBytes   = 128 << 20
)

// appendOpts are the settings of the shared appender: idempotent, acknowledged
// by all in-sync replicas, without lingering: while one batch is on its way the
// next one fills by itself.
func appendOpts() []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(MaxRecordBytes),
		kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	}
}

// Append writes the record and calls done once, from another goroutine, when
// all in-sync replicas have it or it has failed for good. Records of one key
// are written, and their done called, in the order of their Append calls.
//
// Append blocks while too much is buffered. The record and its slices belong to
// the log until done is called; done must not block.
func (l *Log) Append(ctx context.Context, r *kgo.Record, done func(*kgo.Record, error)) {
	l.client.Produce(ctx, r, done)
}

// AppendSync writes the record and waits until all in-sync replicas have it.
func (l *Log) AppendSync(ctx context.Context, r *kgo.Record) error {
	if err := l.client.ProduceSync(ctx, r).FirstErr(); err != nil {
		return fmt.Errorf("append to %s: %w", r.Topic, err)
	}
	return nil
}

// Flush waits until every record appended so far is acknowledged or failed.
func (l *Log) Flush(ctx context.Context) error {
	if err := l.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush log: %w", err)
	}
	return nil
}

// FlushTimeout bounds how long a shutdown waits for acknowledgements.
const FlushTimeout = 5 * time.Second
