package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Bridges runs all bridges of an installation.
type Bridges struct {
	bridges []*bridge
	devices *registry.Registry
}

// bridge is one of them.
type bridge struct {
	cfg     Config
	log     *eventlog.Log
	devices *registry.Registry
	logger  *slog.Logger
	metrics *bridgeMetrics
	ids     *eventIDs // used by one session at a time
}

// New makes the bridges of the configuration. The node's id keeps the sessions
// of several nodes apart at the broker, and must be the same after a restart:
// the broker holds unacknowledged messages for it.
func New(log *eventlog.Log, devices *registry.Registry, reg prometheus.Registerer, node string, configs []Config, logger *slog.Logger) *Bridges {
	all := newMetrics(reg)
	b := &Bridges{devices: devices}
	for _, cfg := range configs {
		if cfg.ClientID == "" {
			cfg.ClientID = "fleetlog-" + node + "-" + cfg.Name
		}
		b.bridges = append(b.bridges, &bridge{
			cfg: cfg, log: log, devices: devices, metrics: all.of(cfg.Name), ids: newEventIDs(),
			logger: logger.With("bridge", cfg.Name, "broker", cfg.Broker.String()),
		})
	}
	return b
}

// Run bridges until ctx ends; nil is its only answer then. What was received is
// brought to its end first, for as long as [eventlog.FlushTimeout] at most.
func (b *Bridges) Run(ctx context.Context) error {
	if !b.awaitRegistry(ctx) {
		return nil
	}
	var all errgroup.Group
	for _, one := range b.bridges {
		all.Go(func() error { one.run(ctx); return nil })
	}
	if len(b.bridges) == 0 {
		<-ctx.Done()
	}
	return all.Wait()
}

// awaitRegistry waits until the registry can say which devices there are.
func (b *Bridges) awaitRegistry(ctx context.Context) bool {
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for b.devices.Ready() != nil {
		select {
		case <-every.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

const (
	firstWait = 500 * time.Millisecond
	longWait  = 30 * time.Second
	// steady is how long a connection must have held for the next one to be
	// tried at once.
	steady = 10 * time.Second
)

// run keeps the bridge connected.
func (b *bridge) run(ctx context.Context) {
	waits := backoff.NewExponentialBackOff()
	waits.InitialInterval, waits.MaxInterval = firstWait, longWait
	for {
		began := time.Now()
		err := b.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steady {
			waits.Reset()
		}
		wait := waits.NextBackOff()
		b.logger.Warn("bridge is not connected, trying again", "error", err, "wait", wait)
		select {
		case <-time.After(wait):
			b.metrics.reconnects.Inc()
		case <-ctx.Done():
			return
		}
	}
}

// explain adds to a refusal of the broker what to do about it.
func (b *bridge) explain(err error) error {
	if errors.Is(err, errNotAuthorized) {
		return fmt.Errorf("the broker refused user %q: check username and password-file or password-env of the bridge, and what the broker lets that user do: %w", b.cfg.Username, err)
	}
	return err
}
