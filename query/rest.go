package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/fleetlog/fleetlog/query/operations"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// urlKey carries the REST request's URL to the service, for nextLink.
const urlKey = "x-fleetlog-url"

// handler is everything that answers HTTP.
func (s *Server) handler(ctx context.Context, inside *bufconn.Listener) (http.Handler, *grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///within",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return inside.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("connect REST to gRPC: %w", err)
	}
	gateway := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
		}),
		runtime.WithIncomingHeaderMatcher(incomingHeader),
		runtime.WithOutgoingHeaderMatcher(outgoingHeader),
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD {
			return metadata.Pairs(urlKey, requestURL(r).String())
		}),
		runtime.WithForwardResponseOption(statusCode),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(routingError),
	)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		apiv1.RegisterDeviceServiceHandler, apiv1.RegisterEnrollmentGroupServiceHandler, apiv1.RegisterTelemetryServiceHandler,
		apiv1.RegisterPropertyServiceHandler, apiv1.RegisterCommandServiceHandler, apiv1.RegisterMessageServiceHandler,
		apiv1.RegisterModuleServiceHandler, apiv1.RegisterRelationshipServiceHandler, apiv1.RegisterDeviceHistoryServiceHandler,
		apiv1.RegisterDeviceGroupServiceHandler, apiv1.RegisterDeviceTemplateServiceHandler,
		apiv1.RegisterDeviceOperationServiceHandler, apiv1.RegisterDashboardServiceHandler, apiv1.RegisterExplorerQueryServiceHandler,
		apiv1.RegisterQueryServiceHandler, apiv1.RegisterDeadLetterServiceHandler,
		apiv1.RegisterRoleServiceHandler, apiv1.RegisterOrganizationServiceHandler, apiv1.RegisterUserServiceHandler, apiv1.RegisterApiTokenServiceHandler, apiv1.RegisterAuditLogServiceHandler,
	} {
		if err := register(ctx, gateway, conn); err != nil {
			return nil, nil, fmt.Errorf("register REST: %w", err)
		}
	}
	if err := fileRoutes(gateway, conn); err != nil {
		return nil, nil, err
	}
	if err := queryRoute(gateway, conn); err != nil {
		return nil, nil, err
	}
	return s.observer.http(hardened(s.pages(versioned(gateway)))), conn, nil
}

// Versions of IoT Central's API whose paths and shapes ours are.
var versions = []string{"2022-07-31", "2022-10-31-preview"}

// versioned refuses calls for another version of the API than ours. IoT Central
// wants one in every call; here it may be left out.
func versioned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked := r.URL.Query().Get("api-version"); asked != "" && !slices.Contains(versions, asked) {
			answerError(w, toREST(codes.InvalidArgument), fmt.Sprintf("api-version %.40q is not one of %s: use one of them, or leave it out", asked, strings.Join(versions, ", ")), "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// incomingHeader lets preconditions through beside what grpc-gateway passes on.
func incomingHeader(name string) (string, bool) {
	switch textproto.CanonicalMIMEHeaderKey(name) {
	case "If-Match", "If-None-Match":
		return strings.ToLower(name), true
	case http.CanonicalHeaderKey(urlKey): // ours alone
		return "", false
	}
	return runtime.DefaultHeaderMatcher(name)
}

func outgoingHeader(name string) (string, bool) {
	switch name {
	case "etag":
		return "ETag", true
	case requestIDKey:
		return requestIDKey, true
	}
	return "", false
}

// requestURL is the address the caller used, as far as it can be known.
func requestURL(r *http.Request) *url.URL {
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		u.Scheme = "https"
	}
	return &u
}

// nextPage is how the caller gets the page that begins at the token: a REST
// caller by its own URL with another page token, a gRPC caller, who has no URL,
// by the token.
func nextPage(ctx context.Context, at string) (link, token *string) {
	u, err := url.Parse(first(ctx, urlKey))
	if err != nil || u.Host == "" {
		return nil, &at
	}
	q := u.Query()
	q.Del("page_token")
	q.Set("pageToken", at)
	u.RawQuery = q.Encode()
	return proto.String(u.String()), nil
}

// statusKey carries the HTTP status of an answer that is not 200.
const statusKey = "x-fleetlog-status"

// answerWith sets the HTTP status of a REST caller's answer.
func answerWith(ctx context.Context, code int) {
	_ = grpc.SetHeader(ctx, metadata.Pairs(statusKey, strconv.Itoa(code))) // fails only after the answer has begun
}

// statusCode answers with the status the service chose, and 204 where there is
// nothing to say.
func statusCode(ctx context.Context, w http.ResponseWriter, m proto.Message) error {
	if _, empty := m.(*emptypb.Empty); empty {
		w.Header().Del("Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	md, _ := runtime.ServerMetadataFromContext(ctx)
	if chosen := md.HeaderMD.Get(statusKey); len(chosen) == 1 {
		code, err := strconv.Atoi(chosen[0])
		if err != nil {
			return fmt.Errorf("status of the answer: %w", err)
		}
		w.WriteHeader(code)
	}
	return nil
}

// errorBody is IoT Central's error.
type errorBody struct {
	Error struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		RequestID string `json:"requestId"`
		Time      string `json:"time"`
		// Details are all that is wrong with a request, a place each.
		Details []errorDetail `json:"details,omitempty"`
	} `json:"error"`
}

// errorDetail is what is wrong with one part of a request.
type errorDetail struct {
	Target  string `json:"target"`
	Message string `json:"message"`
}

func errorDetails(st *status.Status) (all []errorDetail) {
	for _, d := range st.Details() {
		bad, ok := d.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad.GetFieldViolations() {
			all = append(all, errorDetail{Target: v.GetField(), Message: v.GetDescription()})
		}
	}
	return all
}

func writeError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	id := ""
	if md, ok := runtime.ServerMetadataFromContext(ctx); ok {
		if v := md.HeaderMD.Get(requestIDKey); len(v) > 0 {
			id = v[0]
		}
	}
	st := status.Convert(err)
	rest := toREST(st.Code())
	message := st.Message()
	if strings.Contains(message, "http: request body too large") {
		rest = restError{http.StatusRequestEntityTooLarge, "PayloadTooLarge"}
		message = fmt.Sprintf("the request body is too large: send at most %d bytes", takes(r).bytes)
	}
	if message == io.ErrUnexpectedEOF.Error() {
		message = "the request body ends in the middle of the JSON"
	}
	// What protojson says of a body begins with its own name.
	if detail, ok := strings.CutPrefix(message, "proto:"); ok {
		message = "the request body is not what this call takes: " + strings.TrimSpace(strings.ReplaceAll(detail, "\u00a0", " "))
	}
	for _, d := range st.Details() {
		if wait, ok := d.(*errdetails.RetryInfo); ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.GetRetryDelay().GetSeconds())))
		}
	}
	answerError(w, rest, message, id, errorDetails(st)...)
}

func routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	switch code {
	case http.StatusNotFound:
		answerError(w, toREST(codes.NotFound), fmt.Sprintf("there is no %s; the API is described at /docs", r.URL.Path), "")
	case http.StatusMethodNotAllowed:
		answerError(w, toREST(codes.Unimplemented), fmt.Sprintf("%s does not take %s; the API is described at /docs", r.URL.Path, r.Method), "")
	default:
		answerError(w, toREST(codes.InvalidArgument), "the path is not well-formed", "")
	}
}

func answerError(w http.ResponseWriter, rest restError, message, id string, details ...errorDetail) {
	if id == "" {
		id = eventlog.NewID()
	}
	var body errorBody
	body.Error.Code, body.Error.Message, body.Error.RequestID = rest.code, message, id
	body.Error.Details = details
	body.Error.Time = time.Now().UTC().Format(http.TimeFormat) // as the reference has it: date-time-rfc1123
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set(requestIDKey, id)
	h.Set("x-ms-error-code", rest.code)
	if rest.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="fleetlog"`)
	}
	w.WriteHeader(rest.status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // <data-dir> is to be read by people
	_ = enc.Encode(body)     // the caller may be gone
}

// hardened bounds bodies and sets the headers every answer has.
func hardened(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if hasBody := r.ContentLength != 0 && slices.Contains([]string{http.MethodPut, http.MethodPost, http.MethodPatch}, r.Method); hasBody {
			body := takes(r)
			if kind := r.Header.Get("Content-Type"); kind != "" && !slices.ContainsFunc(body.types, func(t string) bool { return strings.HasPrefix(kind, t) }) {
				answerError(w, restError{http.StatusUnsupportedMediaType, "UnsupportedMediaType"}, fmt.Sprintf("send %s, with Content-Type: %s", body.noun, body.types[0]), "")
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, body.bytes)
		}
		next.ServeHTTP(w, r)
	})
}

// bodyKind is what the body of a request may be.
type bodyKind struct {
	noun  string
	types []string
	bytes int64
}

// takes is what a request's path takes: JSON, but for the import of a file.
func takes(r *http.Request) bodyKind {
	if r.URL.Path == importPath {
		return bodyKind{"CSV", []string{csvType}, operations.MaxInputBytes}
	}
	if r.URL.Path == sqlPath || strings.HasPrefix(r.URL.Path, sqlPath+"/") {
		return bodyKind{"SQL", []string{""}, maxSQL + 1}
	}
	return bodyKind{"JSON", []string{"application/json", "application/merge-patch+json"}, maxRequestBytes}
}
