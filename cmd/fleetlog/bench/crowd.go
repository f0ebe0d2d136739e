package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

const (
	crowdConnections = 50_000
	crowdEvery       = time.Minute // between two messages of an idle device
	fastConnections  = 100
	fastInflight     = 64
	crowdPlainTarget = 12 << 10 // bytes a connection
	crowdTLSTarget   = 40 << 10
	stormTarget      = time.Minute
	fastTarget       = 0.9
	// spareFiles is what a process needs beside its connections.
	spareFiles = 1000
)

// crowd measures what very many quiet devices cost, and whether they slow down a
// few that send at full speed. A process may hold fewer open files than there are
// devices, so the crowd is spread over gateway nodes of one log and over as many
// processes that play devices.
func (b *bench) crowd(ctx context.Context) (rows []row, _ error) {
	n := pick(b, crowdConnections, crowdConnections/10)
	var devices []load.Device
	for _, secure := range []bool{false, true} {
		// Anew each time: what floods have left on the heap must not serve connections.
		s, err := b.startCrowdSite(ctx, n, devices)
		if err != nil {
			return rows, err
		}
		devices = slices.Concat(s.fast, s.crowd)
		measured, err := s.measure(ctx, secure)
		rows = append(rows, measured...)
		if err = errors.Join(err, s.stop()); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// crowdSite is a platform with gateway nodes, and the devices of a crowd.
type crowdSite struct {
	b        *bench
	platform *platform
	gateways []*platform // the platform's own, and nodes beside it
	crowd    []load.Device
	fast     []load.Device
}

// startCrowdSite starts a platform for n devices and the fast ones, which are
// registered unless they are known.
func (b *bench) startCrowdSite(ctx context.Context, n int, devices []load.Device) (*crowdSite, error) {
	dir := filepath.Join(b.work, "crowd")
	p, err := b.startFleetlog(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &crowdSite{b: b, platform: p, gateways: []*platform{p}}
	if devices == nil {
		if devices, err = p.devices(ctx, n+fastConnections); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	s.fast, s.crowd = devices[:fastConnections], devices[fastConnections:]
	limit, err := raiseFileLimit()
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	each := int(min(limit-spareFiles, uint64(n)))
	for len(s.gateways)*each < n+fastConnections {
		name := fmt.Sprintf("gateway-%d", len(s.gateways))
		gateway, err := b.startGateway(ctx, p, name)
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		s.gateways = append(s.gateways, gateway)
	}
	say("  %s devices, %d gateway nodes", thousands(int64(n)), len(s.gateways))
	return s, nil
}

// startGateway starts a gateway node on the log of a platform.
func (b *bench) startGateway(ctx context.Context, p *platform, name string) (*platform, error) {
	gateway := &platform{dir: filepath.Join(b.work, name), token: p.token}
	// What an earlier one announced is not true any more.
	err := os.Remove(filepath.Join(gateway.dir, "endpoints.json"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	gateway.process, err = b.start(b.binary, "ingest", "--data-dir", gateway.dir, "--log-level", "warn",
		"--kafka", p.endpoints.Kafka, "--master-key", filepath.Join(p.dir, "master.key"),
		"--ops-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0", "--mqtts-addr", "127.0.0.1:0", "--https-addr", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return gateway, gateway.until(ctx, func(context.Context) bool { return gateway.announced() })
}

func (s *crowdSite) stop() error {
	var errs []error
	for i := len(s.gateways) - 1; i >= 0; i-- {
		errs = append(errs, s.gateways[i].stop())
	}
	return errors.Join(errs...)
}

// measure has the crowd connect, break off and come back, and then send now and
// then while the fast ones send as fast as they can.
func (s *crowdSite) measure(ctx context.Context, secure bool) (rows []row, err error) {
	kind, target := "plain", float64(crowdPlainTarget)
	if secure {
		kind, target = "TLS", crowdTLSTarget
	}
	before, err := s.memory(ctx)
	if err != nil {
		return nil, err
	}
	players, err := s.startPlayers(ctx, secure)
	if err != nil {
		return nil, errors.Join(err, players.stop())
	}
	first, err := players.connect()
	var after int64
	var storm time.Duration
	var beside float64
	if err == nil {
		after, err = s.memory(ctx)
	}
	if err == nil {
		err = players.breakOff()
	}
	if err == nil {
		storm, err = players.connect()
	}
	if err == nil {
		err = players.publish()
	}
	if err == nil {
		beside, err = s.fastRate(ctx)
	}
	if err = errors.Join(err, players.stop()); err != nil {
		return nil, err
	}
	alone, err := s.fastRate(ctx)
	if err != nil {
		return nil, err
	}
	n := int64(len(s.crowd))
	each, ratio := float64(after-before)/float64(n), beside/alone
	say("  %s: first connect %s, reconnect storm %s, %.1f KiB a connection, fast ones %s alone, %s beside the crowd", kind,
		first.Round(time.Millisecond), storm.Round(time.Millisecond), each/1024, perSecond(alone), perSecond(beside))
	stormRow := row{
		what: fmt.Sprintf("reconnect storm of %s devices, %s", thousands(n), kind), measured: fmt.Sprintf("%.1f s", storm.Seconds()),
		peer: "fixed target", ratio: times(storm.Seconds() / stormTarget.Seconds()), target: "≤ 60 s", result: judge(storm <= stormTarget),
	}
	if secure {
		stormRow.target, stormRow.result = "–", noted
	}
	return []row{
		{
			what: fmt.Sprintf("memory of an idle connection, of %s, %s", thousands(n), kind), measured: fmt.Sprintf("%.1f KiB", each/1024),
			peer: "fixed target", ratio: times(each / target), target: fmt.Sprintf("≤ %.0f KiB", target/1024), result: judge(each <= target),
			note: fmt.Sprintf("%d gateway nodes", len(s.gateways)),
		},
		stormRow,
		{
			what:     fmt.Sprintf("%d devices at full speed beside %s that send every %s, %s", fastConnections, thousands(n), crowdEvery, kind),
			measured: perSecond(beside), peer: "alone " + perSecond(alone), ratio: times(ratio), target: fmt.Sprintf("≥ %.1f ×", fastTarget),
			result: judge(ratio >= fastTarget),
		},
	}, nil
}

// fastRate is what the fast devices get acknowledged, messages/s, on the first
// gateway; the telemetry projection waits meanwhile, which is about the gateways.
func (s *crowdSite) fastRate(ctx context.Context) (rate float64, err error) {
	resume, err := s.platform.pauseProjection(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resume()) }()
	fleet, err := load.Connect(ctx, load.Options{Address: s.platform.mqtt(), Devices: s.fast, Payload: meterPayload(ingestPayload), Inflight: fastInflight})
	if err != nil {
		return 0, err
	}
	result, err := fleet.Publish(ctx, load.Pace{Warmup: time.Second, Duration: pick(s.b, 10*time.Second, 3*time.Second)})
	return result.Rate, errors.Join(err, fleet.Close())
}

// memory is what all gateways have in RAM together.
func (s *crowdSite) memory(ctx context.Context) (total int64, err error) {
	for _, gateway := range s.gateways {
		rss, err := gateway.steady(ctx)
		if err != nil {
			return 0, err
		}
		total += rss
	}
	return total, nil
}
