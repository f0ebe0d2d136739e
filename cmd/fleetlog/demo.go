package main

import (
	"context"
	"fmt"
	"os"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/sim"
)

// demoPrefix begins the ids of the demo fleet's devices.
const demoPrefix = "demo"

// demo runs a small simulated fleet against the platform in this process, over
// real MQTT, from the moment it is ready.
func (r *runCommand) demo(ctx context.Context, p *platform, home *dataDir) error {
	if !p.waitReady(ctx) {
		return nil
	}
	token, err := os.ReadFile(home.file("admin-token"))
	if err != nil {
		return fmt.Errorf("read administrator token: %w", err)
	}
	broker, ca := p.ownGateway(home)
	summary, err := sim.Run(ctx, sim.Options{
		API: p.endpoints.API, Token: string(token), MQTT: broker, CAFile: ca,
		Devices: r.DemoDevices, Prefix: demoPrefix, Rate: float64(r.DemoDevices), Profile: "thermostat", QoS: 1, Seed: 1,
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("demo fleet ended after %d messages: %w", summary.Sent, err)
	}
	return nil
}
