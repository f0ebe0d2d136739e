package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/trucks"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/engine/chdb"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
	"github.com/fleetlog/fleetlog/projections/schema"
)

const (
	truckCount = 1000
	truckSteps = 48 * 360 // two days
	truckSeed  = 7
	// truckRuns is how often each query is asked; the median counts.
	truckRuns = 7
)

var trucksFrom = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// tsbs asks the thirteen questions of the Time Series Benchmark Suite's IoT use case:
// of our tables, filled by the projections from the log, and of ClickHouse with a
// schema made by hand for them.
func (b *bench) tsbs(ctx context.Context) (rows []row, err error) {
	return b.onLog(ctx, "tsbs", func(ctx context.Context, log *eventlog.Log) (rows []row, err error) {
		return b.onClickHouse(ctx, "tsbs-clickhouse", func(ctx context.Context, conn *clickhouse.Conn, addr string) ([]row, error) {
			steps := pick(b, truckSteps, truckSteps/12)
			n, err := b.drive(ctx, log, conn, steps)
			if err != nil {
				return nil, err
			}
			loaded, err := b.load(ctx, log, conn, n)
			if err != nil {
				return nil, err
			}
			asked, err := b.ask(ctx, addr, trucksFrom.Add(time.Duration(steps)*trucks.Interval))
			return append(loaded, asked...), err
		})
	})
}

// onClickHouse runs a measurement on an embedded ClickHouse of its own, migrated.
func (b *bench) onClickHouse(ctx context.Context, name string, measure func(context.Context, *clickhouse.Conn, string) ([]row, error)) (rows []row, err error) {
	engine, err := chdb.Open(chdb.Config{Dir: filepath.Join(b.work, name), MemoryBytes: 8 << 30})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- engine.Serve(serving, listener) }()
	defer func() { stop(); err = errors.Join(err, <-served) }()
	addr := listener.Addr().String()
	conn, err := clickhouse.Open(ctx, clickhouse.Config{Addr: addr})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := schema.Migrate(ctx, conn); err != nil {
		return nil, err
	}
	return measure(ctx, conn, addr)
}

// plain is a schema as one would make it by hand for these questions.
var plain = []string{
	"CREATE DATABASE plain",
	`CREATE TABLE plain.tags (id UInt32, name String, fleet LowCardinality(String), driver LowCardinality(String), model LowCardinality(String),
		load_capacity Float64, fuel_capacity Float64, nominal_fuel_consumption Float64) ENGINE = MergeTree ORDER BY id`,
	`CREATE TABLE plain.readings (time DateTime, truck UInt32, latitude Float64, longitude Float64, elevation Float64, velocity Float64, heading Float64, grade Float64, fuel_consumption Float64)
		ENGINE = MergeTree ORDER BY (truck, time)`,
	`CREATE TABLE plain.diagnostics (time DateTime, truck UInt32, fuel_state Float64, current_load Float64, status Float64) ENGINE = MergeTree ORDER BY (truck, time)`,
}

// drive has the trucks' entries on the log and in the plain tables, and the trucks in
// the table of devices.
func (b *bench) drive(ctx context.Context, log *eventlog.Log, conn *clickhouse.Conn, steps int) (n int64, err error) {
	for _, statement := range plain {
		if err := conn.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	fleet := trucks.New(truckSeed, truckCount)
	if err := register(ctx, conn, fleet); err != nil {
		return 0, err
	}
	var failed error
	var once sync.Once
	tables := [2]*plainTable{{conn: conn, name: "readings"}, {conn: conn, name: "diagnostics"}}
	topic := log.Name(eventlog.Telemetry)
	for e := range fleet.Entries(trucksFrom, steps) {
		r := eventlog.CloudEvent(topic, fmt.Sprintf("%d-%d", e.Truck, n), "/devices/"+fleet.Trucks[e.Truck].Name, eventlog.TypeTelemetry, e.At,
			eventlog.ContentTypeJSON, eventlog.Key("default", fleet.Trucks[e.Truck].Name), e.JSON(nil))
		r.Timestamp = time.Now()
		log.Append(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failed = err })
			}
		})
		table := tables[0]
		if e.Diagnosis {
			table = tables[1]
		}
		if err := table.add(ctx, e); err != nil {
			return 0, err
		}
		if n++; n%5_000_000 == 0 {
			say("tsbs: %s entries sent", thousands(n))
		}
	}
	err = errors.Join(log.Flush(ctx), tables[0].send(ctx), tables[1].send(ctx))
	return n, errors.Join(err, failed)
}

