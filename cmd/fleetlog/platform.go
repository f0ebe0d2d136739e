package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/fleetlog/fleetlog/ingest/mqtt"
	"github.com/fleetlog/fleetlog/ingest/provisioning"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/engine/chdb"
	"github.com/fleetlog/fleetlog/internal/engine/kafka"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/localca"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/processors/devicestate"
	"github.com/fleetlog/fleetlog/projections"
	"github.com/fleetlog/fleetlog/query"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// platform is everything `fleetlog run` is made of.
type platform struct {
	logger     *slog.Logger
	components []component
	endpoints  endpoints
	ready      map[string]func(context.Context) error // by part
	newToken   bool
	closers    []func() error
}

// close ends what is no component, the newest first.
func (p *platform) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](); err != nil {
			p.logger.Error("did not close cleanly", "error", err)
		}
	}
}

func (p *platform) add(name string, run func(context.Context) error) {
	p.components = append(p.components, component{name, run})
}

func (p *platform) onClose(f func() error) { p.closers = append(p.closers, f) }

// assemble opens the engines and builds every room on them. The order of the
// components is that of the flow; they are stopped in the reverse one, so that
// nothing accepts what the rest could no longer finish.
func (r *runCommand) assemble(ctx context.Context, home *dataDir, logger *slog.Logger) (_ *platform, err error) {
	p := &platform{logger: logger}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	log, err := r.openLog(ctx, p, home)
	if err != nil {
		return nil, err
	}
	analytics, err := r.openClickHouse(ctx, p, home)
	if err != nil {
		return nil, err
	}
	node, err := home.nodeID()
	if err != nil {
		return nil, err
	}
	keys, err := device.OpenMasterKey(home.file("master.key"))
	if err != nil {
		return nil, err
	}
	tokens, created, err := access.OpenAdminToken(home.file("admin-token"))
	if err != nil {
		return nil, err
	}
	p.newToken = created
	secure, err := r.serverTLS(home)
	if err != nil {
		return nil, err
	}

	devices := registry.New(log, logger)
	resources := catalog.New(log, logger, enrollment.Kind())
	groups := enrollment.New(resources, keys, logger)
	gate := deviceauth.New(devices, groups, keys)
	gateway := mqtt.New(log, devices, gate, metrics, mqtt.Config{
		MaxConnections: r.MaxConnections, Inflight: r.Inflight, HubName: r.HubName,
		Registrar: provisioning.New(gate, devices, keys, logger), Logger: logger,
	})
	telemetry, err := projections.NewTelemetry(log, analytics, projections.Options{Logger: logger, Registerer: metrics, Node: node})
	if err != nil {
		return nil, err
	}
	p.ready = map[string]func(context.Context) error{
		"log":                  log.Ping,
		"clickhouse":           analytics.Ping,
		"registry":             func(context.Context) error { return devices.Ready() },
		"catalog":              func(context.Context) error { return resources.Ready() },
		"telemetry projection": func(context.Context) error { return telemetry.Ready() },
	}
	api := query.NewServer(query.Deps{
		Registry: devices, Catalog: resources, Groups: groups, Keys: keys, Tokens: tokens, ClickHouse: analytics, Metrics: metrics, Ready: p.ready, Logger: logger,
	})

	if r.DebugAddr != "" {
		if err := serveDebug(ctx, p, r.DebugAddr); err != nil {
			return nil, err
		}
	}
	p.add("registry", devices.Run)
	p.add("catalog", resources.Run)
	p.add("device state", devicestate.New(log, node, logger, metrics).Run)
	p.add("telemetry projection", telemetry.Run)
	apiListener, err := r.listen(ctx, r.APIAddr, secure, "http/1.1")
	if err != nil {
		return nil, fmt.Errorf("--api-addr: %w", err)
	}
	grpcListener, err := r.listen(ctx, r.GRPCAddr, secure, "h2")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--grpc-addr: %w", err), apiListener.Close())
	}
	p.endpoints.API, p.endpoints.GRPC = scheme(r.APIAddr)+apiListener.Addr().String(), grpcListener.Addr().String()
	p.add("API", func(ctx context.Context) error { return api.Serve(ctx, apiListener, grpcListener) })
	listeners, err := r.listenDevices(ctx, p, secure)
	if err != nil {
		return nil, errors.Join(err, apiListener.Close(), grpcListener.Close())
	}
	p.add("MQTT gateway", func(ctx context.Context) error { return gateway.Serve(ctx, listeners...) })
	return p, nil
}

