package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

// startHiveMQ starts HiveMQ Community Edition without authentication and warms it
// up; deploy/hivemq fetches it from Maven Central once.
func (b *bench) startHiveMQ(ctx context.Context, devices []load.Device) (*process, string, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(address)
	p, err := b.start("deploy/hivemq/hivemq.sh", "--port", port, "--data", filepath.Join(b.work, "hivemq-"+port))
	if err != nil {
		return nil, "", fmt.Errorf("%w; run it in the repository's directory", err)
	}
	if err := p.until(ctx, accepts(address)); err != nil {
		return p, address, err
	}
	// What is hot is compiled only after a while, as it is in a broker that has run
	// for long.
	fleet, err := load.Connect(ctx, load.Options{Address: address, Devices: devices, Payload: meterPayload(ingestPayload), Inflight: ingestInflight})
	if err != nil {
		return p, address, err
	}
	_, err = fleet.Publish(ctx, load.Pace{Duration: pick(b, 15*time.Second, 5*time.Second)})
	return p, address, errors.Join(err, fleet.Close())
}
