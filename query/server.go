package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/fleetlog/fleetlog/query/operations"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"
)

// Deps is what the API answers from. All fields are needed.
type Deps struct {
	Registry  *registry.Registry
	Catalog   *catalog.Catalog
	Groups    *enrollment.Groups
	Templates *template.Templates
	Keys      *device.MasterKey
	// Who finds out who calls, and Directory what he may do.
	Who       access.Authenticator
	Directory *access.Directory
	// Log is where refused calls are written.
	Log        *eventlog.Log
	ClickHouse *clickhouse.Conn
	Operations *operations.Runner
	// RequestRate is how many calls/s one caller may make; 0 for no bound.
	RequestRate float64
	// Metrics are served at /metrics; the API's own are among them.
	Metrics *prometheus.Registry
	// Ready names the parts of the platform and tells which of them is not ready.
	Ready  map[string]func(context.Context) error
	Logger *slog.Logger
}

const (
	// maxRequestBytes bounds a request's body, REST or gRPC.
	maxRequestBytes = 1 << 20
	// stopTimeout bounds how long calls may go on after a stop.
	stopTimeout = 5 * time.Second
)

// Server is the API on its two ports.
type Server struct {
	deps     Deps
	grpc     *grpc.Server
	health   *health.Server
	observer *observer
	gate     *gate
}

// NewServer builds the services; Serve opens them.
func NewServer(deps Deps) *Server {
	s := &Server{deps: deps, health: health.NewServer(), observer: newObserver(deps.Metrics, deps.Logger), gate: newGate(deps.Who, newRefusals(deps.Log, deps.Logger), deps.RequestRate)}
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxConcurrentStreams(1000),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 30 * time.Minute, Time: 2 * time.Minute}),
		grpc.ChainUnaryInterceptor(s.observer.unary, s.gate.unary),
		grpc.ChainStreamInterceptor(s.observer.stream, s.gate.stream),
	)
	past := &deviceHistory{registry: deps.Registry, db: deps.ClickHouse, patience: historyPatience}
	shared := identities{registry: deps.Registry, directory: deps.Directory, history: past, templates: deps.Templates, timeout: changeTimeout}
	apiv1.RegisterDeviceServiceServer(s.grpc, &deviceService{identities: shared, fleet: newFleet(deps), groups: deps.Groups, keys: deps.Keys})
	apiv1.RegisterDeviceHistoryServiceServer(s.grpc, &historyService{deviceHistory: past})
	apiv1.RegisterEnrollmentGroupServiceServer(s.grpc, newEnrollmentGroupService(deps))
	apiv1.RegisterDeviceGroupServiceServer(s.grpc, newDeviceGroupService(deps))
	shown := newTiles(deps)
	apiv1.RegisterQueryServiceServer(s.grpc, newQueryService(deps, questionLimits))
	apiv1.RegisterDashboardServiceServer(s.grpc, newDashboardService(deps, shown))
	apiv1.RegisterExplorerQueryServiceServer(s.grpc, newExplorerQueryService(deps, shown))
	apiv1.RegisterDeviceTemplateServiceServer(s.grpc, newDeviceTemplateService(deps))
	apiv1.RegisterPropertyServiceServer(s.grpc, &propertyService{identities: shared})
	apiv1.RegisterCommandServiceServer(s.grpc, &commandService{identities: shared})
	apiv1.RegisterMessageServiceServer(s.grpc, &messageService{identities: shared})
	apiv1.RegisterRelationshipServiceServer(s.grpc, &relationshipService{identities: shared})
	apiv1.RegisterModuleServiceServer(s.grpc, &moduleService{identities: shared, keys: deps.Keys})
	apiv1.RegisterTelemetryServiceServer(s.grpc, &telemetryService{identities: shared, db: deps.ClickHouse})
	apiv1.RegisterDeadLetterServiceServer(s.grpc, &deadLetterService{db: deps.ClickHouse})
	apiv1.RegisterDeviceOperationServiceServer(s.grpc, newDeviceOperationService(deps))
	apiv1.RegisterAuditLogServiceServer(s.grpc, &auditLogService{db: deps.ClickHouse})
	apiv1.RegisterRoleServiceServer(s.grpc, newRoleService(deps))
	apiv1.RegisterOrganizationServiceServer(s.grpc, newOrganizationService(deps))
	apiv1.RegisterUserServiceServer(s.grpc, newUserService(deps))
	apiv1.RegisterApiTokenServiceServer(s.grpc, newAPITokenService(deps))
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.gate.learn(s.grpc.GetServiceInfo())
	return s
}

// Serve answers REST on one listener and gRPC on the other until ctx ends; then
// it lets calls finish for five seconds and returns nil. It closes the
// listeners.
func (s *Server) Serve(ctx context.Context, rest, rpc net.Listener) error {
	// REST calls go through the same gRPC server, over memory: one door, one set
	// of checks.
	inside := bufconn.Listen(1 << 20)
	handler, conn, err := s.handler(ctx, inside)
	if err != nil {
		return errors.Join(err, rest.Close(), rpc.Close())
	}
	web := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.deps.Logger.Handler(), slog.LevelDebug),
	}
	// Until the last call has been refused.
	refusing, written := context.WithCancel(context.WithoutCancel(ctx))
	defer written()
	noting := make(chan struct{})
	go func() { defer close(noting); s.gate.refusals.run(refusing) }()
	var serving errgroup.Group
	failed := make(chan struct{}, 3)
	run := func(name string, serve func() error) {
		serving.Go(func() error {
			defer func() { failed <- struct{}{} }()
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("gRPC", func() error { return s.grpc.Serve(rpc) })
	run("gRPC within", func() error { return s.grpc.Serve(inside) })
	run("REST", func() error { return web.Serve(rest) })
	select {
	case <-ctx.Done():
	case <-failed:
	}
	s.health.Shutdown()
	err = s.stop(context.WithoutCancel(ctx), web)
	err = errors.Join(err, conn.Close(), serving.Wait())
	written()
	<-noting
	return err
}

// stop ends REST first: its calls need the gRPC server.
func (s *Server) stop(ctx context.Context, web *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := web.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = web.Close()
	}
	force := context.AfterFunc(ctx, s.grpc.Stop)
	defer force()
	s.grpc.GracefulStop()
	return err
}
