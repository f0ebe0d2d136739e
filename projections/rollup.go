package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// NewTelemetrySums prepares the projection of the telemetry topic into telemetry_1m,
// telemetry_10m and telemetry_1h, what the numbers of the messages add up to, and
// telemetry_latest.
//
// Sums of devices that send every few seconds are small only when they are of many
// seconds. So this projection has its own place on the log, ten seconds behind,
// instead of being made of the blocks of the table telemetry: in those, most devices
// have one message, and would cost a row for every number.
func NewTelemetrySums(log *eventlog.Log, conn *clickhouse.Conn, options Options) (*Projection, error) {
	options.Linger = sumsPatience * options.withDefaults().Linger
	if options.BlockRows == 0 {
		options.BlockRows = sumsRecords
	}
	return newProjection(&telemetrySumsTable, log, conn, options)
}

const (
	// sumsPatience is how many times as long as rows sums wait for more records.
	sumsPatience = 40
	sumsRecords  = 1_000_000
)

var telemetrySumsTable = table{
	name: "telemetry_sums", projection: "project-telemetry-sums", topic: eventlog.Telemetry, loggedAt: "enqueued_at", rollups: true,
	rows: func() filler { return &telemetrySums{newTally()} },
}

// telemetrySums adds records up. It makes no rows of them.
type telemetrySums struct{ *tally }

func (telemetrySums) columns() []column { return nil }

func (t *telemetrySums) fill(r *kgo.Record, _ *memory) (bytes int, bad *refusal) {
	// What is no row of telemetry is put aside by that table's projection.
	row, bad := toRow(r)
	if bad != nil {
		return 0, unwanted
	}
	before := t.bytes()
	t.add(row, r.Offset)
	return t.bytes() - before, unwanted
}

// rollups bring blocks of sums into the tables, each block once.
//
// Rows of telemetry can be looked for by their offsets; sums cannot. So each insert
// of sums carries one row more, the mark: it has no tenant, and says in its `max` up
// to which offset of the partition the table has the sums. The mark and the sums are
// one part in ClickHouse, which is there or is not; that is why the years, which are
// partitions of the table, are inserted one by one. Marks of one partition of the log
// become one row when ClickHouse merges.
//
// The latest values may be inserted any number of times.
type rollups struct {
	conn  *clickhouse.Conn
	retry retry
	// suffix of the tables written to
	suffix string
}

func newRollups(conn *clickhouse.Conn, r retry) *rollups {
	return &rollups{conn: conn, retry: r}
}

