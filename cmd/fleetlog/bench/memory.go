package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

const (
	memoryConnections = 20_000
	memoryTarget      = 15 << 10 // bytes a connection
)

// memory measures what an idle, authenticated connection costs: by how much the
// memory of the whole process grows with very many of them.
func (b *bench) memory(ctx context.Context) (rows []row, err error) {
	n, note := memoryConnections, ""
	if limit := connectionLimit(); limit < n {
		n, note = limit, "as many as open files allow"
	}
	dir := filepath.Join(b.work, "memory")
	p, err := b.startFleetlog(ctx, dir)
	if err != nil {
		return nil, err
	}
	devices, err := p.devices(ctx, n)
	if err = errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	// Started again, so that what registering has left on the heap doesn't serve
	// the connections.
	if p, err = b.startFleetlog(ctx, dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.discard(p)) }()
	before, err := p.steady(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	fleet, err := load.Connect(ctx, load.Options{Address: p.mqtt(), Devices: devices})
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := p.steady(ctx)
	if err = errors.Join(err, fleet.Close()); err != nil {
		return nil, err
	}
	each := float64(after-before) / float64(n)
	say("  RSS %d MiB → %d MiB with %s connections made in %s", before>>20, after>>20, thousands(int64(n)), took.Round(10*time.Millisecond))
	if note != "" {
		note += "; "
	}
	return []row{{
		what:     fmt.Sprintf("memory of an idle connection, of %s", thousands(int64(n))),
		measured: fmt.Sprintf("%.1f KiB", each/1024), peer: "fixed target", ratio: times(each / memoryTarget), target: "≤ 15 KiB",
		result: judge(each <= memoryTarget),
		note:   note + fmt.Sprintf("process %d → %d MiB, %s", before>>20, after>>20, perSecond(float64(n)/took.Seconds())),
	}}, nil
}

// steady waits until the process' memory has stopped growing for a while, at most
// half a minute, and returns it.
func (p *platform) steady(ctx context.Context) (int64, error) {
	const quiet, noise = 5, 256 << 10
	last, unchanged := int64(0), 0
	for range 30 {
		now, err := p.rss()
		if err != nil {
			return 0, err
		}
		if now > last+noise || now < last-noise {
			last, unchanged = now, 0
		} else if unchanged++; unchanged == quiet {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return last, nil
}
