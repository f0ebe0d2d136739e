package sample

import "github.com/twmb/franz-go/pkg/kgo"

// Tape is records in one piece of memory, so that those that wait to be folded do
// not weigh on the garbage collector, as they would not where they are on a disk.
type Tape struct {
	bytes []byte
	ends  []int // of keys and values in turn
}

// Add puts a record at the tape's end.
func (t *Tape) Add(r *kgo.Record) {
	for _, part := range [][]byte{r.Key, r.Value} {
		t.bytes = append(t.bytes, part...)
		t.ends = append(t.ends, len(t.bytes))
	}
}

// Len is how many records there are.
func (t *Tape) Len() int { return len(t.ends) / 2 }

// Play makes up to n records again, from the given one on.
func (t *Tape) Play(from, n int) []*kgo.Record {
	records := make([]*kgo.Record, 0, n)
	for i := 2 * from; i < min(2*(from+n), len(t.ends)); i += 2 {
		start := 0
		if i > 0 {
			start = t.ends[i-1]
		}
		records = append(records, &kgo.Record{Key: t.bytes[start:t.ends[i]], Value: t.bytes[t.ends[i]:t.ends[i+1]], Offset: int64(i / 2)})
	}
	return records
}
