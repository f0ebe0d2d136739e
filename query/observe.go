package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
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

// requestID is the id of the call the context belongs to.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDContextKey{}).(string)
	return id
}

// observer gives each call its id, counts it, and logs what went wrong.
type observer struct {
	logger  *slog.Logger
	seconds *prometheus.HistogramVec
}

func newObserver(reg prometheus.Registerer, logger *slog.Logger) *observer {
	o := &observer{logger: logger, seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "fleetlog_api_seconds",
		Help:    "Time an API call took, by method and status code.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "code"})}
	reg.MustRegister(o.seconds)
	return o
}

// unary wraps a call. A panic is a programmer's error in one call and must not
// end the others.
func (o *observer) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	id := eventlog.NewID()
	ctx = context.WithValue(ctx, requestIDContextKey{}, id)
	_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDKey, id)) // fails only after the answer has begun
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = &internalError{cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
		code := status.Code(err)
		took := time.Since(began)
		o.seconds.WithLabelValues(info.FullMethod, code.String()).Observe(took.Seconds())
		level := slog.LevelDebug
		var fault *internalError
		if errors.As(err, &fault) || code == codes.Internal {
			level = slog.LevelError
		}
		o.logger.Log(ctx, level, "API call", "method", info.FullMethod, "code", code.String(), "took", took, "request_id", id, "error", err)
	}()
	return next(ctx, req)
}
