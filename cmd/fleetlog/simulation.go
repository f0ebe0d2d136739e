package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"

	"github.com/fleetlog/fleetlog/internal/deviceclient"
	"github.com/fleetlog/fleetlog/processors/simulation"
)

// simulates reports whether simulated devices run on this node.
func (n *node) simulates() bool {
	return n.has(processRole) && (n.SimulationGateway != "" || n.whole())
}

// addSimulation runs simulated devices, against the gateway that is named or, in a
// node with all roles, its own. It comes after the doors are open and before the
// views run.
func (n *node) addSimulation(p *platform, have *parts) error {
	if !n.simulates() {
		return nil
	}
	if n.SimulatedInterval <= 0 {
		return errors.New("--simulated-interval must be positive, as in 10s")
	}
	gateway, trust, err := n.simulationGateway(p, have.home)
	if err != nil {
		return err
	}
	if gateway == nil {
		p.logger.Warn("no devices are simulated: --tls-cert is not for this host's own address; name it with --simulation-gateway mqtts://host:8883")
		return nil
	}
	simulated := simulation.New(simulation.Deps{
		Log: have.log, Devices: have.devices, Catalog: have.catalog, Templates: have.templates, Groups: have.groups, Keys: have.keys,
		Metrics: have.metrics, Logger: p.logger,
	}, simulation.Config{Node: have.id, Gateway: gateway, Trust: trust, Interval: n.SimulatedInterval})
	p.add("simulated devices", simulated.Run)
	return nil
}

// simulationGateway is where simulated devices connect and what they trust there;
// nil when it is not known.
func (n *node) simulationGateway(p *platform, home *dataDir) (gateway *url.URL, trust *tls.Config, err error) {
	address, ca := n.SimulationGateway, n.SimulationCA
	own := address == ""
	if own {
		if p.endpoints.MQTT == "" && n.TLSCert != "" {
			return nil, nil, nil
		}
		address, ca = p.ownGateway(home)
	}
	if gateway, err = deviceclient.ParseBroker(address); err != nil {
		return nil, nil, fmt.Errorf("--simulation-gateway: %w", err)
	}
	if ca == "" {
		return gateway, nil, nil
	}
	if trust, err = deviceclient.TrustFile(ca); err != nil {
		return nil, nil, fmt.Errorf("--simulation-ca: %w", err)
	}
	if own {
		trust.ServerName = "localhost" // the local CA's certificates are for it, wherever the port is
	}
	return gateway, trust, nil
}

// ownGateway is the address of this node's MQTT gateway, and the CA to trust there
// when it has TLS.
func (p *platform) ownGateway(home *dataDir) (address, ca string) {
	if p.endpoints.MQTT != "" {
		return "tcp://" + p.endpoints.MQTT, ""
	}
	return "ssl://" + p.endpoints.MQTTS, home.file("tls", "ca.pem")
}
