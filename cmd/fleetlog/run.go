package main

import (
	"context"
	"log/slog"
)

// runCommand is `fleetlog run`: all roles in one process, on embedded engines
// unless others are named. Scripts rely on its flags and defaults.
type runCommand struct {
	nodeFlags
	embeddedFlags
	clickHouseFlags
	deviceFlags
	fileFlags
	simulationFlags
	apiFlags

	Demo        bool `help:"Run a simulated fleet against the platform."`
	DemoDevices int  `help:"Devices of the simulated fleet." default:"20"`
}

// Help is shown by `fleetlog run --help`.
func (*runCommand) Help() string {
	return `The first start makes the tenant 'default', an administrator token in
<data-dir>/admin-token, and a certificate authority in <data-dir>/tls. When the
platform is ready, GET /readyz answers 200 and <data-dir>/endpoints.json holds the
addresses; port 0 in any address takes a free one.

Addresses off loopback are served with TLS.`
}

// Run starts the platform and runs it until ctx ends.
func (r *runCommand) Run(ctx context.Context, logger *slog.Logger) error {
	n := node{
		roles:     []role{ingestRole, processRole, projectRole, queryRole},
		nodeFlags: r.nodeFlags, embeddedFlags: r.embeddedFlags, clickHouseFlags: r.clickHouseFlags, deviceFlags: r.deviceFlags, fileFlags: r.fileFlags, simulationFlags: r.simulationFlags, apiFlags: r.apiFlags,
	}
	if r.Demo {
		n.demo = r.demo
	}
	return n.run(ctx, logger)
}
