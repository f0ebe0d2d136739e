package query

import (
	"context"
	"errors"
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/fleetlog/fleetlog/query/operations"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// This file is how CSV files come in and go out: as streams over gRPC, and as
// plain bodies over REST. grpc-gateway would want JSON and put line ends between
// the parts, so these calls have REST handlers of their own.

const (
	importPath = "/api/devices/import"
	csvType    = "text/csv"
	// partBytes is how much of a file is in one message.
	partBytes = 64 << 10
)

// ImportDevices takes the file into the store, and then the operation into the
// catalog.
func (s *deviceOperationService) ImportDevices(stream grpc.ClientStreamingServer[apiv1.ImportDevicesRequest, apiv1.DeviceOperation]) error {
	ctx := stream.Context()
	p, err := s.reader(ctx)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return badField("content", "there is no file: send CSV, with %s and %s in its first row", "IOTC_DEVICEID", "IOTC_DEVICENAME")
	}
	id := eventlog.NewID()
	o := &eventsv1.DeviceOperation{
		Kind: eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_IMPORT, DisplayName: first.GetDisplayName(), Input: operations.Input,
		Template: first.GetTemplate(), Organization: first.GetOrganization(), Update: first.GetUpdate(),
	}
	if err := validateImport(p.Tenant, o); err != nil {
		return err
	}
	if err := s.admitImport(ctx, p, o); err != nil {
		return err
	}
	if _, err := initialOf(s.templates, p.Tenant, o.GetTemplate()); err != nil {
		return err
	}
	if err := s.runner.Bring(ctx, p.Tenant, id, &importReader{stream: stream, part: first.GetContent().GetData()}); err != nil {
		return storeFailure(err)
	}
	started, err := s.start(ctx, p, id, o)
	if err != nil {
		return err
	}
	return stream.SendAndClose(started)
}

// validateImport checks what all devices of the file would get, before the first
// one gets it.
func validateImport(tenant string, o *eventsv1.DeviceOperation) error {
	sample := &eventsv1.DeviceRegistered{Template: o.GetTemplate()}
	if o.GetOrganization() != "" {
		sample.Organizations = []string{o.GetOrganization()}
	}
	err := device.Validate(&eventsv1.DeviceEvent{
		Id: "sample", Tenant: tenant, Device: "sample", Time: timestamppb.Now(), Change: &eventsv1.DeviceEvent_Registered{Registered: sample},
	})
	if err != nil {
		return badField("import", "%s", err)
	}
	return nil
}

// admitImport settles where the devices of the file go. Who changes devices, too, must
// be allowed to wherever he creates them.
func (s *deviceOperationService) admitImport(ctx context.Context, p access.Principal, o *eventsv1.DeviceOperation) error {
	var asked []string
	if o.GetOrganization() != "" {
		asked = []string{o.GetOrganization()}
	}
	into, err := placed(ctx, s.directory, p.Tenant, false, nil, asked)
	if err != nil {
		return err
	}
	if len(into) > 0 {
		o.Organization = into[0]
	}
	permission, err := access.ParsePermission("devices.update")
	if err != nil {
		return toStatus(err)
	}
	update, create := p.Scope(permission), access.CreateScopeOf(ctx)
	if o.GetUpdate() && !update.Everywhere() && (create.Everywhere() || !update.Has(create.Organizations())) {
		return toStatus(&access.DeniedError{Permission: permission})
	}
	return nil
}

// importReader is the file that comes in parts; it fails beyond its bound.
type importReader struct {
	stream grpc.ClientStreamingServer[apiv1.ImportDevicesRequest, apiv1.DeviceOperation]
	part   []byte
	read   int
}

// Read gives the next part.
func (r *importReader) Read(p []byte) (int, error) {
	for len(r.part) == 0 {
		req, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		r.part = req.GetContent().GetData()
	}
	n := copy(p, r.part)
	r.part = r.part[n:]
	if r.read += n; r.read > operations.MaxInputBytes {
		return 0, badField("content", "the file is too large: import at most %d bytes at a time", operations.MaxInputBytes)
	}
	return n, nil
}

func (s *deviceOperationService) GetDeviceOperationErrors(req *apiv1.GetDeviceOperationErrorsRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	r, err := s.get(stream.Context(), req.GetOperationId())
	if err != nil {
		return err
	}
	return storeFailureOf(s.runner.WriteErrors(stream.Context(), &csvWriter{stream}, r))
}

func (s *deviceOperationService) GetDeviceOperationResult(req *apiv1.GetDeviceOperationResultRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	r, err := s.get(stream.Context(), req.GetOperationId())
	if err != nil {
		return err
	}
	switch o := deviceoperation.Of(r); {
	case o.GetKind() != eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_EXPORT:
		return notFound("device operation %q is an import: it has errors, but no result", r.ID)
	case o.GetStatus() != eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_COMPLETED:
		return notFound("device operation %q has no result: it is %s", r.ID, operationStatuses[o.GetStatus()])
	}
	return storeFailureOf(s.runner.WriteResult(stream.Context(), &csvWriter{stream}, r))
}

func storeFailureOf(err error) error {
	if err == nil {
		return nil
	}
	return storeFailure(err)
}

// csvWriter sends what is written to it as parts of a file.
type csvWriter struct {
	stream grpc.ServerStreamingServer[httpbody.HttpBody]
}