// write brings in what the block's tally has. The token names the block, mark its
// partition of the log.
func (r *rollups) write(ctx context.Context, b *block, mark, token string) error {
	t := b.filler.(*telemetrySums).tally
	defer t.clear()
	group, ctx := errgroup.WithContext(ctx)
	for i, by := range intervals {
		group.Go(func() error {
			sums, table := t.sums[i], by.table+r.suffix
			for year, chosen := range sums.byYear() {
				p := rollupPart{r, table, mark, year, b.last}
				if err := p.insert(ctx, p.sums(t, sums, chosen), fmt.Sprintf("%s/%s/%d", token, table, year), b.announced); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		values := latestOf(t)
		if values.rows == 0 {
			return nil
		}
		return r.retry.untilDone(ctx, "insert latest values", func(ctx context.Context) error {
			return send(ctx, r.conn, "telemetry_latest"+r.suffix, values.columns, values.rows, "")
		})
	})
	return group.Wait()
}

// rollupPart is the sums of one block in one year of one table.
type rollupPart struct {
	*rollups
	table, mark string
	year        int
	last        int64
}

func (p rollupPart) insert(ctx context.Context, sums insertion, token string, again bool) error {
	if again && p.conn.Cluster() == "" {
		if there, err := p.there(ctx); err != nil || there {
			return err
		}
	}
	for n, doubt := 0, again; ; n++ {
		name := token
		if n > 0 {
			name = fmt.Sprintf("%s/repair-%d", token, n)
		}
		if err := p.retry.untilDone(ctx, "insert sums", func(ctx context.Context) error {
			err := send(ctx, p.conn, p.table, sums.columns, sums.rows, name)
			doubt = doubt || err != nil
			return err
		}); err != nil || !doubt || p.conn.Cluster() != "" {
			// On a cluster the sums are on all shards and the mark on one. There a token
			// and its rows are known at the same time.
			return err
		}
		// ClickHouse may know a token whose rows never came.
		if there, err := p.there(ctx); err != nil || there {
			return err
		}
		doubt = false
		p.retry.logger.Warn("sums that were inserted are missing, inserting them", "table", p.table, "token", name)
	}
}

// there tells whether the table has the block's sums. No insert of them may be under
// way.
func (p rollupPart) there(ctx context.Context) (there bool, err error) {
	err = p.retry.untilDone(ctx, "look for inserted sums", func(ctx context.Context) error {
		var up float64
		row := p.conn.QueryRow(ctx, "SELECT max(max) FROM "+p.table+" WHERE tenant = '' AND path = ? AND device = '' AND ts = toDateTime64(?, 0, 'UTC')",
			p.mark, startOfYear(p.year).Unix())
		if err := row.Scan(&up); err != nil {
			return fmt.Errorf("read how far %s is: %w", p.table, err)
		}
		there = up >= float64(p.last)
		return nil
	})
	return there, err
}

// Event times of telemetry may be anything from 1900 on; the tables put what is
// before and after these years into the first and the last.
const firstYear, lastYear = 2000, 2099

func startOfYear(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// byYear are the indexes of the sums by the partition of the table they go to.
func (s *sums) byYear() map[int][]int {
	years := map[int][]int{}
	for i := range s.all {
		year := min(max(time.Unix(s.all[i].start, 0).UTC().Year(), firstYear), lastYear)
		years[year] = append(years[year], i)
	}
	return years
}

// sumColumns are the columns of the tables of sums. ClickHouse puts the
// tuples `first` and `last` together from those whose names begin so.
type sumColumns struct {
	tenant, path, component, module vector[string]
	device                          vector[string]
	ts, firstTS, lastTS             vector[int64]
	firstOffset, lastOffset         vector[int64]
	count, nonzero                  vector[uint64]
	sum, min, max                   vector[float64]
	firstValue, lastValue           vector[float64]
}

const (
	wordKind    = "LowCardinality(String)"
	secondsKind = "DateTime64(0, 'UTC')"
	millisKind  = "DateTime64(3, 'UTC')"
)

func newSumColumns() *sumColumns {
	return &sumColumns{
		tenant:      vector[string]{name: "tenant", kind: wordKind},
		path:        vector[string]{name: "path", kind: wordKind},
		device:      vector[string]{name: "device", kind: "String"},
		component:   vector[string]{name: "component", kind: wordKind},
		module:      vector[string]{name: "module", kind: wordKind},
		ts:          vector[int64]{name: "ts", kind: secondsKind},
		count:       vector[uint64]{name: "count", kind: "UInt64"},
		nonzero:     vector[uint64]{name: "nonzero", kind: "UInt64"},
		sum:         vector[float64]{name: "sum", kind: "Float64"},
		min:         vector[float64]{name: "min", kind: "Float64"},
		max:         vector[float64]{name: "max", kind: "Float64"},
		firstTS:     vector[int64]{name: "first_ts", kind: millisKind},
		firstOffset: vector[int64]{name: "first_offset", kind: "Int64"},
		firstValue:  vector[float64]{name: "first_value", kind: "Float64"},
		lastTS:      vector[int64]{name: "last_ts", kind: millisKind},
		lastOffset:  vector[int64]{name: "last_offset", kind: "Int64"},
		lastValue:   vector[float64]{name: "last_value", kind: "Float64"},
	}
}

// columns are those of a table, with the first and last values where it has them.
func (c *sumColumns) columns(ends bool) []column {
	columns := []column{&c.tenant, &c.path, &c.device, &c.component, &c.module, &c.ts, &c.count, &c.nonzero, &c.sum, &c.min, &c.max}
	if ends {
		columns = append(columns, &c.firstTS, &c.firstOffset, &c.firstValue, &c.lastTS, &c.lastOffset, &c.lastValue)
	}
	return columns
}

func (c *sumColumns) add(o sender, path string, s *sum) {
	c.tenant.add(o.tenant)
	c.path.add(path)
	c.device.add(o.device)
	c.component.add(o.component)
	c.module.add(o.module)
	c.ts.add(s.start * 1000) // clickhouse-go takes milliseconds for any DateTime64
	c.count.add(s.count)
	c.nonzero.add(s.nonzero)
	c.sum.add(s.sum)
	c.min.add(s.min)
	c.max.add(s.max)
	c.firstTS.add(s.first.ts)
	c.firstOffset.add(s.first.offset)
	c.firstValue.add(s.first.number)
	c.lastTS.add(s.last.ts)
	c.lastOffset.add(s.last.offset)
	c.lastValue.add(s.last.number)
}

// insertion is rows on their way to one of the tables.
type insertion struct {
	columns []column
	rows    int
}

// sums are the chosen sums, and the mark.
func (p rollupPart) sums(t *tally, of *sums, chosen []int) insertion {
	c := newSumColumns()
	for _, i := range chosen {
		s := &of.all[i]
		from := &t.series[s.series]
		c.add(t.senders[from.sender], t.paths[from.path], s)
	}
	start := startOfYear(p.year)
	c.add(sender{}, p.mark, &sum{key: key{start: start.Unix()}, max: float64(p.last)})
	return insertion{c.columns(of.ends), len(chosen) + 1}
}

// latestOf are the latest values.
func latestOf(t *tally) insertion {
	tenant, path := vector[string]{name: "tenant", kind: wordKind}, vector[string]{name: "path", kind: wordKind}
	device := vector[string]{name: "device", kind: "String"}
	component, module := vector[string]{name: "component", kind: wordKind}, vector[string]{name: "module", kind: wordKind}
	ts, offset := vector[int64]{name: "ts", kind: millisKind}, vector[int64]{name: "offset", kind: "Int64"}
	number, kind := vector[float64]{name: "number", kind: "Float64"}, vector[int8]{name: "kind", kind: "Int8"}
	text := vector[[]byte]{name: "value", kind: "String"}
	for i := range t.series {
		s := &t.series[i]
		o := t.senders[s.sender]
		tenant.add(o.tenant)
		path.add(t.paths[s.path])
		device.add(o.device)
		component.add(o.component)
		module.add(o.module)
		ts.add(s.latest.ts)
		offset.add(s.latest.offset)
		number.add(s.latest.number)
		kind.add(int8(s.kind))
		text.add(t.text(s))
	}
	return insertion{[]column{&tenant, &path, &device, &component, &module, &ts, &offset, &number, &kind, &text}, len(t.series)}
}
