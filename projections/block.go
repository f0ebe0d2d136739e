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
	refused   []refused
	memory    memory
}

type refused struct {
	record *kgo.Record
	refusal
}

// columns, in bytes, that every row has beside its texts.
const fixedRowBytes = 64

// rows is a table's worth of columns.
type rows struct {
	tenant     []string
	device     [][]byte
	timestamp  []int64
	component  []string
	body       [][]byte
	properties []map[string]string
	id         [][]byte
	enqueued   []int64
	partition  []int32
	offset     []int64
	// Columns that are empty in every row are left out of the insert.
	anyComponent, anyProperties bool
}

func (r *rows) len() int { return len(r.offset) }

// slice is the rows lo to hi-1. They share the columns.
func (r *rows) slice(lo, hi int) rows {
	return rows{
		tenant: r.tenant[lo:hi], device: r.device[lo:hi], timestamp: r.timestamp[lo:hi],
		component: r.component[lo:hi], body: r.body[lo:hi], properties: r.properties[lo:hi],
		id: r.id[lo:hi], enqueued: r.enqueued[lo:hi], partition: r.partition[lo:hi], offset: r.offset[lo:hi],
		anyComponent: r.anyComponent, anyProperties: r.anyProperties,
	}
}

// pick is a copy of the rows at the indexes.
func (r *rows) pick(indexes []int) rows {
	picked := rows{anyComponent: r.anyComponent, anyProperties: r.anyProperties}
	for _, i := range indexes {
		one := r.slice(i, i+1)
		picked.append(&one)
	}
	return picked
}

func (r *rows) append(other *rows) {
	r.tenant = append(r.tenant, other.tenant...)
	r.device = append(r.device, other.device...)
	r.timestamp = append(r.timestamp, other.timestamp...)
	r.component = append(r.component, other.component...)
	r.body = append(r.body, other.body...)
	r.properties = append(r.properties, other.properties...)
	r.id = append(r.id, other.id...)
	r.enqueued = append(r.enqueued, other.enqueued...)
	r.partition = append(r.partition, other.partition...)
	r.offset = append(r.offset, other.offset...)
}

// clear empties the columns and keeps their memory.
func (r *rows) clear() {
	clear(r.properties) // let go of the maps
	*r = rows{
		tenant: r.tenant[:0], device: r.device[:0], timestamp: r.timestamp[:0],
		component: r.component[:0], body: r.body[:0], properties: r.properties[:0],
		id: r.id[:0], enqueued: r.enqueued[:0], partition: r.partition[:0], offset: r.offset[:0],
	}
}

// memory is what a block's rows point to.
type memory struct {
	arena arena
	texts map[string]string            // tenants and components
	bags  map[string]map[string]string // property bags, by their encoding
}

// maxShared bounds how many texts and bags a block keeps to share; devices can
// send ever new ones.
const maxShared = 1000

func newBlock(partition int32) *block {
	return &block{partition: partition, memory: memory{texts: map[string]string{}, bags: map[string]map[string]string{}}}
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
	*b = block{partition: b.partition, rows: b.rows, refused: b.refused[:0], memory: b.memory}
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
	row, bad := toRow(r)
	if bad != nil {
		b.refused = append(b.refused, refused{r, *bad})
		b.bytes += len(r.Key) + len(r.Value) + fixedRowBytes
		return
	}
	rows, m := &b.rows, &b.memory
	rows.tenant = append(rows.tenant, m.text(row.tenant))
	rows.device = append(rows.device, m.arena.keep(row.device))
	rows.timestamp = append(rows.timestamp, row.timestamp)
	rows.component = append(rows.component, m.text(row.component))
	rows.body = append(rows.body, m.arena.keep(row.body))
	rows.properties = append(rows.properties, m.bag(row.properties))
	rows.id = append(rows.id, m.arena.keep(row.id))
	rows.enqueued = append(rows.enqueued, row.enqueued)
	rows.partition = append(rows.partition, b.partition)
	rows.offset = append(rows.offset, row.offset)
	rows.anyComponent = rows.anyComponent || len(row.component) > 0
	rows.anyProperties = rows.anyProperties || len(row.properties) > 0
	b.bytes += len(row.device) + len(row.body) + len(row.properties) + len(row.id) + fixedRowBytes
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
