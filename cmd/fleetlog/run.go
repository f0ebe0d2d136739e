package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"
)

// runCommand is `fleetlog run`. Scripts rely on its flags and defaults.
type runCommand struct {
	DataDir string `help:"Where everything is kept." default:"./fleetlog-data" type:"path" placeholder:"DIR"`

	APIAddr   string `help:"REST API, documentation and metrics." default:"127.0.0.1:8080" placeholder:"ADDR"`
	GRPCAddr  string `name:"grpc-addr" help:"gRPC API." default:"127.0.0.1:9090" placeholder:"ADDR"`
	MQTTAddr  string `name:"mqtt-addr" help:"MQTT without TLS; loopback only, empty for none." default:"127.0.0.1:1883" placeholder:"ADDR"`
	MQTTSAddr string `name:"mqtts-addr" help:"MQTT over TLS." default:"127.0.0.1:8883" placeholder:"ADDR"`

	KafkaAddr      string `help:"Where the embedded Kafka broker listens; loopback only." default:"127.0.0.1:9092" placeholder:"ADDR"`
	ClickHouseAddr string `name:"clickhouse-addr" help:"Where the embedded ClickHouse answers HTTP; loopback only." default:"127.0.0.1:8123" placeholder:"ADDR"`

	Kafka       []string      `help:"Use these Kafka brokers instead of the embedded one." placeholder:"HOST:PORT,…"`
	TopicPrefix string        `help:"Prefix of topics and consumer groups on the brokers." default:"fleetlog."`
	Partitions  int32         `help:"Partitions of topics that are made anew; 0 is one a core (2 to 8) in the embedded broker and 12 in brokers of yours." default:"0"`
	Retention   time.Duration `help:"How long the log keeps telemetry." default:"168h"`
	LogSync     bool          `help:"Have every message on disk (fsync) before it is acknowledged; embedded broker only." default:"true" negatable:""`
	ClickHouse  string        `name:"clickhouse" help:"Use this ClickHouse instead of the embedded one: http(s)://user:password@host:port." placeholder:"URL"`
	Database    string        `help:"Database in ClickHouse." default:"fleetlog"`

	TLSCert string   `name:"tls-cert" help:"Server certificate chain (PEM) instead of one from the local CA." type:"existingfile" placeholder:"FILE"`
	TLSKey  string   `name:"tls-key" help:"Key of --tls-cert (PEM)." type:"existingfile" placeholder:"FILE"`
	TLSName []string `name:"tls-name" help:"Further host names or addresses for the local CA's server certificate." placeholder:"NAME,…"`

	HubName string `help:"Host name that devices are told to connect to once they are provisioned; the one they used when empty." placeholder:"NAME"`

	MaxConnections int64 `help:"Device connections at one time." default:"100000"`
	Inflight       int64 `help:"Messages of one device that may wait for the log." default:"256"`

	DebugAddr string `help:"Serve Go's profiles here (/debug/pprof); loopback only, off when empty." placeholder:"ADDR"`

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

// gcPercent lets the heap grow further than Go's default between collections:
// what lives is small, and on two busy cores collecting it less often took the
// median PUBACK of the whole path from 584 to 348 ms (with 400).
const gcPercent = 300

// Run starts the platform and runs it until ctx ends.
func (r *runCommand) Run(ctx context.Context, logger *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	home, err := openDataDir(r.DataDir)
	if err != nil {
		return err
	}
	defer home.close()
	p, err := r.assemble(ctx, home, logger)
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
	if r.Demo {
		components = append(components, component{"demo fleet", func(ctx context.Context) error { return r.demo(ctx, p, home) }})
	}
	components = append(components, component{"announcement", func(ctx context.Context) error { return p.announce(ctx, home, r.Demo) }})
	if err := runComponents(ctx, logger, components...); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	logger.Info("stopped")
	return nil
}
