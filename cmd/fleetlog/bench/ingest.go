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
	name  string
	run   func(context.Context) (load.Result, error)
	rates []float64
}

// ingest compares acknowledged messages/s with Mosquitto's and mochi-mqtt's: one
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
	var total int64
	contestants := []*contestant{
		{name: "Fleetlog", run: func(ctx context.Context) (load.Result, error) {
			result, err := b.ingestFleetlog(ctx, dir, devices, total)
			total += result.Acked
			return result, err
		}},
		{name: "Mosquitto", run: func(ctx context.Context) (load.Result, error) {
			p, address, err := b.startMosquitto(ctx)
			return b.flood(ctx, p, address, anonymous(devices), err)
		}},
		{name: "mochi-mqtt", run: func(ctx context.Context) (load.Result, error) {
			p, address, err := b.startMochi(ctx)
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
			say("  %-10s %s  p50 %s  p99 %s", c.name, perSecond(result.Rate), millis(result.Latency.P50), millis(result.Latency.P99))
		}
	}
	us, mosquitto, mochi := median(contestants[0].rates), median(contestants[1].rates), median(contestants[2].rates)
	const what = "acknowledged QoS 1 messages, 200 connections × 64 in flight, 150 bytes"
	return []row{
		{what, perSecond(us), "Mosquitto " + perSecond(mosquitto), times(us / mosquitto), "≥ 5 ×", judge(us >= 5*mosquitto), ""},
		{what, perSecond(us), "mochi-mqtt " + perSecond(mochi), times(us / mochi), "≥ 3 ×", judge(us >= 3*mochi), ""},
	}, nil
}

// ingestFleetlog starts the platform on its directory again and waits for the
// projection before and after, so that it takes no time from anyone's turn but
// its own.
func (b *bench) ingestFleetlog(ctx context.Context, dir string, devices []load.Device, before int64) (load.Result, error) {
	const patience = 2 * time.Minute
	p, err := b.startFleetlog(ctx, dir)
	if err != nil {
		return load.Result{}, err
	}
	result, err := b.publish(ctx, p.mqtt(), devices)
	if err == nil {
		_, _, err = p.untilRows(ctx, before+result.Acked, patience)
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
