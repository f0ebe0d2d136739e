package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// node is one process of the platform: some roles, or all of them, with their
// settings.
type node struct {
	roles []role
	nodeFlags
	embeddedFlags
	clickHouseFlags
	deviceFlags
	fileFlags
	simulationFlags
	apiFlags
	operationsFlags
	// demo runs beside the roles, if there is one.
	demo func(ctx context.Context, p *platform, home *dataDir) error
}

func (n *node) has(r role) bool { return slices.Contains(n.roles, r) }

// whole reports whether all roles are here: only then engines can be embedded.
func (n *node) whole() bool { return len(n.roles) > 1 }

// gcPercent lets the heap grow further than Go's default between collections:
// what lives is small, and on two busy cores collecting it less often took the
// median PUBACK of the whole path from 584 to 348 ms (with 400).
const gcPercent = 300

// run starts the node and runs it until ctx ends.
func (n *node) run(ctx context.Context, logger *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := n.check(); err != nil {
		return err
	}
	home, err := openDataDir(n.DataDir)
	if err != nil {
		return err
	}
	defer home.close()
	p, err := n.assemble(ctx, home, logger)
	if ctx.Err() != nil {
		logger.Info("stopped before it was ready", "error", err)
		if err == nil {
			p.close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	components := p.components
	if n.demo != nil {
		components = append(components, component{"demo fleet", func(ctx context.Context) error { return n.demo(ctx, p, home) }})
	}
	components = append(components, component{"announcement", func(ctx context.Context) error { return p.announce(ctx, home, n) }})
	if err := runComponents(ctx, logger, components...); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	logger.Info("stopped")
	return nil
}

// check says what a role of its own cannot do without.
func (n *node) check() error {
	if n.ClickHouseCluster != "" && n.ClickHouse == "" {
		return errors.New("--clickhouse-cluster needs --clickhouse: the embedded ClickHouse is no cluster")
	}
	if n.whole() {
		return nil
	}
	var errs []error
	if len(n.Kafka) == 0 {
		errs = append(errs, fmt.Errorf("--kafka is missing: fleetlog %s shares its brokers with the other nodes, as in --kafka broker-1:9092,broker-2:9092", n.roles[0]))
	}
	if (n.has(projectRole) || n.has(queryRole)) && n.ClickHouse == "" {
		errs = append(errs, fmt.Errorf("--clickhouse is missing: fleetlog %s needs the ClickHouse of the platform, as in --clickhouse http://fleetlog:password@clickhouse:8123", n.roles[0]))
	}
	return errors.Join(errs...)
}

// name is what the node is called in front of people.
func (n *node) name() string {
	if n.whole() {
		return "Fleetlog"
	}
	return "Fleetlog " + strings.ToLower(string(n.roles[0]))
}
