package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
)

const (
	fleetDevices     = 10_000
	analyticsTarget  = 0.8 // of a bare insert
	fleetMessageTime = 10 * time.Second
)

// sensor is one device of a generated fleet: its values wander, and it is of a kind
// that sends some of them.
type sensor struct {
	temperature, humidity, battery, pressure float64
	kind                                     int
	errors                                   int
}

// sensors are a fleet with realistic noise: values that wander and are rounded as
// devices round them, states that rarely change, errors now and then.
type sensors struct {
	random *rand.Rand
	all    []sensor
}

func newSensors(seed uint64, n int) *sensors {
	f := &sensors{random: rand.New(rand.NewPCG(seed, 2)), all: make([]sensor, n)} //nolint:gosec // not for secrets
	for i := range f.all {
		f.all[i] = sensor{temperature: 15 + 10*f.random.Float64(), humidity: 30 + 40*f.random.Float64(), battery: 100 * f.random.Float64(), pressure: 1013, kind: f.random.IntN(3)}
	}
	return f
}

var states = []string{"running", "idle", "maintenance"}

// message appends what the device sends next.
func (f *sensors) message(b []byte, device int) []byte {
	s, r := &f.all[device], f.random
	s.temperature += r.NormFloat64() * 0.05
	s.humidity = min(max(s.humidity+r.NormFloat64()*0.2, 0), 100)
	if s.battery -= 0.001; s.battery < 5 {
		s.battery = 100
	}
	b = fmt.Appendf(b, `{"temperature":%.2f,"humidity":%.1f,"battery":%.0f`, s.temperature, s.humidity, s.battery)
	switch s.kind {
	case 0:
		s.pressure += r.NormFloat64() * 0.02
		b = fmt.Appendf(b, `,"pressure":%.2f,"state":%q`, s.pressure, states[s.errors%len(states)])
	case 1:
		b = fmt.Appendf(b, `,"rssi":%d`, -60-r.IntN(30))
	}
	if r.IntN(1000) == 0 {
		s.errors++
		b = fmt.Appendf(b, `,"error":{"code":%d,"text":"sensor %d does not answer"}`, 100+r.IntN(20), r.IntN(8))
	}
	return append(b, '}')
}

// analytics measures what a fleet of 10,000 devices costs from the log into
// ClickHouse and on disk.
func (b *bench) analytics(ctx context.Context) (rows []row, err error) {
	return b.onLog(ctx, "analytics", func(ctx context.Context, log *eventlog.Log) ([]row, error) {
		return b.onClickHouse(ctx, "analytics-clickhouse", func(ctx context.Context, conn *clickhouse.Conn, _ string) ([]row, error) {
			n := b.messages
			if n == 0 {
				n = pick[int64](b, 100_000_000, 3_000_000)
			}
			if err := sendFleet(ctx, log, n); err != nil {
				return nil, err
			}
			return b.projectFleet(ctx, log, conn, n)
		})
	})
}

// sendFleet puts n messages on the log.
func sendFleet(ctx context.Context, log *eventlog.Log, n int64) error {
	fleet, topic := newSensors(1, fleetDevices), log.Name(eventlog.Telemetry)
	names, failed := make([]string, fleetDevices), make(chan error, 1)
	for i := range names {
		names[i] = fmt.Sprintf("sensor-%05d", i)
	}
	began := time.Now().Add(-time.Duration(n/fleetDevices) * fleetMessageTime).Truncate(time.Second)
	for i := range n {
		device := int(i % fleetDevices)
		at := began.Add(time.Duration(i/fleetDevices)*fleetMessageTime + time.Duration(fleet.random.IntN(1000))*time.Millisecond)
		r := eventlog.CloudEvent(topic, fmt.Sprintf("%s-%d", names[device], i/fleetDevices), "/devices/"+names[device], eventlog.TypeTelemetry, at,
			eventlog.ContentTypeJSON, eventlog.Key("default", names[device]), fleet.message(nil, device))
		log.Append(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		if i%10_000_000 == 9_999_999 {
			say("analytics: %s messages on the log", thousands(i+1))
		}
	}
	if err := log.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (b *bench) projectFleet(ctx context.Context, log *eventlog.Log, conn *clickhouse.Conn, n int64) (rows []row, err error) {
	messages, err := project(ctx, log, conn, projections.NewTelemetry, "SELECT count() FROM telemetry", n)
	if err != nil {
		return nil, err
	}
	blocks, err := readBlocks(ctx, conn, bareRows)
	if err != nil {
		return nil, fmt.Errorf("read the rows to insert: %w", err)
	}
	var rates []float64
	for range 3 {
		rate, err := bareInsert(ctx, conn, blocks)
		if err != nil {
			return nil, fmt.Errorf("bare insert: %w", err)
		}
		rates = append(rates, rate)
	}
	bare := median(rates)
	rows = append(rows, row{
		what:     "projection of " + thousands(n) + " messages of " + thousands(fleetDevices) + " devices",
		measured: perSecond(messages), peer: "clickhouse-go batches " + perSecond(bare), ratio: times(messages / bare), target: "≥ 0.8 ×",
		result: judge(messages >= analyticsTarget*bare),
	})
	// Every message has a battery's charge.
	sums, err := project(ctx, log, conn, projections.NewTelemetrySums, "SELECT sum(count) FROM telemetry_1h WHERE tenant != '' AND path = 'battery'", n)
	if err != nil {
		return rows, err
	}
	return append(rows, row{
		what: "… sums and latest values of the same", measured: perSecond(sums), peer: "its rows " + perSecond(messages), ratio: times(sums / messages),
		target: "–", result: noted, note: sizes(ctx, conn, n),
	}), nil
}

// project runs one projection until the query counts n, and returns how many records
// it did a second.
func project(ctx context.Context, log *eventlog.Log, conn *clickhouse.Conn, construct constructor, count string, n int64) (float64, error) {
	began := time.Now()
	stop, err := start(ctx, log, conn, construct)
	if err != nil {
		return 0, err
	}
	defer stop()
	if err := untilCount(ctx, conn, count, n); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
