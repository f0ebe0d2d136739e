package query

import (
	"github.com/fleetlog/fleetlog/internal/access"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/peer"
	"net"
	"strings"

	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// requestIDKey is the metadata key, and REST header, of the request id.
const requestIDKey = "x-ms-request-id"

type requestIDContextKey struct{}

type methodContextKey struct{}

// actorOf is who asks for a change, from where and by which call.
func actorOf(ctx context.Context, p access.Principal) *eventsv1.Actor {
	method, _ := ctx.Value(methodContextKey{}).(string)
	return &eventsv1.Actor{Principal: p.ID, RequestId: requestID(ctx), Address: addressOf(ctx), Method: method}
}

// addressOf is the IP address that the call came from, as this node saw it. Calls over
// REST come through memory; the gateway adds the address of its caller behind all that
// the caller says of itself.
func addressOf(ctx context.Context) string {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	address := from.Addr.String()
	if from.Addr.Network() == "bufconn" {
		chain := strings.Split(first(ctx, "x-forwarded-for"), ",")
		return strings.TrimSpace(chain[len(chain)-1])
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// shortMethod is a method's name without the package.
func shortMethod(full string) string {
	_, short, _ := strings.Cut(full, "v1.")
	return short
}

// requestID is the id of the call the context belongs to.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDContextKey{}).(string)
	return id
}

// observer gives each call its id, counts it, and logs what went wrong.
type observer struct {
	logger    *slog.Logger
	seconds   *prometheus.HistogramVec
	responses *prometheus.CounterVec
}

func newObserver(reg prometheus.Registerer, logger *slog.Logger) *observer {
	o := &observer{logger: logger, seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "fleetlog_api_seconds",
		Help:    "Time an API call took, by method and status code.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "code"}), responses: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetlog_http_responses_total",
		Help: "HTTP responses by request method and status, those to requests that never became an API call among them.",
	}, []string{"method", "status"})}
	reg.MustRegister(o.seconds, o.responses)
	return o
}

// unary wraps a call. A panic is a programmer's error in one call and must not
// end the others.
func (o *observer) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	id := eventlog.NewID()
	ctx = context.WithValue(context.WithValue(ctx, requestIDContextKey{}, id), methodContextKey{}, shortMethod(info.FullMethod))
	_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDKey, id)) // fails only after the answer has begun
	began := time.Now()
	defer func() { err = o.ended(ctx, info.FullMethod, began, err, recover()) }()
	return next(ctx, req)
}

// stream does the same for streams.
func (o *observer) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	id := eventlog.NewID()
	_ = stream.SetHeader(metadata.Pairs(requestIDKey, id))
	ctx := context.WithValue(context.WithValue(stream.Context(), requestIDContextKey{}, id), methodContextKey{}, shortMethod(info.FullMethod))
	began := time.Now()
	defer func() { err = o.ended(ctx, info.FullMethod, began, err, recover()) }()
	return next(srv, &contextStream{ServerStream: stream, ctx: ctx})
}

// ended counts and logs a call and gives the error that it ends with.
func (o *observer) ended(ctx context.Context, method string, began time.Time, err error, panicked any) error {
	if panicked != nil {
		err = &internalError{cause: fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())}
	}
	code, took := status.Code(err), time.Since(began)
	o.seconds.WithLabelValues(method, code.String()).Observe(took.Seconds())
	level := slog.LevelDebug
	switch code {
	case codes.Internal, codes.Unknown:
		level = slog.LevelError
	case codes.Unavailable:
		level = slog.LevelWarn
	}
	o.logger.Log(ctx, level, "API call", "method", method, "code", code.String(), "took", took, "request_id", requestID(ctx), "error", err)
	return err
}

// clientRequestIDKey is the header by which a caller gives a request an id of
// its own, as Azure's clients do; it comes back in the answer.
const clientRequestIDKey = "x-ms-client-request-id"

// maxClientRequestIDBytes bounds what is sent back and logged.
const maxClientRequestIDBytes = 128

// http counts and logs what REST answers.
func (o *observer) http(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := r.Header.Get(clientRequestIDKey)
		if len(own) > maxClientRequestIDBytes {
			own = ""
		}
		if own != "" {
			w.Header().Set(clientRequestIDKey, own)
		}
		began, answer := time.Now(), &answerWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			o.responses.WithLabelValues(knownMethod(r.Method), strconv.Itoa(answer.status)).Inc()
			o.logger.Debug("HTTP request", "method", r.Method, "path", r.URL.Path, "status", answer.status, "took", time.Since(began),
				"request_id", w.Header().Get(requestIDKey), "client_request_id", own)
		}()
		next.ServeHTTP(answer, r)
	})
}

// knownMethod keeps a caller from making up label values.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// answerWriter notes the status of an answer.
type answerWriter struct {
	http.ResponseWriter
	status int
	begun  bool
}

func (w *answerWriter) WriteHeader(status int) {
	if !w.begun && status >= http.StatusOK {
		w.status, w.begun = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
