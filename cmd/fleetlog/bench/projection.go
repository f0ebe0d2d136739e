package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
)

const (
	bareRows         = 500_000
	bareBlock        = 50_000
	projectionTarget = 0.6

	// mostOfIt is when catching up counts as done: the very last rows wait for
	// their batch to be due.
	mostOfIt = 0.9
)

// projection compares how fast the projection works off a backlog with a bare
// batch insert of the same rows.
func (b *bench) projection(ctx context.Context) (rows []row, err error) {
	p, err := b.startFleetlog(ctx, filepath.Join(b.work, "projection"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.discard(p)) }()
	ours, backlog, err := b.catchUp(ctx, p)
	if err != nil {
		return nil, err
	}
	bare, err := b.bareInserts(ctx, p)
	if err != nil {
		return nil, err
	}
	return []row{{
		what:     "projection of a backlog of " + thousands(backlog) + " messages",
		measured: perSecond(ours), peer: "clickhouse-go batches " + perSecond(bare), ratio: times(ours / bare), target: "≥ 0.6 ×",
		result: judge(ours >= projectionTarget*bare),
	}}, nil
}

// catchUp fills the log while the projection can't write, then measures how fast
// it works off what has piled up.
func (b *bench) catchUp(ctx context.Context, p *platform) (rate float64, backlog int64, err error) {
	devices, err := p.devices(ctx, ingestConnections)
	if err != nil {
		return 0, 0, err
	}
	acked, err := b.fill(ctx, p, devices, pick[int64](b, 2_000_000, 500_000))
	if err != nil {
		return 0, 0, err
	}
	// From the first rows on: before that the projection waits to try again.
	const patience = 2 * time.Minute
	before, _, err := p.untilRows(ctx, 1, patience)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	backlog = acked - before
	after, _, err := p.untilRows(ctx, before+int64(mostOfIt*float64(backlog)), patience)
	rate = float64(after-before) / time.Since(began).Seconds()
	if err == nil {
		after, _, err = p.untilRows(ctx, acked, patience)
	}
	if err == nil && after < acked {
		err = fmt.Errorf("%s rows are missing", thousands(acked-after))
	}
	return rate, backlog, err
}

// fill publishes at least n messages while the projection waits.
func (b *bench) fill(ctx context.Context, p *platform, devices []load.Device, n int64) (acked int64, err error) {
	resume, err := p.pauseProjection(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resume()) }()
	fleet, err := load.Connect(ctx, load.Options{Address: p.mqtt(), Devices: devices, Payload: meterPayload(0), Inflight: ingestInflight})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, fleet.Close()) }()
	for fleet.Acked() < n {
		if _, err := fleet.Publish(ctx, load.Pace{Duration: time.Second}); err != nil {
			return 0, err
		}
	}
	return fleet.Acked(), nil
}

// bareInserts writes rows of the projection's table into a copy of it and returns
// rows/s, the median of three times.
func (b *bench) bareInserts(ctx context.Context, p *platform) (float64, error) {
	conn, err := clickhouse.Open(ctx, clickhouse.Config{Addr: p.endpoints.ClickHouse, Database: "fleetlog"})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	blocks, err := readBlocks(ctx, conn, pick(b, bareRows, bareRows/5))
	if err != nil {
		return 0, fmt.Errorf("read the rows to insert: %w", err)
	}
	var rates []float64
	for range 3 {
		rate, err := bareInsert(ctx, conn, blocks)
		if err != nil {
			return 0, fmt.Errorf("bare insert: %w", err)
		}
		rates = append(rates, rate)
	}
	return median(rates), nil
}

// block is the columns of some rows of the telemetry table.
type block struct {
	tenants, devices, components, bodies, ids []string
	times, enqueued                           []time.Time
	properties                                []map[string]string
	partitions                                []int32
	offsets                                   []int64
}

// bodyType is the body's type as the table has it and as the projection sends it:
// ClickHouse takes longer for a String that it has to convert.
const bodyType = "JSON(max_dynamic_paths=256)"

const blockColumns = "tenant, device, ts, component, body, properties, id, enqueued_at, partition, offset"

func (k *block) columns() []any {
	return []any{k.tenants, k.devices, k.times, k.components, k.bodies, k.properties, k.ids, k.enqueued, k.partitions, k.offsets}
}

func readBlocks(ctx context.Context, conn driver.Conn, n int) (blocks []*block, err error) {
	rows, err := conn.Query(ctx, `SELECT tenant, device, ts, component, toString(body), properties, id, enqueued_at, partition, offset
		FROM fleetlog.telemetry ORDER BY partition, offset LIMIT `+fmt.Sprint(n))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for count := 0; rows.Next(); count++ {
		if count%bareBlock == 0 {
			blocks = append(blocks, new(block))
		}
		k := blocks[len(blocks)-1]
		var tenant, device, component, body, id string
		var at, enqueued time.Time
		var properties map[string]string
		var partition int32
		var offset int64
		if err := rows.Scan(&tenant, &device, &at, &component, &body, &properties, &id, &enqueued, &partition, &offset); err != nil {
			return nil, err
		}
		k.tenants, k.devices, k.components = append(k.tenants, tenant), append(k.devices, device), append(k.components, component)
		k.bodies, k.ids, k.properties = append(k.bodies, body), append(k.ids, id), append(k.properties, properties)
		k.times, k.enqueued = append(k.times, at), append(k.enqueued, enqueued)
		k.partitions, k.offsets = append(k.partitions, partition), append(k.offsets, offset)
	}
	return blocks, rows.Err()
}

// bareInsert writes the blocks into a new copy of the table, one after the other,
// as clickhouse-go does it best: by column, with the types known.
func bareInsert(ctx context.Context, conn driver.Conn, blocks []*block) (float64, error) {
	for _, sql := range []string{"DROP TABLE IF EXISTS fleetlog.bare", "CREATE TABLE fleetlog.bare AS fleetlog.telemetry"} {
		if err := conn.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	rows, began := 0, time.Now()
	for i, k := range blocks {
		inserting := ch.Context(ctx, ch.WithSettings(ch.Settings{"insert_deduplication_token": fmt.Sprint("bare/", i)}),
			ch.WithColumnNamesAndTypes([]ch.ColumnNameAndType{
				{Name: "tenant", Type: "LowCardinality(String)"}, {Name: "device", Type: "String"}, {Name: "ts", Type: "DateTime64(3, 'UTC')"},
				{Name: "component", Type: "LowCardinality(String)"}, {Name: "body", Type: bodyType},
				{Name: "properties", Type: "Map(LowCardinality(String), String)"}, {Name: "id", Type: "String"},
				{Name: "enqueued_at", Type: "DateTime64(3, 'UTC')"}, {Name: "partition", Type: "Int32"}, {Name: "offset", Type: "Int64"},
			}))
		batch, err := conn.PrepareBatch(inserting, "INSERT INTO fleetlog.bare ("+blockColumns+")")
		if err != nil {
			return 0, err
		}
		for c, values := range k.columns() {
			if err := batch.Column(c).Append(values); err != nil {
				return 0, errors.Join(err, batch.Abort())
			}
		}
		if err := batch.Send(); err != nil {
			return 0, err
		}
		rows += len(k.ids)
	}
	rate := float64(rows) / time.Since(began).Seconds()
	say("  bare insert %s", perSecond(rate))
	return rate, conn.Exec(ctx, "DROP TABLE fleetlog.bare")
}
