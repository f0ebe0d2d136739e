package query

import (
	"context"
	"encoding/json"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// changeTimeout bounds how long a change waits for the fold's decision.
const changeTimeout = 10 * time.Second

// deviceService answers reads from the node's registry and makes changes events.
type deviceService struct {
	apiv1.UnimplementedDeviceServiceServer
	identities

	fleet  *fleet
	groups *enrollment.Groups
	keys   *device.MasterKey
}

func (s *deviceService) GetDevice(ctx context.Context, req *apiv1.GetDeviceRequest) (*apiv1.Device, error) {
	if req.GetAt() != nil {
		return s.getAt(ctx, req)
	}
	state, _, err := s.get(ctx, req.GetDeviceId(), "")
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
	edge, err := isEdge(d.GetType())
	if err != nil {
		return nil, err
	}
	tags, err := tagsJSON(d.GetTags())
	if err != nil {
		return nil, err
	}
	manifest, err := s.manifest(ctx, req.GetDeviceId(), d.GetDeploymentManifest())
	if err != nil {
		return nil, err
	}
	initial, err := s.initial(ctx, d.GetTemplate())
	if err != nil {
		return nil, err
	}
	device, err := s.change(ctx, req.GetDeviceId(), d.GetEtag(), &eventsv1.DeviceEvent{
		Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{
			DisplayName: d.GetDisplayName(), Template: d.GetTemplate(), Simulated: d.GetSimulated(), Organizations: d.GetOrganizations(),
			Enabled: d.GetEnabled() || d == nil || d.Enabled == nil, Tags: tags, Edge: edge, Initial: initial,
		}},
	})
	if err != nil || manifest == nil {
		return device, err
	}
	return s.deploy(ctx, req.GetDeviceId(), manifest)
}

func (s *deviceService) UpdateDevice(ctx context.Context, req *apiv1.UpdateDeviceRequest) (*apiv1.Device, error) {
	d := req.GetDevice()
	if d == nil {
		return nil, badField("device", "the body is empty: send the fields to change")
	}
	if id := d.GetId(); id != "" && id != req.GetDeviceId() {
		return nil, badField("id", "the body's id is %q, the path's %q: leave it out of the body", id, req.GetDeviceId())
	}
	if err := s.keepsType(ctx, req.GetDeviceId(), d.GetType()); err != nil {
		return nil, err
	}
	manifest, err := s.manifest(ctx, req.GetDeviceId(), d.GetDeploymentManifest())
	if err != nil {
		return nil, err
	}
	update := &eventsv1.DeviceUpdated{DisplayName: d.DisplayName, Template: d.Template, Enabled: d.Enabled, Simulated: d.Simulated}
	if update.Initial, err = s.initial(ctx, d.GetTemplate()); err != nil {
		return nil, err
	}
	if update.Tags, err = tagsJSON(d.GetTags()); err != nil {
		return nil, err
	}
	if len(d.GetOrganizations()) > 0 {
		update.Organizations = &eventsv1.Organizations{Ids: d.GetOrganizations()}
	}
	device, err := s.change(ctx, req.GetDeviceId(), d.GetEtag(), &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Updated{Updated: update}})
	if err != nil || manifest == nil {
		return device, err
	}
	return s.deploy(ctx, req.GetDeviceId(), manifest)
}

func (s *deviceService) DeleteDevice(ctx context.Context, req *apiv1.DeleteDeviceRequest) (*emptypb.Empty, error) {
	_, err := s.change(ctx, req.GetDeviceId(), "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Deleted{Deleted: &eventsv1.DeviceDeleted{}}})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
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
	var err error
	if ev.Precondition, err = precondition(first(ctx, "if-match"), first(ctx, "if-none-match"), bodyTag); err != nil {
		return nil, err
	}
	if ev.Precondition == nil {
		ev.Precondition = otherwise
	}
	return s.identities.change(ctx, id, "", ev)
}

// sign says of an event who wants the change, and which device it is about.
func sign(ctx context.Context, p access.Principal, id string, ev *eventsv1.DeviceEvent) {
	ev.Id, ev.Tenant, ev.Device, ev.Time = eventlog.NewID(), p.Tenant, id, timestamppb.Now()
	ev.Actor = actorOf(ctx, p)
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
	if s.GetEdge() {
		d.Type = []string{typeEdge}
	}
	if len(s.GetTags()) > 0 {
		d.Tags = toStruct(s.GetTags())
	}
	d.DeploymentManifest = toManifest(s)
	return d
}

// typeEdge is the type of a device that runs IoT Edge.
const typeEdge = "iotEdge"

// isEdge reads a device's type.
func isEdge(types []string) (bool, error) {
	for _, t := range types {
		if t != typeEdge {
			return false, badField("type", "type %q is not known: use [%q] for an IoT Edge device, else leave it out", t, typeEdge)
		}
	}
	return len(types) > 0, nil
}

// keepsType checks the type in a patch: it is the device's, or not there.
func (s *deviceService) keepsType(ctx context.Context, id string, types []string) error {
	edge, err := isEdge(types)
	if err != nil || !edge {
		return err
	}
	state, _, err := s.get(ctx, id, "")
	if err == nil && !state.GetEdge() {
		err = badField("type", "a patch does not change the type of a device: PUT the device with it")
	}
	return err
}

// tagsJSON is the tags as an event has them; nil when there are none.
func tagsJSON(tags *structpb.Struct) ([]byte, error) {
	if tags == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(tags.AsMap())
	if err != nil {
		return nil, badField("tags", "the tags are not JSON: %s", err)
	}
	return encoded, nil
}

// toStruct is a section of a state; the fold keeps nothing there but JSON objects.
func toStruct(section []byte) *structpb.Struct {
	s := new(structpb.Struct)
	if len(section) > 0 {
		_ = protojson.Unmarshal(section, s)
	}
	return s
}
