package projections

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// block is the records of one partition that are inserted together, column by
// column. It owns everything it points to but the refused records, so that the
// buffers they were fetched in are free, and is used again and again.
type block struct {
	partition int32
	offsets
	// announced blocks stand in the ledger already: somebody may have inserted
	// them.
	announced bool
	opened    time.Time // when its first record came
	records   int
	bytes     int // of its rows
	rows      rows
	filler    filler // of the rows' columns
	refused   []refused
	memory    memory
}

type refused struct {
	record *kgo.Record
	refusal
}

// fixedRowBytes is what every row has beside its texts.
const fixedRowBytes = 64

// memory is what a block's rows point to.
type memory struct {
	arena arena
	texts map[string]string            // tenants and components
	bags  map[string]map[string]string // property bags, by their encoding
}

// maxShared bounds how many texts and bags a block keeps to share; devices can
// send ever new ones.
const maxShared = 1000

func newBlock(partition int32, t *table) *block {
	filler := t.rows()
	return &block{
		partition: partition, filler: filler, rows: t.newRows(filler),
		memory: memory{texts: map[string]string{}, bags: map[string]map[string]string{}},
	}
}

// reset makes the block empty and keeps its memory.
func (b *block) reset() {
	b.rows.clear()
	clear(b.refused)
	b.memory.arena.reset()
	if len(b.memory.texts) >= maxShared {
		clear(b.memory.texts)
	}
	if len(b.memory.bags) >= maxShared {
		clear(b.memory.bags)
	}
	*b = block{partition: b.partition, filler: b.filler, rows: b.rows, refused: b.refused[:0], memory: b.memory}
}

// announce makes the empty block the one that was announced. It keeps its range
// even when the log has lost some of it, because its token is made of the range.
func (b *block) announce(o offsets) { b.offsets, b.announced = o, true }

// add maps the record into the block. Records come in the order of their offsets.
func (b *block) add(r *kgo.Record, now time.Time) {
	if b.records == 0 {
		b.opened = now
	}
	if !b.announced {
		if b.records == 0 {
			b.first = r.Offset
		}
		b.last = r.Offset
	}
	b.records++
	if r.Attrs.IsControl() { // the end of a transaction
		return
	}
	bytes, bad := b.filler.fill(r, &b.memory)
	switch bad {
	case nil:
		b.rows.loggedAt.add(loggedAt(r.Timestamp))
		b.rows.partition.add(b.partition)
		b.rows.offset.add(r.Offset)
		b.bytes += bytes + fixedRowBytes
	case unwanted:
		b.bytes += bytes
	default:
		b.refused = append(b.refused, refused{r, *bad})
		b.bytes += len(r.Key) + len(r.Value) + fixedRowBytes
	}
}

// text is a string that repeats in most rows.
func (m *memory) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := m.texts[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(m.texts) < maxShared {
		m.texts[s] = s
	}
	return s
}

func (m *memory) bag(b []byte) map[string]string {
	if len(b) == 0 {
		return nil
	}
	if properties, ok := m.bags[string(b)]; ok {
		return properties
	}
	bag := string(b)
	properties := parseProperties(bag)
	if len(m.bags) < maxShared {
		m.bags[bag] = properties
	}
	return properties
}
