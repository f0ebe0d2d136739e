package query

import (
	"context"
	"errors"
	"github.com/fleetlog/fleetlog/internal/pace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// open reports whether a method may be called without a token: only the health
// check and the description of the services, which say nothing about a tenant.
func open(method string) bool {
	return strings.HasPrefix(method, "/"+healthv1.Health_ServiceDesc.ServiceName+"/") || strings.HasPrefix(method, "/grpc.reflection.")
}

// need is what a method takes, as its proto says.
type need struct {
	permission, create access.Permission
	tenant             bool
}

// gate lets calls in: every one goes through it, whichever door it came by.
type gate struct {
	who   access.Authenticator
	needs map[string]need // by full method
	*refusals

	callers *pace.Limits // nil: no bound
}

func newGate(who access.Authenticator, r *refusals, perSecond float64) *gate {
	g := &gate{who: who, needs: map[string]need{}, refusals: r}
	if perSecond > 0 {
		g.callers = pace.New(perSecond)
	}
	return g
}

// learn reads what the methods of the services take. It is called before the first call.
func (g *gate) learn(services map[string]grpc.ServiceInfo) {
	for service, described := range services {
		for _, m := range described.Methods {
			method := "/" + service + "/" + m.Name
			if n, declared := declaredNeed(method); declared {
				g.needs[method] = n
			}
		}
	}
}

// declaredNeed reads the method's option. A method without one is closed to everybody;
// a test sees to it that there is none.
func declaredNeed(method string) (n need, declared bool) {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return n, false
	}
	options, ok := d.Options().(*descriptorpb.MethodOptions)
	if !ok || !proto.HasExtension(options, apiv1.E_Access) {
		return n, false
	}
	asked, _ := proto.GetExtension(options, apiv1.E_Access).(*apiv1.Access)
	if n.permission, err = access.ParsePermission(asked.GetPermission()); err != nil {
		return n, false
	}
	n.create, n.tenant = n.permission, asked.GetTenant()
	if asked.GetCreate() != "" {
		n.create, err = access.ParsePermission(asked.GetCreate())
	}
	return n, err == nil
}

// admit puts the caller into the context of a call, and where it may do what it asks
// for, or ends it.
func (g *gate) admit(ctx context.Context, method string) (context.Context, error) {
	n, declared := g.needs[method]
	header := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(header) != 1 || !declared {
		g.note(actorOf(ctx, access.Principal{}), "", n.permission.String(), eventsv1.AccessRefusal_ACCESS_REFUSAL_UNAUTHENTICATED)
		return nil, toStatus(access.ErrUnauthenticated)
	}
	p, err := g.who.Authenticate(ctx, header[0])
	if errors.Is(err, access.ErrUnauthenticated) {
		g.note(actorOf(ctx, access.Principal{}), "", n.permission.String(), eventsv1.AccessRefusal_ACCESS_REFUSAL_UNAUTHENTICATED)
	}
	if err != nil {
		return nil, toStatus(err)
	}
	if g.callers != nil && !g.callers.Allow(p.Tenant+"/"+p.ID) {
		return nil, detailed(codes.ResourceExhausted, "you call too often: wait a second, and send fewer calls at once", &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	}
	entered, err := n.enter(ctx, p)
	if err != nil {
		g.note(actorOf(ctx, p), p.Tenant, n.permission.String(), eventsv1.AccessRefusal_ACCESS_REFUSAL_DENIED)
	}
	return entered, err
}

// enter is the decision: may the caller do this somewhere, and where?
func (n need) enter(ctx context.Context, p access.Principal) (context.Context, error) {
	scope, create := p.Scope(n.permission), p.Scope(n.create)
	if n.tenant {
		if !scope.Everywhere() {
			scope = access.Scope{}
		}
		if !create.Everywhere() {
			create = access.Scope{}
		}
	}
	if scope.Nowhere() && create.Nowhere() {
		return nil, toStatus(&access.DeniedError{Permission: n.permission})
	}
	return access.WithCaller(ctx, p, scope, create), nil
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if open(info.FullMethod) {
		return next(ctx, req)
	}
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g *gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if open(info.FullMethod) {
		return next(srv, stream)
	}
	ctx, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &contextStream{ServerStream: stream, ctx: ctx})
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // how gRPC replaces a stream's context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// first is the first value of a metadata key, "" when there is none.
func first(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}
