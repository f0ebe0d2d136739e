package query

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/fleetlog/fleetlog/query/operations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// deviceOperationService takes in imports and exports of devices, which
// query/operations does, and says how far they are.
type deviceOperationService struct {
	apiv1.UnimplementedDeviceOperationServiceServer
	resources

	runner    *operations.Runner
	groups    *deviceGroupService
	templates *template.Templates
}

func newDeviceOperationService(deps Deps) *deviceOperationService {
	return &deviceOperationService{
		resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: deviceoperation.KindName, noun: deviceoperation.Kind().Noun, timeout: changeTimeout},
		runner:    deps.Operations, groups: newDeviceGroupService(deps), templates: deps.Templates,
	}
}

func (s *deviceOperationService) ListDeviceOperations(ctx context.Context, req *apiv1.ListDeviceOperationsRequest) (*apiv1.ListDeviceOperationsResponse, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetMaxpagesize(), defaultResourcesPage, maxResourcesPage)
	if err != nil {
		return nil, err
	}
	before, err := decodeToken[operationsToken](req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDeviceOperationsResponse{}
	const all = 2 * deviceoperation.MaxKept // more than there can be
	for _, r := range slices.Backward(s.catalog.List(p.Tenant, s.kind, "", all)) {
		if before.Before != "" && r.ID >= before.Before {
			continue
		}
		if !visible(ctx, r) {
			continue
		}
		if len(resp.GetValue()) == size {
			resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(operationsToken{Before: resp.GetValue()[size-1].GetId()}))
			break
		}
		resp.Value = append(resp.Value, toOperation(r))
	}
	return resp, nil
}

// operationsToken is where a page of operations begins: they are in order of age,
// by their ids.
type operationsToken struct {
	Before string `json:"b"`
}

func (s *deviceOperationService) GetDeviceOperation(ctx context.Context, req *apiv1.GetDeviceOperationRequest) (*apiv1.DeviceOperation, error) {
	r, err := s.get(ctx, req.GetOperationId())
	if err != nil {
		return nil, err
	}
	return toOperation(r), nil
}

func (s *deviceOperationService) CancelDeviceOperation(ctx context.Context, req *apiv1.CancelDeviceOperationRequest) (*apiv1.DeviceOperation, error) {
	r, err := s.edit(ctx, req.GetOperationId(), "", func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		if current == nil || !visible(ctx, current) {
			return notFound("device operation %q does not exist", req.GetOperationId())
		}
		if err := mayEnd(ctx, current); err != nil {
			return err
		}
		next := proto.CloneOf(deviceoperation.Of(current))
		if deviceoperation.Ended(next) {
			return status.Errorf(codes.AlreadyExists, "device operation %q has ended", req.GetOperationId())
		}
		next.Status, next.EndedAt = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_CANCELLED, timestamppb.Now()
		ev.Change = &eventsv1.CatalogEvent_DeviceOperation{DeviceOperation: next}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return toOperation(r), nil
}

func (s *deviceOperationService) DeleteDeviceOperation(ctx context.Context, req *apiv1.DeleteDeviceOperationRequest) (*emptypb.Empty, error) {
	r, err := s.get(ctx, req.GetOperationId())
	if err != nil {
		return nil, err
	}
	if err := mayEnd(ctx, r); err != nil {
		return nil, err
	}
	if !deviceoperation.Ended(deviceoperation.Of(r)) {
		return nil, status.Errorf(codes.AlreadyExists, "device operation %q has not ended: cancel it first", req.GetOperationId())
	}
	if err := s.remove(ctx, req.GetOperationId()); err != nil {
		return nil, err
	}
	if err := s.runner.Clear(ctx, r); err != nil {
		return nil, &unavailableError{err, "the operation is deleted, but not all of its files: the log has the reason under the request id"}
	}
	return &emptypb.Empty{}, nil
}

func (s *deviceOperationService) ExportDevices(ctx context.Context, req *apiv1.ExportDevicesRequest) (*apiv1.DeviceOperation, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	id, o := eventlog.NewID(), &eventsv1.DeviceOperation{
		Kind: eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_EXPORT, DisplayName: req.GetDisplayName(),
	}
	if err := s.choose(ctx, req, o); err != nil {
		return nil, err
	}
	if len(req.GetIds()) > 0 {
		ids, err := distinct(req.GetIds())
		if err != nil {
			return nil, err
		}
		o.Input = operations.Input
		if err := s.runner.Bring(ctx, p.Tenant, id, strings.NewReader(strings.Join(ids, "\n")+"\n")); err != nil {
			return nil, storeFailure(err)
		}
	}
	return s.start(ctx, p, id, o)
}

// choose says in the operation which devices are exported, as far as they are not
// named one by one. A group counts by the query it has now.
func (s *deviceOperationService) choose(ctx context.Context, req *apiv1.ExportDevicesRequest, o *eventsv1.DeviceOperation) error {
	ways := 0
	for _, given := range []bool{req.GetDeviceGroup() != "", req.GetFilter() != "", len(req.GetIds()) > 0} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return badField("filter", "deviceGroup, filter and ids exclude each other: send one of them, or none to export all devices")
	}
	o.DeviceGroup, o.Filter = req.GetDeviceGroup(), req.GetFilter()
	if req.GetDeviceGroup() != "" {
		group, err := s.groups.group(ctx, req.GetDeviceGroup())
		if err != nil {
			return err
		}
		o.Filter = groupOf(group).GetFilter()
	}
	if _, err := operations.Filter(o); err != nil {
		return badField("filter", "%s", err)
	}
	return nil
}

