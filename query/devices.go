package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// changeTimeout bounds how long a change waits for the fold's decision.
const changeTimeout = 10 * time.Second

// deviceService answers reads from the node's registry and makes changes events.
type deviceService struct {
	apiv1.UnimplementedDeviceServiceServer
	registry *registry.Registry
	fleet    *fleet
	groups   *enrollment.Groups
	keys     *device.MasterKey
	// timeout bounds how long a change waits for the fold's decision.
	timeout time.Duration
}

func (s *deviceService) GetDevice(ctx context.Context, req *apiv1.GetDeviceRequest) (*apiv1.Device, error) {
	state, err := s.get(ctx, req.GetDeviceId())
	if err != nil {
		return nil, err
	}
	return answer(ctx, state), nil
}

func (s *deviceService) PutDevice(ctx context.Context, req *apiv1.PutDeviceRequest) (*apiv1.Device, error) {
	d := req.GetDevice()
	if id := d.GetId(); id != "" && id != req.GetDeviceId() {
		return nil, badField("id", "the body's id is %q, the path's %q: leave it out of the body", id, req.GetDeviceId())
	}
	return s.change(ctx, req.GetDeviceId(), d.GetEtag(), &eventsv1.DeviceEvent{
		Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{
			DisplayName: d.GetDisplayName(), Template: d.GetTemplate(), Simulated: d.GetSimulated(), Organizations: d.GetOrganizations(),
			Enabled: d.GetEnabled() || d == nil || d.Enabled == nil,
		}},
	})
}

func (s *deviceService) UpdateDevice(ctx context.Context, req *apiv1.UpdateDeviceRequest) (*apiv1.Device, error) {
	d := req.GetDevice()
	if d == nil {
		return nil, badField("device", "the body is empty: send the fields to change")
	}
	if id := d.GetId(); id != "" && id != req.GetDeviceId() {
		return nil, badField("id", "the body's id is %q, the path's %q: leave it out of the body", id, req.GetDeviceId())
	}
	update := &eventsv1.DeviceUpdated{DisplayName: d.DisplayName, Template: d.Template, Enabled: d.Enabled, Simulated: d.Simulated}
	if len(d.GetOrganizations()) > 0 {
		update.Organizations = &eventsv1.Organizations{Ids: d.GetOrganizations()}
	}
	return s.change(ctx, req.GetDeviceId(), d.GetEtag(), &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Updated{Updated: update}})
}

func (s *deviceService) DeleteDevice(ctx context.Context, req *apiv1.DeleteDeviceRequest) (*emptypb.Empty, error) {
	_, err := s.change(ctx, req.GetDeviceId(), "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Deleted{Deleted: &eventsv1.DeviceDeleted{}}})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// reader is the caller, once there is something to read.
func (s *deviceService) reader(ctx context.Context) (access.Principal, error) {
	p, err := access.FromContext(ctx)
	if err == nil {
		err = s.registry.Ready()
	}
	return p, toStatus(err)
}

func (s *deviceService) get(ctx context.Context, id string) (*eventsv1.DeviceState, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	if err := device.ValidateID(id); err != nil {
		return nil, badField("deviceId", "%s", err)
	}
	state := s.registry.Get(p.Tenant, id)
	if state == nil {
		return nil, notFound("device %q does not exist", id)
	}
	return state, nil
}

// change appends the event and answers with the device as the fold left it.
func (s *deviceService) change(ctx context.Context, id, bodyTag string, ev *eventsv1.DeviceEvent) (*apiv1.Device, error) {
	state, err := s.changeState(ctx, id, bodyTag, nil, ev)
	if err != nil {
		return nil, err
	}
	return answer(ctx, state), nil
}

// changeState appends the event and waits for the state the fold leaves. The
// precondition is the caller's, else the given one.
func (s *deviceService) changeState(ctx context.Context, id, bodyTag string, otherwise *eventsv1.Precondition, ev *eventsv1.DeviceEvent) (*eventsv1.DeviceState, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	if ev.Precondition, err = precondition(first(ctx, "if-match"), first(ctx, "if-none-match"), bodyTag); err != nil {
		return nil, err
	}
	if ev.Precondition == nil {
		ev.Precondition = otherwise
	}
	sign(ctx, p, id, ev)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	state, err := s.registry.Change(ctx, ev)
	if err != nil {
		return nil, changeFailure(err)
	}
	return state, nil
}

// sign says of an event who wants the change, and which device it is about.
func sign(ctx context.Context, p access.Principal, id string, ev *eventsv1.DeviceEvent) {
	ev.Id, ev.Tenant, ev.Device, ev.Time = eventlog.NewID(), p.Tenant, id, timestamppb.Now()
	ev.Actor = &eventsv1.Actor{Principal: p.ID, RequestId: requestID(ctx)}
}

// precondition reads If-Match and If-None-Match (RFC 9110 §13.1); the etag in a
// body counts when there is no header.
func precondition(ifMatch, ifNoneMatch, bodyTag string) (*eventsv1.Precondition, error) {
	switch {
	case ifMatch != "" && ifNoneMatch != "":
		return nil, badField("If-Match", "If-Match and If-None-Match contradict each other: send one")
	case ifNoneMatch == "*":
		return &eventsv1.Precondition{Exists: proto.Bool(false)}, nil
	case ifNoneMatch != "":
		return nil, badField("If-None-Match", "If-None-Match takes only *, to create a device that must not exist")
	case ifMatch == "*":
		return &eventsv1.Precondition{Exists: proto.Bool(true)}, nil
	case ifMatch == "":
		ifMatch = bodyTag
	}
	if ifMatch == "" {
		return nil, nil //nolint:nilnil // no precondition is no error
	}
	version, err := device.ParseETag(ifMatch)
	if err != nil {
		return nil, badField("etag", "%s", err)
	}
	return &eventsv1.Precondition{Version: &version}, nil
}

// answer is the device with its etag also as a header.
func answer(ctx context.Context, state *eventsv1.DeviceState) *apiv1.Device {
	d := toDevice(state)
	_ = grpc.SetHeader(ctx, metadata.Pairs("etag", `"`+d.GetEtag()+`"`)) // fails only after the answer has begun
	return d
}

func toDevice(s *eventsv1.DeviceState) *apiv1.Device {
	d := &apiv1.Device{
		Id: s.GetDevice(), Etag: device.ETag(s.GetVersion()), DisplayName: s.GetDisplayName(), Enabled: proto.Bool(s.GetEnabled()),
		Provisioned: s.GetProvisioned(), Simulated: s.GetSimulated(), Organizations: s.GetOrganizations(),
	}
	if s.GetTemplate() != "" {
		d.Template = proto.String(s.GetTemplate())
	}
	return d
}