// register puts the trucks into the table of devices and into the plain tags.
func register(ctx context.Context, conn *clickhouse.Conn, fleet *trucks.Fleet) error {
	devices, err := conn.PrepareBatch(ch.Context(ctx, ch.WithColumnNamesAndTypes([]ch.ColumnNameAndType{
		{Name: "tenant", Type: "LowCardinality(String)"}, {Name: "device", Type: "String"}, {Name: "properties", Type: bodyType}, {Name: "revision", Type: "UInt64"},
	})), "INSERT INTO devices (tenant, device, properties, revision)")
	if err != nil {
		return err
	}
	tags, err := conn.PrepareBatch(ctx, "INSERT INTO plain.tags")
	if err != nil {
		return err
	}
	for i, t := range fleet.Trucks {
		properties := fmt.Sprintf(`{"fleet":%q,"driver":%q,"model":%q,"load_capacity":%v,"fuel_capacity":%v,"nominal_fuel_consumption":%v}`,
			t.Fleet, t.Driver, t.Model, t.LoadCapacity, t.FuelCapacity, t.NominalFuelConsumption)
		if err := errors.Join(devices.Append("default", t.Name, properties, uint64(1)),
			tags.Append(uint32(i), t.Name, t.Fleet, t.Driver, t.Model, t.LoadCapacity, t.FuelCapacity, t.NominalFuelConsumption)); err != nil {
			return err
		}
	}
	return errors.Join(devices.Send(), tags.Send())
}

// plainTable takes entries in batches.
type plainTable struct {
	conn    *clickhouse.Conn
	name    string
	entries []trucks.Entry
}

func (p *plainTable) add(ctx context.Context, e trucks.Entry) error {
	if p.entries = append(p.entries, e); len(p.entries) < 500_000 {
		return nil
	}
	return p.send(ctx)
}

func (p *plainTable) send(ctx context.Context) error {
	batch, err := p.conn.PrepareBatch(ctx, "INSERT INTO plain."+p.name)
	if err != nil {
		return err
	}
	for i := range p.entries {
		e := &p.entries[i]
		if e.Diagnosis {
			err = batch.Append(e.At, uint32(e.Truck), e.FuelState, e.CurrentLoad, float64(e.Status))
		} else {
			err = batch.Append(e.At, uint32(e.Truck), e.Latitude, e.Longitude, e.Elevation, e.Velocity, e.Heading, e.Grade, e.FuelConsumption)
		}
		if err != nil {
			return err
		}
	}
	p.entries = p.entries[:0]
	return batch.Send()
}

// load has the projections bring the log into the tables.
func (b *bench) load(ctx context.Context, log *eventlog.Log, conn *clickhouse.Conn, n int64) (rows []row, err error) {
	began := time.Now()
	stop, err := start(ctx, log, conn, projections.NewTelemetry, projections.NewTelemetrySums)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := untilCount(ctx, conn, "SELECT count() FROM telemetry", n); err != nil {
		return nil, err
	}
	inserted := time.Since(began)
	// A reading has seven numbers, a diagnosis three.
	var numbers uint64
	if err := conn.QueryRow(ctx, "SELECT 7 * (SELECT count() FROM plain.readings) + 3 * (SELECT count() FROM plain.diagnostics)").Scan(&numbers); err != nil {
		return nil, err
	}
	for _, table := range []string{"telemetry_1m", "telemetry_10m", "telemetry_1h"} {
		if err := untilCount(ctx, conn, "SELECT sum(count) FROM "+table+" WHERE tenant != ''", int64(numbers)); err != nil {
			return nil, err
		}
	}
	all := time.Since(began)
	for _, table := range []string{"telemetry", "telemetry_1m", "telemetry_10m", "telemetry_1h", "telemetry_latest", "plain.readings", "plain.diagnostics"} {
		say("tsbs: merging %s", table)
		if err := conn.Exec(ch.Context(ctx, ch.WithSettings(ch.Settings{"max_execution_time": 0})), "OPTIMIZE TABLE "+table+" FINAL"); err != nil {
			return nil, err
		}
	}
	return []row{{
		what: "TSBS: " + thousands(n) + " entries of 1,000 trucks, from the log into telemetry, beside the sums", measured: perSecond(float64(n) / inserted.Seconds()),
		peer: "with sums and latest values " + perSecond(float64(n)/all.Seconds()), ratio: "–", target: "–", result: noted, note: sizes(ctx, conn, n),
	}}, nil
}

