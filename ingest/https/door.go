package https

import (
	"context"
	"errors"
	"fmt"
	"github.com/fleetlog/fleetlog/internal/pace"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	headerTimeout = 10 * time.Second // TLS and the request's header together
	bodyTimeout   = time.Minute      // of a request other than a file
	answerTimeout = 2 * time.Minute
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 5 * time.Second
	// maxHeaderBytes has room for a token and a message's properties.
	maxHeaderBytes = 32 << 10
)

// Deps is what the door needs of the platform.
type Deps struct {
	Log      *eventlog.Log
	Registry *registry.Registry
	Keys     *device.MasterKey
	Gate     *deviceauth.Gate // decides who may come in
	Files    *files.Store
	// Provisioning answers `/{idScope}/registrations/…`, the device provisioning
	// service over HTTPS; nil for none.
	Provisioning http.Handler
	Metrics      prometheus.Registerer
	Logger       *slog.Logger
}

// Config bounds what devices may use.
type Config struct {
	// MaxConnections at one time, WebSockets among them; 100,000 when zero.
	MaxConnections int
	// MaxRequests at one time; 1,024 when zero. Beyond it the answer is 503.
	MaxRequests int64
	// DeviceRate is how many requests a second one device may make; 100 when zero.
	// It may make twice as many at once.
	DeviceRate float64
	// AddressRate is how many connections, and how many requests, a second may
	// come from one address; 1,000 when zero. Many devices can share one.
	AddressRate float64
	// MaxFileBytes bounds an uploaded file; 100 MiB when zero.
	MaxFileBytes int64
}

func (c *Config) setDefaults() {
	if c.MaxConnections == 0 {
		c.MaxConnections = 100_000
	}
	if c.MaxRequests == 0 {
		c.MaxRequests = 1024
	}
	if c.DeviceRate == 0 {
		c.DeviceRate = 100
	}
	if c.AddressRate == 0 {
		c.AddressRate = 1000
	}
	if c.MaxFileBytes == 0 {
		c.MaxFileBytes = 100 << 20
	}
}

// Door serves devices over HTTPS. It is safe for concurrent use.
type Door struct {
	deps      Deps
	cfg       Config
	topic     string
	metrics   *metrics
	places    *semaphore.Weighted
	bodies    *semaphore.Weighted // bytes of telemetry being read
	underway  *underway
	devices   *pace.Limits
	begins    *pace.Limits // of uploads
	addresses *pace.Limits
	connects  *pace.Limits
	uploads   *uploads
	signer    signer
	sockets   *socketListener
	warnings  *rate.Limiter
	handler   http.Handler
}

// New makes the door. Its WebSockets must be served by the MQTT gateway.
func New(deps Deps, cfg Config) *Door {
	cfg.setDefaults()
	d := &Door{
		deps: deps, cfg: cfg, topic: deps.Log.Name(eventlog.Telemetry), metrics: newMetrics(deps.Metrics),
		places:    semaphore.NewWeighted(cfg.MaxRequests),
		bodies:    semaphore.NewWeighted(maxBodiesBytes),
		underway:  &underway{requests: map[string]int{}},
		devices:   pace.New(cfg.DeviceRate),
		begins:    pace.New(uploadRate),
		addresses: pace.New(cfg.AddressRate),
		connects:  pace.New(cfg.AddressRate),
		uploads:   newUploads(),
		signer:    signer{key: deps.Keys.Secret("file uploads")},
		sockets:   newSocketListener(),
		warnings:  rate.NewLimiter(10, 50),
	}
	d.handler = d.routes()
	return d
}

// WebSockets is where the MQTT gateway accepts the devices that speak MQTT over
// WebSocket. Its connections have a ConnectionState like those of TLS.
func (d *Door) WebSockets() net.Listener { return d.sockets }

// routes is the map of the door.
func (d *Door) routes() http.Handler {
	mux := http.NewServeMux()
	for _, identity := range []string{"/devices/{device}", "/devices/{device}/modules/{module}"} {
		mux.Handle("POST "+identity+"/messages/events", d.forDevice("telemetry", d.postEvents))
		mux.Handle("GET "+identity+"/messages/devicebound", d.forDevice("receive", d.receive))
		mux.Handle("DELETE "+identity+"/messages/devicebound/{lock}", d.forDevice("settle", d.settle))
		mux.Handle("POST "+identity+"/messages/devicebound/{lock}/abandon", d.forDevice("settle", d.abandon))
	}
	mux.Handle("POST /devices/{device}/files", d.forDevice("upload", d.beginUpload))
	mux.Handle("POST /devices/{device}/files/notifications", d.forDevice("upload", d.endUpload))
	mux.Handle("POST /devices/{device}/files/notifications/{correlation}", d.forDevice("upload", d.endUpload))
	mux.Handle("PUT /{container}/{blob...}", d.forAnyone("blob", d.putBlob))
	mux.Handle("GET "+webSocketPath, d.forAnyone("websocket", d.acceptWebSocket))
	mux.Handle("/", d.forAnyone("other", func(http.ResponseWriter, *http.Request) error { return failPath }))
	if d.deps.Provisioning == nil {
		return mux
	}
	provision := d.forAnyone("provisioning", func(w http.ResponseWriter, r *http.Request) error {
		d.deps.Provisioning.ServeHTTP(w, r)
		return nil
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isProvisioning(r) {
			provision.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// isProvisioning tells `/{idScope}/registrations/…` from the paths of a device,
// or of a device's file, that is called registrations.
func isProvisioning(r *http.Request) bool {
	segments := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	return len(segments) == 3 && segments[0] != "devices" && segments[1] == "registrations" && !r.URL.Query().Has("sig")
}

// Serve answers devices on the listener until ctx ends; then it lets requests
// finish for five seconds and returns nil. It closes the listener.
func (d *Door) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           d.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(d.deps.Logger.Handler(), slog.LevelDebug),
	}
	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve devices on %s: %w", listener.Addr(), err)
		}
		return nil
	})
	serving.Go(func() error { return d.sweepUploads(ctx) })
	serving.Go(func() error {
		<-ctx.Done()
		return stop(context.WithoutCancel(ctx), server)
	})
	return serving.Wait()
}

func stop(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	return err
}

// warn logs at a bounded rate: a thousand broken devices must not fill the disk.
func (d *Door) warn(msg string, args ...any) {
	if d.warnings.Allow() {
		d.deps.Logger.Warn(msg, args...) //nolint:sloglint // the callers' messages are constants
	}
}
