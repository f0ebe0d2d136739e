package projections

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// table says how the records of a topic become rows of a table in ClickHouse.
// Everything else about a projection is the same for all of them.
type table struct {
	name string // in ClickHouse
	// projection names the consumer group, the stage in dead letters and the
	// metrics.
	projection string
	topic      eventlog.Topic
	// loggedAt is the table's column of the records' times.
	loggedAt string
	// gaps: the topic is compacted or written in transactions, whose markers take
	// offsets too. An offset that is not there is no loss.
	gaps bool
	// replaces: a row takes the place of the one its key had before, so an insert
	// may be repeated without harm, and a row that came may be gone again.
	replaces bool
	// rollups: the records become no rows but are added up (see rollup.go). The filler
	// is a telemetrySums.
	rollups bool
	// rows makes the columns of one block.
	rows func() filler
}

// filler makes rows of records, column by column.
type filler interface {
	// columns are the table's, but for the record's time, partition and offset,
	// which every table has.
	columns() []column
	// fill adds the record to every column and says how many bytes that are, or it
	// adds nothing and says why the record is no row. What fills something else than
	// rows says how many bytes, too, and that the record is unwanted.
	fill(r *kgo.Record, m *memory) (bytes int, bad *refusal)
}

// unwanted is the refusal of a record that is to be neither a row nor a dead
// letter.
var unwanted = new(refusal)

// rows are columns of one length. They share their values with the rows they were
// cut from.
type rows struct {
	loggedAt  *vector[int64] // record timestamps, Unix milliseconds
	partition *vector[int32]
	offset    *vector[int64]
	columns   []column // all, the three above first
}

func (t *table) newRows(f filler) rows {
	return rowsOf(append([]column{
		&vector[int64]{name: t.loggedAt, kind: "DateTime64(3, 'UTC')"},
		&vector[int32]{name: "partition", kind: "Int32"},
		&vector[int64]{name: "offset", kind: "Int64"},
	}, f.columns()...))
}

func rowsOf(columns []column) rows {
	return rows{
		loggedAt: columns[0].(*vector[int64]), partition: columns[1].(*vector[int32]), offset: columns[2].(*vector[int64]),
		columns: columns,
	}
}

func (r *rows) len() int { return len(r.offset.of) }

// slice is the rows lo to hi-1.
func (r *rows) slice(lo, hi int) rows {
	cut := make([]column, len(r.columns))
	for i, c := range r.columns {
		cut[i] = c.slice(lo, hi)
	}
	return rowsOf(cut)
}

// pick is a copy of the rows at the indexes.
func (r *rows) pick(indexes []int) rows {
	picked := make([]column, len(r.columns))
	for i, c := range r.columns {
		picked[i] = c.pick(indexes)
	}
	return rowsOf(picked)
}

// clear empties the columns and keeps their memory.
func (r *rows) clear() {
	for _, c := range r.columns {
		c.clear()
	}
}

// column is one column of some rows.
type column interface {
	// about gives the name and, exactly as the table has it, the type.
	about() (name, kind string)
	// values are a slice as clickhouse-go takes it; nil leaves the column out.
	values() any
	slice(lo, hi int) column
	pick(indexes []int) column
	clear()
}

// vector is a column of values of one Go type.
type vector[T any] struct {
	name, kind string
	of         []T
	// optional columns are left out of an insert in which they have no value, which
	// the filler notes in used.
	optional, used bool
}

func (v *vector[T]) add(value T) { v.of = append(v.of, value) }

func (v *vector[T]) about() (name, kind string) { return v.name, v.kind }

func (v *vector[T]) values() any {
	if v.optional && !v.used {
		return nil
	}
	return v.of
}

func (v *vector[T]) slice(lo, hi int) column {
	cut := *v
	cut.of = v.of[lo:hi]
	return &cut
}

func (v *vector[T]) pick(indexes []int) column {
	picked := *v
	picked.of = make([]T, len(indexes))
	for n, i := range indexes {
		picked.of[n] = v.of[i]
	}
	return &picked
}

func (v *vector[T]) clear() {
	clear(v.of) // let go of what it points to
	v.of, v.used = v.of[:0], false
}
