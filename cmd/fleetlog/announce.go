package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fleetlog/fleetlog/internal/localca"
)

// announce waits until the platform is ready, writes endpoints.json and tells
// the person who started it what to do next. Then it waits for the end.
func (p *platform) announce(ctx context.Context, home *dataDir, n *node) error {
	began := time.Now()
	if !p.waitReady(ctx) {
		return nil
	}
	if err := home.writeEndpoints(p.endpoints); err != nil {
		return err
	}
	p.logger.Info("ready", "took", time.Since(began).Round(time.Millisecond), "api", p.endpoints.API, "operations", p.endpoints.Operations,
		"mqtt", p.endpoints.MQTT, "mqtts", p.endpoints.MQTTS, "https", p.endpoints.HTTPS)
	if n.whole() {
		fmt.Fprint(os.Stdout, p.banner(home, n.demo != nil))
	} else {
		fmt.Fprintf(os.Stdout, "%s is ready; its addresses are in %s\n", n.name(), home.file("endpoints.json"))
	}
	<-ctx.Done()
	return nil
}

// waitReady returns true once every part of the platform is ready, false when
// ctx ends first. It says now and then what it waits for.
func (p *platform) waitReady(ctx context.Context) bool {
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	remind := time.NewTicker(10 * time.Second)
	defer remind.Stop()
	for {
		err := p.notReady(ctx)
		if err == nil {
			return true
		}
		select {
		case <-every.C:
		case <-remind.C:
			p.logger.Info("not ready yet", "waiting_for", err)
		case <-ctx.Done():
			return false
		}
	}
}

// notReady says what is not ready, nil when everything is.
func (p *platform) notReady(ctx context.Context) error {
	var errs []error
	for part, ready := range p.ready {
		if err := ready(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part, err))
		}
	}
	return errors.Join(errs...)
}

func (p *platform) banner(home *dataDir, demo bool) string {
	token := home.file("admin-token")
	kept := "kept from an earlier start"
	if p.newToken {
		kept = "made just now, readable by you only"
	}
	device := "my-device"
	next := fmt.Sprintf(`  create a device    curl -X PUT -H "Authorization: $(cat %s)" -H 'Content-Type: application/json' -d '{}' %s/api/devices/%s
  its credentials    curl -H "Authorization: $(cat %s)" %s/api/devices/%s/credentials
`, token, p.endpoints.API, device, token, p.endpoints.API, device)
	if demo {
		next = fmt.Sprintf(`  latest value       curl -H "Authorization: $(cat %s)" %s/api/devices/%s/telemetry/temperature
  all devices        curl -H "Authorization: $(cat %s)" %s/api/devices
`, token, p.endpoints.API, demoPrefix+"-0001", token, p.endpoints.API)
	}
	return fmt.Sprintf(`
Fleetlog is ready.

  API and docs       %s/docs        metrics %s/metrics
  gRPC               %s
  MQTT               %s (loopback)        with TLS %s, CA in %s
  HTTPS for devices  %s        MQTT over WebSocket too
  Kafka              %s
  ClickHouse         %s
  token              %s (%s)

Try:
%s
`, p.endpoints.API, p.endpoints.API, p.endpoints.GRPC, orNone(p.endpoints.MQTT), p.endpoints.MQTTS, localca.CAFile(home.file("tls")),
		p.endpoints.HTTPS, p.endpoints.Kafka, p.endpoints.ClickHouse, token, kept, next)
}

func orNone(addr string) string {
	if addr == "" {
		return "none"
	}
	return addr
}
