package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/fleetlog/fleetlog/ingest/bridge"
	"github.com/fleetlog/fleetlog/ingest/https"
	"github.com/fleetlog/fleetlog/ingest/mqtt"
	"github.com/fleetlog/fleetlog/ingest/provisioning"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/files"
)

// deviceDoors are what devices connect to: MQTT, and HTTPS with MQTT over
// WebSocket. Bridges are doors that open outwards.
type deviceDoors struct {
	node    *node
	secure  *tls.Config
	gateway *mqtt.Gateway
	web     *https.Door
	bridges *bridge.Bridges // nil when there are none
}

func (n *node) newDeviceDoors(p *platform, have *parts) (*deviceDoors, error) {
	bridges, err := n.newBridges(p, have)
	if err != nil {
		return nil, err
	}
	gate := deviceauth.New(have.devices, have.groups, have.keys)
	registrar := provisioning.New(gate, have.devices, have.templates, have.keys, p.logger)
	return &deviceDoors{
		node: n, secure: have.secure, bridges: bridges,
		gateway: mqtt.New(have.log, have.devices, gate, have.metrics, mqtt.Config{
			MaxConnections: n.MaxConnections, Inflight: n.Inflight, Rates: mqtt.Rates{Device: n.DeviceRate, Tenant: n.TenantRate, Connects: n.ConnectRate}, Node: have.id, Registrar: registrar, Templates: have.templates, HubName: n.HubName, Logger: p.logger,
		}),
		web: https.New(https.Deps{
			Log: have.log, Registry: have.devices, Keys: have.keys, Gate: gate, Files: have.files,
			Provisioning: registrar.Handler(n.HubName), Metrics: have.metrics, Logger: p.logger,
		}, https.Config{MaxConnections: int(n.MaxConnections), MaxFileBytes: n.MaxFileBytes}),
	}, nil
}

// openFiles opens the store of devices' uploads and of the files of operations.
func (n *node) openFiles(ctx context.Context, p *platform, home *dataDir) (*files.Store, error) {
	target := n.Files
	if target == "" {
		target = (&url.URL{Scheme: "file", Path: home.file("files")}).String()
	}
	store, err := files.Open(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("--files: %w", err)
	}
	p.onClose(store.Close)
	return store, nil
}

func (n *node) newBridges(p *platform, have *parts) (*bridge.Bridges, error) {
	if n.BridgeConfig == "" {
		return nil, nil //nolint:nilnil // no bridges are no error
	}
	configs, err := bridge.Load(n.BridgeConfig)
	if err != nil {
		return nil, err
	}
	return bridge.New(have.log, have.devices, have.metrics, have.id, configs, p.logger), nil
}

// open listens, and serves as long as the node runs.
func (d *deviceDoors) open(ctx context.Context, p *platform) error {
	listeners, err := d.node.listenDevices(ctx, p, d.secure)
	if err != nil {
		return err
	}
	web, err := d.web.Listen(ctx, d.node.HTTPSAddr, d.secure)
	if err != nil {
		for _, listener := range listeners {
			err = errors.Join(err, listener.Close())
		}
		return fmt.Errorf("--https-addr: %w", err)
	}
	p.endpoints.HTTPS = "https://" + web.Addr().String()
	listeners = append(listeners, d.web.WebSockets())
	p.add("MQTT gateway", func(ctx context.Context) error { return d.gateway.Serve(ctx, listeners...) })
	if d.bridges != nil {
		p.add("bridges", d.bridges.Run)
	}
	p.add("HTTPS door", func(ctx context.Context) error { return d.web.Serve(ctx, web) })
	return nil
}

func (n *node) listenDevices(ctx context.Context, p *platform, secure *tls.Config) ([]net.Listener, error) {
	withTLS, err := mqtt.ListenTLS(ctx, n.MQTTSAddr, secure)
	if err != nil {
		return nil, fmt.Errorf("--mqtts-addr: %w", err)
	}
	p.endpoints.MQTTS = withTLS.Addr().String()
	if n.MQTTAddr == "" {
		return []net.Listener{withTLS}, nil
	}
	plain, err := mqtt.ListenPlain(ctx, n.MQTTAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--mqtt-addr: %w", err), withTLS.Close())
	}
	p.endpoints.MQTT = plain.Addr().String()
	return []net.Listener{plain, withTLS}, nil
}
