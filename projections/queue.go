package projections

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// queue holds the fetched records of a partition until its block takes them. It
// never blocks: one that is full asks for its partition to be paused, and can be
// overrun by the little that was fetched already.
type queue struct {
	pause, resume func()
	// filled has a token when there is something to pop.
	filled chan struct{}

	mu      sync.Mutex
	batches [][]*kgo.Record
	records int
	bytes   int
	paused  bool
	high    int64 // the partition's high watermark as of the last fetch
}

// Beyond either of these a queue is full; at half of both it wants more.
const (
	queueRecords = 32_000
	queueBytes   = 8 << 20
)

func newQueue(pause, resume func()) *queue {
	return &queue{pause: pause, resume: resume, filled: make(chan struct{}, 1)}
}

func size(records []*kgo.Record) (bytes int) {
	for _, r := range records {
		bytes += len(r.Key) + len(r.Value)
	}
	return bytes
}

func (q *queue) push(records []*kgo.Record, high int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.high = high
	if len(records) == 0 {
		return
	}
	q.batches = append(q.batches, records)
	q.records += len(records)
	q.bytes += size(records)
	if !q.paused && (q.records > queueRecords || q.bytes > queueBytes) {
		q.paused = true
		q.pause()
	}
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// pop takes the oldest records, nil when there are none.
func (q *queue) pop() []*kgo.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.batches) == 0 {
		return nil
	}
	records := q.batches[0]
	q.batches[0] = nil
	q.batches = q.batches[1:]
	q.records -= len(records)
	q.bytes -= size(records)
	if q.paused && q.records <= queueRecords/2 && q.bytes <= queueBytes/2 {
		q.paused = false
		q.resume()
	}
	return records
}

// end is the offset after the partition's last record, as far as it is known.
func (q *queue) end() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.high
}
