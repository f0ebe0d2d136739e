package query

import (
	"context"
	"strings"

	"github.com/fleetlog/fleetlog/internal/access"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// open reports whether a method may be called without a token: only the health
// check and the description of the services, which say nothing about a tenant.
func open(method string) bool {
	return strings.HasPrefix(method, "/"+healthv1.Health_ServiceDesc.ServiceName+"/") || strings.HasPrefix(method, "/grpc.reflection.")
}

// authenticate puts the caller's principal into the context of every call, or
// ends it.
func authenticate(tokens *access.Tokens) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if open(info.FullMethod) {
			return next(ctx, req)
		}
		ctx, err := withPrincipal(ctx, tokens)
		if err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// authenticateStream does the same for streams; none but the open ones exist yet.
func authenticateStream(tokens *access.Tokens) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if open(info.FullMethod) {
			return next(srv, stream)
		}
		ctx, err := withPrincipal(stream.Context(), tokens)
		if err != nil {
			return err
		}
		return next(srv, &contextStream{ServerStream: stream, ctx: ctx})
	}
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // how gRPC replaces a stream's context
}

func (s *contextStream) Context() context.Context { return s.ctx }

func withPrincipal(ctx context.Context, tokens *access.Tokens) (context.Context, error) {
	header := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(header) != 1 {
		return nil, toStatus(access.ErrUnauthenticated)
	}
	principal, err := tokens.Authenticate(header[0])
	if err != nil {
		return nil, toStatus(err)
	}
	return access.WithPrincipal(ctx, principal), nil
}

// first is the first value of a metadata key, "" when there is none.
func first(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}