// distinct are the ids in their order, each once.
func distinct(ids []string) ([]string, error) {
	seen := make(map[string]bool, len(ids))
	var once []string
	for _, id := range ids {
		if err := device.ValidateID(id); err != nil {
			return nil, badField("ids", "%s", err)
		}
		if !seen[id] {
			seen[id], once = true, append(once, id)
		}
	}
	return once, nil
}

// mayEnd lets those who asked for an operation end it, and those who may change all its
// devices.
func mayEnd(ctx context.Context, r *catalog.Resource) error {
	p, err := access.FromContext(ctx)
	if err != nil {
		return toStatus(err)
	}
	permission, err := access.ParsePermission("devices.update")
	if err != nil {
		return toStatus(err)
	}
	if o := deviceoperation.Of(r); o.GetActor().GetPrincipal() != p.ID && !p.Scope(permission).Has(o.GetOrganizations()) {
		return toStatus(&access.DeniedError{Permission: permission})
	}
	return nil
}

// start has the operation begin. What was brought for it goes again when it is not
// accepted.
func (s *deviceOperationService) start(ctx context.Context, p access.Principal, id string, o *eventsv1.DeviceOperation) (*apiv1.DeviceOperation, error) {
	o.Status = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_PENDING
	o.Actor = actorOf(ctx, p)
	if scope := access.CreateScopeOf(ctx); !scope.Everywhere() {
		o.Organizations = scope.Organizations()
	}
	s.runner.Own(o)
	exists := false
	r, err := s.change(ctx, p, id, &eventsv1.CatalogEvent{
		Precondition: &eventsv1.Precondition{Exists: &exists},
		Change:       &eventsv1.CatalogEvent_DeviceOperation{DeviceOperation: o},
	})
	var refused *catalog.RejectedError
	if errors.As(err, &refused) && o.GetInput() != "" {
		err = errors.Join(err, s.runner.Discard(ctx, p.Tenant, id))
	}
	if err != nil {
		return nil, changeFailure(err)
	}
	answerWith(ctx, http.StatusAccepted)
	return toOperation(r), nil
}

// storeFailure is the status of a file that the store did not take or give.
func storeFailure(err error) error {
	if status.Code(err) != codes.Unknown {
		return err // it says what to do already
	}
	return &unavailableError{err, "the file store does not answer: try again in a moment, and check --files of the nodes with the API"}
}

// The names of kinds and statuses in the API.
var (
	operationTypes = map[eventsv1.DeviceOperationKind]string{
		eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_IMPORT: "import",
		eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_EXPORT: "export",
	}
	operationStatuses = map[eventsv1.DeviceOperationStatus]string{
		eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_PENDING:   "pending",
		eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_RUNNING:   "running",
		eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_COMPLETED: "completed",
		eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_FAILED:    "failed",
		eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_CANCELLED: "cancelled",
	}
)

func toOperation(r *catalog.Resource) *apiv1.DeviceOperation {
	o := deviceoperation.Of(r)
	given := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return &apiv1.DeviceOperation{
		Id: r.ID, Etag: device.ETag(r.Version), Type: operationTypes[o.GetKind()], Status: operationStatuses[o.GetStatus()],
		DisplayName: o.GetDisplayName(), Total: o.GetTotal(), Succeeded: o.GetSucceeded(), Failed: o.GetFailed(), Failure: given(o.GetFailure()),
		Template: given(o.GetTemplate()), Organization: given(o.GetOrganization()), Update: o.GetUpdate(),
		DeviceGroup: given(o.GetDeviceGroup()), Filter: given(o.GetFilter()), RequestedBy: o.GetActor().GetPrincipal(),
		CreatedAt: timestamppb.New(r.CreatedAt), UpdatedAt: timestamppb.New(r.UpdatedAt), EndedAt: o.GetEndedAt(),
	}
}
