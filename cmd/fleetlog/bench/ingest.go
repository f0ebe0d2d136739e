package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

const (
	ingestConnections = 200
	ingestInflight    = 64
	ingestPayload     = 150 // bytes
)

// meterPayload is the smart meter's, padded to a size where one is given.
func meterPayload(size int) string {
	payload := `{"pulseCounter":` + load.Counter + `,"leakage":false,"batteryLevel":97}`
	if missing := size - len(payload) - len(`,"note":""`); missing >= 0 {
		payload = strings.TrimSuffix(payload, "}") + `,"note":"` + strings.Repeat("x", missing) + `"}`
	}
	return payload
}

// contestant is one of the brokers whose ingest is compared.
type contestant struct {
	name   string
	run    func(context.Context) (load.Result, error)
	target float64 // how many times its rate ours is to be; 0: just so
	rates  []float64
}

// ingest compares acknowledged messages/s with Mosquitto's, mochi-mqtt's and HiveMQ's: one
// broker at a time, in turns, the median of each.
func (b *bench) ingest(ctx context.Context) ([]row, error) {
	dir := filepath.Join(b.work, "ingest")
	ours, err := b.startFleetlog(ctx, dir)
	if err != nil {
		return nil, err
	}
	devices, err := ours.devices(ctx, ingestConnections)
	if err = errors.Join(err, ours.stop()); err != nil {
		return nil, err
	}
	var total int64 // of all turns of the platform so far
	turn := func(paused bool) func(context.Context) (load.Result, error) {
		return func(ctx context.Context) (load.Result, error) {
			result, err := b.ingestFleetlog(ctx, dir, devices, total, paused)
			total += result.Acked
			return result, err
		}
	}
	contestants := []*contestant{
		{name: "ingest alone", run: turn(true)},
		{name: "all roles", run: turn(false)},
		{name: "Mosquitto", target: 6, run: func(ctx context.Context) (load.Result, error) {
			p, address, err := b.startMosquitto(ctx)
			return b.flood(ctx, p, address, anonymous(devices), err)
		}},
		{name: "mochi-mqtt", target: 3, run: func(ctx context.Context) (load.Result, error) {
			p, address, err := b.startMochi(ctx)
			return b.flood(ctx, p, address, anonymous(devices), err)
		}},
		{name: "HiveMQ CE", run: func(ctx context.Context) (load.Result, error) {
			p, address, err := b.startHiveMQ(ctx, anonymous(devices))
			return b.flood(ctx, p, address, anonymous(devices), err)
		}},
	}
	for range pick(b, 3, 1) {
		for _, c := range contestants {
			result, err := c.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			c.rates = append(c.rates, result.Rate)
			say("  %-12s %s  p50 %s  p99 %s", c.name, perSecond(result.Rate), millis(result.Latency.P50), millis(result.Latency.P99))
		}
	}
	var rows []row
	for _, us := range contestants[:2] {
		for _, peer := range contestants[2:] {
			ratio := median(us.rates) / median(peer.rates)
			r := row{
				what:     "acknowledged QoS 1 messages, 200 connections × 64 in flight, 150 bytes, " + us.name,
				measured: perSecond(median(us.rates)), peer: peer.name + " " + perSecond(median(peer.rates)),
				ratio: times(ratio), target: "–", result: noted,
			}
			if peer.target > 0 {
				r.target, r.result = fmt.Sprintf("≥ %.0f ×", peer.target), judge(ratio >= peer.target)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// ingestFleetlog starts the platform on its directory again and, in the end, waits
// until the projection has done what was before and what has come now, so that it
// takes no time from another turn. While it is paused, what is measured is what
// the brokers do, too; else the projection writes meanwhile.
func (b *bench) ingestFleetlog(ctx context.Context, dir string, devices []load.Device, before int64, paused bool) (load.Result, error) {
	const patience = 3 * time.Minute
	p, err := b.startFleetlog(ctx, dir)
	if err != nil {
		return load.Result{}, err
	}
	resume := func() error { return nil }
	if paused {
		resume, err = p.pauseProjection(ctx)
	}
	var result load.Result
	if err == nil {
		result, err = b.publish(ctx, p.mqtt(), devices)
		err = errors.Join(err, resume())
	}
	if err == nil {
		var rows int64
		if rows, _, err = p.untilRows(ctx, before+result.Acked, patience); err == nil && rows < before+result.Acked {
			err = fmt.Errorf("%s rows are missing after %s", thousands(before+result.Acked-rows), patience)
		}
	}
	return result, errors.Join(err, p.stop())
}

// flood measures a broker that has just been started, with err if it hasn't, and
// stops it.
func (b *bench) flood(ctx context.Context, p *process, address string, devices []load.Device, err error) (load.Result, error) {
	if p == nil {
		return load.Result{}, err
	}
	var result load.Result
	if err == nil {
		result, err = b.publish(ctx, address, devices)
	}
	return result, errors.Join(err, p.stop())
}

func (b *bench) publish(ctx context.Context, address string, devices []load.Device) (load.Result, error) {
	fleet, err := load.Connect(ctx, load.Options{
		Address: address, Devices: devices, Payload: meterPayload(ingestPayload), Inflight: ingestInflight,
	})
	if err != nil {
		return load.Result{}, err
	}
	result, err := fleet.Publish(ctx, load.Pace{
		Warmup:   pick(b, time.Second, 500*time.Millisecond),
		Duration: pick(b, 5*time.Second, 2*time.Second),
	})
	if err == nil && result.Lost > 0 {
		err = fmt.Errorf("%d connections were lost: %w", result.Lost, result.Reason)
	}
	return result, errors.Join(err, fleet.Close())
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// percentile of durations; 100 is the longest.
func percentile(values []time.Duration, percent int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}
