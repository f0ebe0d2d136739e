package main

import (
	"context"
	"log/slog"
	"os"
)

// role is a part of the platform that can be a process of its own.
type role string

const (
	ingestRole  role = "ingest"
	processRole role = "process"
	projectRole role = "project"
	queryRole   role = "query"
)

// rolesHelp is shown by each of them.
const rolesHelp = `
Nodes of one platform share the Kafka brokers (--kafka), the topic prefix and the
master key (--master-key); each has a data directory of its own. Any number of them
can run; 'fleetlog run --kafka … --clickhouse …' is all roles in one node.`

// ingestCommand is `fleetlog ingest`.
type ingestCommand struct {
	nodeFlags
	deviceFlags
	fileFlags
	operationsFlags
}

// Help is shown by `fleetlog ingest --help`.
func (*ingestCommand) Help() string {
	return "The gateway that devices connect to: their messages onto the log, what is for them from the log.\n" + rolesHelp
}

// Run runs the gateway until ctx ends.
func (c *ingestCommand) Run(ctx context.Context, logger *slog.Logger) error {
	n := node{roles: []role{ingestRole}, nodeFlags: c.nodeFlags, deviceFlags: c.deviceFlags, fileFlags: c.fileFlags, operationsFlags: c.operationsFlags}
	return n.run(ctx, logger)
}

// processCommand is `fleetlog process`.
type processCommand struct {
	nodeFlags
	simulationFlags
	operationsFlags
}

// Help is shown by `fleetlog process --help`.
func (*processCommand) Help() string {
	return "The processors: they decide on changes, keep the state of the devices, and run simulated ones.\n" + rolesHelp
}

// Run runs the processors until ctx ends.
func (c *processCommand) Run(ctx context.Context, logger *slog.Logger) error {
	n := node{roles: []role{processRole}, nodeFlags: c.nodeFlags, simulationFlags: c.simulationFlags, operationsFlags: c.operationsFlags}
	return n.run(ctx, logger)
}

// projectCommand is `fleetlog project`.
type projectCommand struct {
	nodeFlags
	clickHouseFlags
	operationsFlags

	Rebuild   []string `help:"Make these tables anew from the log, then end: telemetry, device_events, catalog_events, alert_events, job_events, telemetry_sums (sums and latest values)." placeholder:"TABLE,…"`
	KeepOlder bool     `help:"With --rebuild: take over rows as they are whose records the log no longer has."`
}

// Help is shown by `fleetlog project --help`.
func (*projectCommand) Help() string {
	return "The projections: what is on the log becomes rows in ClickHouse.\n" + rebuildHelp + rolesHelp
}

// Run runs the projections until ctx ends.
func (c *projectCommand) Run(ctx context.Context, logger *slog.Logger) error {
	if len(c.Rebuild) > 0 {
		return c.rebuild(ctx, logger, os.Stderr)
	}
	n := node{roles: []role{projectRole}, nodeFlags: c.nodeFlags, clickHouseFlags: c.clickHouseFlags, operationsFlags: c.operationsFlags}
	return n.run(ctx, logger)
}

// queryCommand is `fleetlog query`.
type queryCommand struct {
	nodeFlags
	clickHouseFlags
	fileFlags
	apiFlags
}

// Help is shown by `fleetlog query --help`.
func (*queryCommand) Help() string {
	return `The API over REST and gRPC, and the imports and exports of devices that people ask
for. When there are several of these nodes they share one file store (--files), so
that each can go on with what another has begun.
` + rolesHelp
}

// Run runs the API until ctx ends.
func (c *queryCommand) Run(ctx context.Context, logger *slog.Logger) error {
	n := node{roles: []role{queryRole}, nodeFlags: c.nodeFlags, clickHouseFlags: c.clickHouseFlags, fileFlags: c.fileFlags, apiFlags: c.apiFlags}
	return n.run(ctx, logger)
}