type constructor = func(*eventlog.Log, *clickhouse.Conn, projections.Options) (*projections.Projection, error)

// start runs projections until the returned function is called.
func start(ctx context.Context, log *eventlog.Log, conn *clickhouse.Conn, constructors ...constructor) (stop func(), err error) {
	running, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	stop = func() { cancel(); working.Wait() }
	for _, construct := range constructors {
		p, err := construct(log, conn, projections.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			stop()
			return nil, err
		}
		working.Go(func() {
			if err := p.Run(running); err != nil {
				say("projection: %v", err)
			}
		})
	}
	return stop, nil
}

// sizes says how much a message takes on disk.
func sizes(ctx context.Context, conn *clickhouse.Conn, n int64) string {
	found, err := conn.Query(ctx, "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database IN ('fleetlog', 'plain') AND table IN ('telemetry', 'telemetry_1m', 'telemetry_10m', 'telemetry_1h', 'telemetry_latest', 'devices', 'readings', 'diagnostics') GROUP BY table ORDER BY table")
	if err != nil {
		return firstLine(err)
	}
	defer found.Close()
	var parts []string
	for found.Next() {
		var table string
		var bytes uint64
		if err := found.Scan(&table, &bytes); err != nil {
			return firstLine(err)
		}
		parts = append(parts, fmt.Sprintf("%s %.1f", table, float64(bytes)/float64(n)))
	}
	return "bytes a message on disk: " + strings.Join(parts, ", ")
}

func untilCount(ctx context.Context, conn *clickhouse.Conn, sql string, n int64) error {
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		var have uint64
		if err := conn.QueryRow(ctx, sql).Scan(&have); err != nil {
			return err
		}
		if int64(have) >= n {
			tick.Stop()
			if int64(have) > n {
				return fmt.Errorf("%s: %d, want %d", sql, have, n)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask measures the questions.
func (b *bench) ask(ctx context.Context, addr string, end time.Time) (rows []row, err error) {
	for _, q := range truckQuestions(end) {
		ours, answer, err := timed(ctx, addr, q.ours)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", q.name, err)
		}
		theirs, want, err := timed(ctx, addr, q.plain)
		if err != nil {
			return rows, fmt.Errorf("%s, plain: %w", q.name, err)
		}
		note := fmt.Sprintf("%d rows", bytes.Count(answer, []byte("\n")))
		same := bytes.Equal(answer, want)
		switch {
		case q.near:
			note += ", by ten minutes"
		case !same:
			note += fmt.Sprintf(", **not those of the plain schema, which are %d**", bytes.Count(want, []byte("\n")))
			say("tsbs: %s:\n%.300s\nplain:\n%.300s", q.name, answer, want)
		}
		rows = append(rows, row{
			what: "… " + q.name, measured: millis(ours), peer: "hand-made schema " + millis(theirs), ratio: times(ours.Seconds() / theirs.Seconds()),
			target: "≤ " + millis(q.target), result: judge(ours <= q.target && (same || q.near)), note: note,
		})
	}
	return rows, nil
}

// timed asks and gives the median time, to the last byte, and the answer.
func timed(ctx context.Context, addr, sql string) (time.Duration, []byte, error) {
	var took []time.Duration
	var answer []byte
	for i := range truckRuns + 1 {
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/?"+url.Values{"database": {"fleetlog"}, "default_format": {"TabSeparated"}}.Encode(), strings.NewReader(sql))
		if err != nil {
			return 0, nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, nil, err
		}
		answer, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return 0, nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, nil, fmt.Errorf("%s: %.300s", resp.Status, answer)
		}
		if i > 0 {
			took = append(took, time.Since(began))
		}
	}
	return percentile(took, 50), answer, nil
}
