package query

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// formats by the media types that a caller may accept.
var formats = map[string]string{
	"text/csv": "csv", "application/vnd.apache.arrow.stream": "arrow", "application/json": "json",
}

// queryRoute adds the REST side of queries, which streams: grpc-gateway would put line
// ends between the parts. It is added after the generated route, and so comes before
// it.
func queryRoute(gateway *runtime.ServeMux, conn *grpc.ClientConn) error {
	client := apiv1.NewQueryServiceClient(conn)
	err := gateway.HandlePath(http.MethodPost, "/api/query", func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		in, out := runtime.MarshalerForRequest(gateway, r)
		ctx, err := runtime.AnnotateContext(r.Context(), gateway, r, apiv1.QueryService_Query_FullMethodName)
		if err != nil {
			runtime.HTTPError(r.Context(), gateway, out, w, r, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		req := &apiv1.QueryRequest{}
		if err := in.NewDecoder(r.Body).Decode(req); err != nil {
			runtime.HTTPError(ctx, gateway, out, w, r, status.Error(codes.InvalidArgument, err.Error()))
			return
		}
		if req.GetFormat() == "" {
			kind, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
			kind, _, _ = strings.Cut(kind, ";")
			req.Format = formats[strings.ToLower(strings.TrimSpace(kind))]
		}
		stream, err := client.Query(ctx, req)
		sendParts(ctx, gateway, w, r, stream, err, nil)
	})
	if err != nil {
		return fmt.Errorf("route POST /api/query: %w", err)
	}
	return nil
}