// Write sends one message.
func (w *csvWriter) Write(p []byte) (int, error) {
	if err := w.stream.Send(&httpbody.HttpBody{ContentType: csvType, Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fileRoutes adds the REST side of files. They are added after the generated
// routes of the same paths, and so come before them.
func fileRoutes(gateway *runtime.ServeMux, conn *grpc.ClientConn) error {
	client := apiv1.NewDeviceOperationServiceClient(conn)
	routes := map[string]runtime.HandlerFunc{
		"GET /api/deviceOperations/{id}/errors": download(gateway, "errors.csv", func(ctx context.Context, id string) (grpc.ServerStreamingClient[httpbody.HttpBody], error) {
			return client.GetDeviceOperationErrors(ctx, &apiv1.GetDeviceOperationErrorsRequest{OperationId: id})
		}),
		"GET /api/deviceOperations/{id}/result": download(gateway, "devices.csv", func(ctx context.Context, id string) (grpc.ServerStreamingClient[httpbody.HttpBody], error) {
			return client.GetDeviceOperationResult(ctx, &apiv1.GetDeviceOperationResultRequest{OperationId: id})
		}),
		"POST " + importPath: upload(gateway, client),
	}
	for route, handle := range routes {
		method, path, _ := strings.Cut(route, " ")
		if err := gateway.HandlePath(method, path, handle); err != nil {
			return fmt.Errorf("route %s: %w", route, err)
		}
	}
	return nil
}

// upload sends a request's body as a stream.
func upload(gateway *runtime.ServeMux, client apiv1.DeviceOperationServiceClient) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		_, out := runtime.MarshalerForRequest(gateway, r)
		ctx, err := runtime.AnnotateContext(r.Context(), gateway, r, apiv1.DeviceOperationService_ImportDevices_FullMethodName)
		if err != nil {
			runtime.HTTPError(r.Context(), gateway, out, w, r, err)
			return
		}
		answer, md, err := sendFile(ctx, client, r)
		ctx = runtime.NewServerMetadataContext(ctx, md)
		if err != nil {
			runtime.HTTPError(ctx, gateway, out, w, r, err)
			return
		}
		runtime.ForwardResponseMessage(ctx, gateway, out, w, r, answer, gateway.GetForwardResponseOptions()...)
	}
}

func sendFile(ctx context.Context, client apiv1.DeviceOperationServiceClient, r *http.Request) (*apiv1.DeviceOperation, runtime.ServerMetadata, error) {
	var md runtime.ServerMetadata
	ctx, cancel := context.WithCancel(ctx) // ends the stream of a body that breaks off
	defer cancel()
	part := &apiv1.ImportDevicesRequest{}
	// A template's id has a semicolon, which Go would take for half a separator.
	query, err := url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, ";", "%3B"))
	if err != nil {
		return nil, md, status.Error(codes.InvalidArgument, "the query of the address is not well-formed: "+err.Error())
	}
	if err := runtime.PopulateQueryParameters(part, query, utilities.NewDoubleArray([][]string{{"content"}})); err != nil {
		return nil, md, status.Error(codes.InvalidArgument, err.Error())
	}
	stream, err := client.ImportDevices(ctx)
	if err != nil {
		return nil, md, err
	}
	buffer := make([]byte, partBytes)
	for {
		n, err := io.ReadFull(r.Body, buffer)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return nil, md, status.Error(codes.InvalidArgument, err.Error())
		}
		part.Content = &httpbody.HttpBody{ContentType: csvType, Data: buffer[:n]}
		if n > 0 {
			if err := stream.Send(part); err != nil { // its reason is what the stream ends with
				break
			}
		}
		if ended {
			break
		}
		part = &apiv1.ImportDevicesRequest{}
	}
	answer, err := stream.CloseAndRecv()
	md.HeaderMD, _ = stream.Header() // there is none when the call failed before it began
	md.TrailerMD = stream.Trailer()
	return answer, md, err
}

// download answers with a stream of parts as one file.
func download(gateway *runtime.ServeMux, name string, open func(context.Context, string) (grpc.ServerStreamingClient[httpbody.HttpBody], error)) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		_, out := runtime.MarshalerForRequest(gateway, r)
		ctx, err := runtime.AnnotateContext(r.Context(), gateway, r, apiv1.DeviceOperationService_ServiceDesc.ServiceName)
		if err != nil {
			runtime.HTTPError(r.Context(), gateway, out, w, r, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := open(ctx, path["id"])
		sendParts(ctx, gateway, w, r, stream, err, map[string]string{
			"Content-Type": csvType + "; charset=utf-8", "Content-Disposition": `attachment; filename="` + name + `"`,
		})
	}
}

// sendParts answers with a stream of parts as one body, or with the error that it
// begins with. Without headers of its own the parts say what it is.
func sendParts(ctx context.Context, gateway *runtime.ServeMux, w http.ResponseWriter, r *http.Request, stream grpc.ServerStreamingClient[httpbody.HttpBody], err error, headers map[string]string) {
	var part *httpbody.HttpBody
	var header metadata.MD
	if err == nil {
		part, err = stream.Recv()
		header, _ = stream.Header()
	}
	if err != nil {
		_, out := runtime.MarshalerForRequest(gateway, r)
		runtime.HTTPError(runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{HeaderMD: header}), gateway, out, w, r, err)
		return
	}
	w.Header().Set("Content-Type", part.GetContentType())
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	if id := header.Get(requestIDKey); len(id) == 1 {
		w.Header().Set(requestIDKey, id[0])
	}
	for ; err == nil; part, err = stream.Recv() {
		if _, err := w.Write(part.GetData()); err != nil {
			return // the caller is gone
		}
	}
	if !errors.Is(err, io.EOF) {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
}