func (r *runCommand) openLog(ctx context.Context, p *platform, home *dataDir) (*eventlog.Log, error) {
	brokers, partitions := r.Kafka, r.Partitions
	if partitions == 0 {
		// Each costs fsyncs and inserts of its own; in one process more of them
		// than cores help nobody, in a cluster they are what nodes share.
		partitions = 12
		if len(brokers) == 0 {
			partitions = int32(min(max(runtime.GOMAXPROCS(0), 2), 8))
		}
	}
	if len(brokers) == 0 {
		broker, err := kafka.Start(kafka.Options{Addr: r.KafkaAddr, DataDir: home.file("log"), SyncWrites: r.LogSync, Logger: p.logger}) //nolint:contextcheck // it lives until it is closed
		if err != nil {
			return nil, fmt.Errorf("--kafka-addr: %w", err)
		}
		p.onClose(broker.Close)
		brokers = []string{broker.Addr()}
	}
	p.endpoints.Kafka = brokers[0]
	log, err := eventlog.Open(ctx, eventlog.Config{
		Brokers: brokers, Prefix: r.TopicPrefix, Partitions: partitions, TelemetryRetention: r.Retention, Logger: p.logger,
	})
	if err != nil {
		return nil, err
	}
	p.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventlog.FlushTimeout)
		defer cancel()
		err := log.Flush(ctx)
		log.Close()
		return err
	})
	return log, nil
}

func (r *runCommand) openClickHouse(ctx context.Context, p *platform, home *dataDir) (*clickhouse.Conn, error) {
	addr := r.ClickHouse
	if addr == "" {
		engine, err := chdb.Open(chdb.Config{Dir: home.file("clickhouse")})
		if err != nil {
			return nil, err
		}
		p.onClose(engine.Close)
		if addr, err = r.serveClickHouse(ctx, p, engine); err != nil {
			return nil, err
		}
	}
	p.endpoints.ClickHouse = addr
	return clickhouse.Open(ctx, clickhouse.Config{Addr: addr, Database: r.Database, Logger: p.logger})
}

// serveClickHouse has the embedded engine answer from now on: the rooms need it
// while they are built. As a component it only watches over that.
func (r *runCommand) serveClickHouse(ctx context.Context, p *platform, engine *chdb.Engine) (addr string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.ClickHouseAddr)
	if err != nil {
		return "", fmt.Errorf("--clickhouse-addr: %w", err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	var endedWith error
	go func() {
		defer close(ended)
		endedWith = engine.Serve(serving, listener)
	}()
	p.onClose(func() error {
		stop()
		<-ended
		return endedWith
	})
	p.add("ClickHouse endpoint", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return endedWith
		}
	})
	return "http://" + listener.Addr().String(), nil
}

// serverTLS is the configuration of every listener that has TLS.
func (r *runCommand) serverTLS(home *dataDir) (*tls.Config, error) {
	if (r.TLSCert == "") != (r.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key go together: give both or neither")
	}
	if r.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(r.TLSCert, r.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %w", err)
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return localca.ServerConfig(home.file("tls"), append(names, r.TLSName...), time.Now())
}

// listen opens an API port: plain on loopback, with TLS anywhere else.
func (r *runCommand) listen(ctx context.Context, addr string, secure *tls.Config, protocol string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil || isLoopback(addr) {
		return listener, err
	}
	own := secure.Clone()
	own.NextProtos = []string{protocol}
	return tls.NewListener(listener, own), nil
}

func (r *runCommand) listenDevices(ctx context.Context, p *platform, secure *tls.Config) ([]net.Listener, error) {
	withTLS, err := mqtt.ListenTLS(ctx, r.MQTTSAddr, secure)
	if err != nil {
		return nil, fmt.Errorf("--mqtts-addr: %w", err)
	}
	p.endpoints.MQTTS = withTLS.Addr().String()
	if r.MQTTAddr == "" {
		return []net.Listener{withTLS}, nil
	}
	plain, err := mqtt.ListenPlain(ctx, r.MQTTAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--mqtt-addr: %w", err), withTLS.Close())
	}
	p.endpoints.MQTT = plain.Addr().String()
	return []net.Listener{plain, withTLS}, nil
}

func scheme(addr string) string {
	if isLoopback(addr) {
		return "http://"
	}
	return "https://"
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
