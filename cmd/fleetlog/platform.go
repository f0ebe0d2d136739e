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

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/bearer"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/devicegroup"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/engine/chdb"
	"github.com/fleetlog/fleetlog/internal/engine/kafka"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	"github.com/fleetlog/fleetlog/internal/localca"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	"github.com/fleetlog/fleetlog/processors/auditchain"
	"github.com/fleetlog/fleetlog/processors/devicestate"
	"github.com/fleetlog/fleetlog/projections"
	"github.com/fleetlog/fleetlog/projections/schema"
	"github.com/fleetlog/fleetlog/projections/views"
	"github.com/fleetlog/fleetlog/query"
	"github.com/fleetlog/fleetlog/query/operations"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// platform is everything a node is made of.
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

// parts is what the roles of a node are built from.
type parts struct {
	home      *dataDir
	id        string // the node's
	log       *eventlog.Log
	analytics *clickhouse.Conn // nil when no role here needs it
	devices   *registry.Registry
	catalog   *catalog.Catalog
	groups    *enrollment.Groups
	templates *template.Templates
	directory *access.Directory
	files     *files.Store // nil when no role here keeps files
	keys      *device.MasterKey
	metrics   *prometheus.Registry
	secure    *tls.Config
}

// assemble opens the engines and builds the node's roles on them. The order of
// the components is that of the flow; they are stopped in the reverse one, so that
// nothing accepts what the rest could no longer finish.
func (n *node) assemble(ctx context.Context, home *dataDir, logger *slog.Logger) (_ *platform, err error) {
	p := &platform{logger: logger, ready: map[string]func(context.Context) error{}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	have, err := n.open(ctx, p, home)
	if err != nil {
		return nil, err
	}
	if n.DebugAddr != "" {
		if err := serveDebug(ctx, p, n.DebugAddr); err != nil {
			return nil, err
		}
	}
	// They are made before the registry runs, so that they hear of every change, and
	// opened last, when all the rest is there.
	var devices *deviceDoors
	if n.has(ingestRole) {
		if devices, err = n.newDeviceDoors(p, have); err != nil {
			return nil, err
		}
	}
	if n.has(projectRole) {
		p.add("analysts' views", views.New(have.catalog, have.templates, have.analytics, p.logger).Run)
	}
	if n.has(ingestRole) || n.has(queryRole) || n.simulates() {
		p.ready["registry"] = func(context.Context) error { return have.devices.Ready() }
		p.add("registry", have.devices.Run)
	}
	if n.has(ingestRole) || n.has(queryRole) || n.has(projectRole) || n.simulates() {
		p.ready["catalog"] = func(context.Context) error { return have.catalog.Ready() }
		p.add("catalog", have.catalog.Run)
	}
	if n.has(processRole) {
		p.add("device state", devicestate.New(have.log, have.id, logger, have.metrics).Run)
		p.add("audit chain", auditchain.New(have.log, have.id).Run)
	}
	if n.has(projectRole) {
		if err := n.addProjections(p, have); err != nil {
			return nil, err
		}
	}
	if err := n.addDoors(ctx, p, have, devices); err != nil {
		return nil, err
	}
	if err := n.addSimulation(p, have); err != nil {
		return nil, err
	}
	return p, nil
}

// open opens what the roles of the node are built from.
func (n *node) open(ctx context.Context, p *platform, home *dataDir) (*parts, error) {
	have := &parts{home: home, metrics: prometheus.NewRegistry()}
	have.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if have.log, err = n.openLog(ctx, p, home); err != nil {
		return nil, err
	}
	p.ready["log"] = have.log.Ping
	if n.has(projectRole) || n.has(queryRole) {
		if have.analytics, err = n.openClickHouse(ctx, p, home); err != nil {
			return nil, err
		}
		p.ready["clickhouse"] = have.analytics.Ping
	}
	if have.id, err = home.nodeID(); err != nil {
		return nil, err
	}
	master := n.MasterKey
	if master == "" {
		master = home.file("master.key")
	}
	if have.keys, err = device.OpenMasterKey(master); err != nil {
		return nil, err
	}
	if have.secure, err = n.serverTLS(p, home); err != nil {
		return nil, err
	}
	if n.has(ingestRole) || n.has(queryRole) {
		if have.files, err = n.openFiles(ctx, p, home); err != nil {
			return nil, err
		}
	}
	have.devices = registry.New(have.log, p.logger)
	have.catalog = catalog.New(have.log, p.logger, append(access.Kinds(), enrollment.Kind(), devicegroup.Kind(), template.Kind(), deviceoperation.Kind(),
		dashboard.Kind(), dashboard.QueryKind())...)
	have.directory = access.NewDirectory(have.catalog)
	have.templates = template.New(have.catalog, p.logger)
	have.groups = enrollment.New(have.catalog, have.keys, p.logger)
	return have, nil
}

func (n *node) addProjections(p *platform, have *parts) error {
	retention, err := schema.ParseRetention(n.RetentionOf)
	if err != nil {
		return fmt.Errorf("--retention-of: %w", err)
	}
	options := projections.Options{Logger: p.logger, Registerer: have.metrics, Node: have.id, Retention: retention}
	for _, projection := range []struct {
		of        string
		construct func(*eventlog.Log, *clickhouse.Conn, projections.Options) (*projections.Projection, error)
	}{
		{"telemetry", projections.NewTelemetry},
		{"telemetry sums", projections.NewTelemetrySums},
		{"device events", projections.NewDeviceEvents},
		{"devices", projections.NewDevices},
		{"device versions", projections.NewDeviceVersions},
		{"device state history", projections.NewDeviceStateHistory},
		{"catalog events", projections.NewCatalogEvents},
		{"alert events", projections.NewAlertEvents},
		{"job events", projections.NewJobEvents},
		{"audit events", projections.NewAuditEvents},
		{"dead letter", projections.NewDeadLetter},
	} {
		running, err := projection.construct(have.log, have.analytics, options)
		if err != nil {
			return err
		}
		name := projection.of + " projection"
		p.ready[name] = func(context.Context) error { return running.Ready() }
		p.add(name, running.Run)
	}
	return nil
}

// addDoors opens what others reach the node by.
func (n *node) addDoors(ctx context.Context, p *platform, have *parts, devices *deviceDoors) (err error) {
	var opened []net.Listener
	defer func() {
		for _, listener := range opened {
			if err != nil {
				err = errors.Join(err, listener.Close())
			}
		}
	}()
	open := func(flag, addr, protocol string) (net.Listener, error) {
		listener, err := n.listen(ctx, addr, have.secure, protocol)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		opened = append(opened, listener)
		return listener, nil
	}
	if n.has(queryRole) {
		if err := n.addAPI(p, have, open); err != nil {
			return err
		}
	} else {
		listener, err := open("ops-addr", n.OpsAddr, "http/1.1")
		if err != nil {
			return err
		}
		p.endpoints.Operations = scheme(n.OpsAddr) + listener.Addr().String()
		p.add("operations", func(ctx context.Context) error { return serveOperations(ctx, listener, have.metrics, p.ready) })
	}
	if devices != nil {
		return devices.open(ctx, p)
	}
	return nil
}

func (n *node) addAPI(p *platform, have *parts, open func(flag, addr, protocol string) (net.Listener, error)) error {
	admin, created, err := access.OpenAdminToken(have.home.file("admin-token"))
	if err != nil {
		return err
	}
	p.newToken = created
	who := access.Any{admin, access.NewTokens(have.directory)}
	if n.OIDCConfig != "" {
		providers, err := bearer.Load(n.OIDCConfig)
		if err != nil {
			return fmt.Errorf("--oidc-config: %w", err)
		}
		tokens, err := bearer.New(providers, have.directory, p.logger)
		if err != nil {
			return fmt.Errorf("--oidc-config: %w", err)
		}
		who = append(who, tokens)
	}
	runner, err := operations.New(operations.Deps{
		Registry: have.devices, Catalog: have.catalog, Groups: have.groups, Templates: have.templates, Keys: have.keys, Files: have.files, Node: have.id, Logger: p.logger,
	})
	if err != nil {
		return err
	}
	p.add("device operations", runner.Run)
	api := query.NewServer(query.Deps{
		Registry: have.devices, Catalog: have.catalog, Groups: have.groups, Templates: have.templates, Keys: have.keys, Who: who, Directory: have.directory, Log: have.log, RequestRate: n.APIRate, ClickHouse: have.analytics, Operations: runner, Metrics: have.metrics, Ready: p.ready, Logger: p.logger,
	})
	rest, err := open("api-addr", n.APIAddr, "http/1.1")
	if err != nil {
		return err
	}
	rpc, err := open("grpc-addr", n.GRPCAddr, "h2")
	if err != nil {
		return err
	}
	p.endpoints.API, p.endpoints.GRPC = scheme(n.APIAddr)+rest.Addr().String(), rpc.Addr().String()
	p.add("API", func(ctx context.Context) error { return api.Serve(ctx, rest, rpc) })
	return nil
}

func (n *node) openLog(ctx context.Context, p *platform, home *dataDir) (*eventlog.Log, error) {
	brokers, partitions := n.Kafka, n.Partitions
	if partitions == 0 {
		// Each costs fsyncs and inserts of its own; in one process more of them
		// than cores help nobody, in a cluster they are what nodes share.
		partitions = 12
		if len(brokers) == 0 {
			partitions = int32(min(max(runtime.GOMAXPROCS(0), 2), 8))
		}
	}
	if len(brokers) == 0 {
		broker, err := kafka.Start(kafka.Options{Addr: n.KafkaAddr, DataDir: home.file("log"), SyncWrites: n.LogSync, Logger: p.logger}) //nolint:contextcheck // it lives until it is closed
		if err != nil {
			return nil, fmt.Errorf("--kafka-addr: %w", err)
		}
		p.onClose(broker.Close)
		brokers = []string{broker.Addr()}
	}
	p.endpoints.Kafka = brokers[0]
	log, err := eventlog.Open(ctx, eventlog.Config{
		Brokers: brokers, Prefix: n.TopicPrefix, Partitions: partitions, TelemetryRetention: n.Retention, Logger: p.logger,
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

func (n *node) openClickHouse(ctx context.Context, p *platform, home *dataDir) (*clickhouse.Conn, error) {
	addr := n.ClickHouse
	if addr == "" {
		engine, err := chdb.Open(chdb.Config{Dir: home.file("clickhouse")})
		if err != nil {
			return nil, err
		}
		p.onClose(engine.Close)
		if addr, err = n.serveClickHouse(ctx, p, engine); err != nil {
			return nil, err
		}
	}
	p.endpoints.ClickHouse = addr
	return clickhouse.Open(ctx, clickhouse.Config{Addr: addr, Database: n.Database, Cluster: n.ClickHouseCluster, Logger: p.logger})
}

// serveClickHouse has the embedded engine answer from now on: the rooms need it
// while they are built. As a component it only watches over that.
func (n *node) serveClickHouse(ctx context.Context, p *platform, engine *chdb.Engine) (addr string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.ClickHouseAddr)
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
func (n *node) serverTLS(p *platform, home *dataDir) (*tls.Config, error) {
	if (n.TLSCert == "") != (n.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key go together: give both or neither")
	}
	if n.TLSCert != "" {
		cert, err := openCertificate(n.TLSCert, n.TLSKey, p.logger)
		if err != nil {
			return nil, err
		}
		p.add("certificate", cert.run)
		return &tls.Config{GetCertificate: cert.get, MinVersion: tls.VersionTLS12}, nil
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return localca.ServerConfig(home.file("tls"), append(names, n.TLSName...), time.Now())
}

// listen opens an API port: plain on loopback, with TLS anywhere else.
func (n *node) listen(ctx context.Context, addr string, secure *tls.Config, protocol string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil || isLoopback(addr) {
		return listener, err
	}
	own := secure.Clone()
	own.NextProtos = []string{protocol}
	return tls.NewListener(listener, own), nil
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
