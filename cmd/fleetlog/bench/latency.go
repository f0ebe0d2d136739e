package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

const (
	defaultPeak   = 100_000 // messages/s of the whole path
	probeEvery    = 50 * time.Millisecond
	lookEvery     = 10 * time.Millisecond
	latencyTarget = time.Second
	probeWait     = 30 * time.Second // for the last probes to arrive
)

// latency measures how long a message takes from its publish to the first query
// that finds it, while others come at a quarter of the peak rate.
func (b *bench) latency(ctx context.Context) (rows []row, err error) {
	rate := b.probeRate
	if rate == 0 {
		peak := b.peak
		if peak == 0 {
			peak = defaultPeak
		}
		rate = peak / 4
	}
	p, err := b.startFleetlog(ctx, filepath.Join(b.work, "latency"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.discard(p)) }()
	devices, err := p.devices(ctx, pathConnections+1)
	if err != nil {
		return nil, err
	}
	fleet, err := load.Connect(ctx, load.Options{Address: p.mqtt(), Devices: devices[1:], Payload: meterPayload(0), Inflight: pathInflight})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fleet.Close()) }()

	type flood struct {
		load.Result
		error
	}
	flooding, stop := context.WithCancel(ctx)
	defer stop()
	flooded := make(chan flood, 1)
	go func() {
		// Longer than the probes need; ended by stop.
		result, err := fleet.Publish(flooding, load.Pace{Rate: rate, Duration: time.Hour})
		flooded <- flood{result, err}
	}()
	took, err := probe(ctx, p, devices[0], pick(b, 30*time.Second, 8*time.Second))
	sent := fleet.Acked()
	stop()
	if end := <-flooded; !errors.Is(end.error, context.Canceled) {
		err = errors.Join(err, end.error)
	}
	if err != nil {
		return nil, err
	}
	say("  %d probes, %s other messages", len(took), thousands(sent))
	p50, p99, most := percentile(took, 50), percentile(took, 99), percentile(took, 100)
	return []row{{
		what:     "publish to queryable row, p99, at " + perSecond(rate),
		measured: millis(p99), peer: "fixed target", ratio: times(float64(p99) / float64(latencyTarget)), target: "< 1 s",
		result: judge(p99 < latencyTarget), note: fmt.Sprintf("p50 %s, max %s, %d probes", millis(p50), millis(most), len(took)),
	}}, nil
}

// probe publishes numbered messages for a while and watches when each can be
// queried.
func probe(ctx context.Context, p *platform, d load.Device, duration time.Duration) ([]time.Duration, error) {
	o := paho.NewClientOptions().AddBroker("tcp://" + p.mqtt()).SetClientID(d.ID).SetUsername(d.User).SetPassword(d.Password).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(probeWait)
	client := paho.NewClient(o)
	defer client.Disconnect(100)
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		return nil, fmt.Errorf("connect the probe: %w", token.Error())
	}
	var published []time.Time
	var took []time.Duration
	began := time.Now()
	for publishing := true; publishing || len(took) < len(published); {
		now := time.Now()
		publishing = now.Sub(began) < duration
		if publishing && now.Sub(began) >= time.Duration(len(published))*probeEvery {
			published = append(published, now)
			client.Publish(d.Topic, 1, false, `{"probe":`+strconv.Itoa(len(published))+`}`)
		}
		seen, err := lastProbe(ctx, p, d.ID)
		if err != nil {
			return nil, err
		}
		for now = time.Now(); len(took) < min(seen, len(published)); {
			took = append(took, now.Sub(published[len(took)]))
		}
		if now.Sub(began) > duration+probeWait {
			return nil, fmt.Errorf("only %d of %d probes can be queried after %s", len(took), len(published), probeWait)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookEvery):
		}
	}
	return took, nil
}

// lastProbe is the number of the last probe that can be queried; one device's
// messages arrive in order.
func lastProbe(ctx context.Context, p *platform, device string) (int, error) {
	text, err := p.query(ctx, "SELECT count() FROM fleetlog.telemetry WHERE tenant = 'default' AND device = '"+strings.ReplaceAll(device, "'", "")+"'")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
