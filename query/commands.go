package query

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/fleetlog/fleetlog/internal/registry"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Times a command may take, in seconds (FEATURES.md PAY-42).
const (
	maxCommandSeconds      = 30
	minResponseSeconds     = 5
	defaultResponseSeconds = 30
)

// commandService has devices do things and waits for their answers.
type commandService struct {
	apiv1.UnimplementedCommandServiceServer
	identities
}

func (s *commandService) RunCommand(ctx context.Context, req *apiv1.RunCommandRequest) (*apiv1.DeviceCommand, error) {
	asked := req.GetCommand()
	requested, err := commandRequest(req)
	if err != nil {
		return nil, err
	}
	state, identity, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	model, err := s.capabilities(state, req.GetModule(), req.GetComponent())
	if err != nil {
		return nil, err
	}
	modeled, err := checkCommand(model, req)
	if err != nil {
		return nil, err
	}
	if modeled.Durable {
		return s.queue(ctx, req, requested.GetMethod())
	}
	if !identity.GetConnection().GetConnected() && asked.GetConnectionTimeout() == 0 {
		return nil, notFound("device %q is not connected: connect it, or wait for it with a connectionTimeout of up to %d seconds", req.GetDeviceId(), maxCommandSeconds)
	}
	p, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	ev := &eventsv1.DeviceEvent{Module: req.GetModule(), Change: &eventsv1.DeviceEvent_CommandRequested{CommandRequested: requested}}
	sign(ctx, p, req.GetDeviceId(), ev)
	answered, err := s.registry.Command(ctx, ev)
	if errors.Is(err, registry.ErrNoAnswer) {
		return nil, status.Error(codes.DeadlineExceeded, err.Error())
	}
	if err != nil {
		return nil, changeFailure(err)
	}
	answerWith(ctx, http.StatusCreated)
	out := &apiv1.DeviceCommand{
		Id: ev.GetId(), ConnectionTimeout: asked.ConnectionTimeout, ResponseTimeout: asked.ResponseTimeout,
		Request: asked.GetRequest(), ResponseCode: proto.Int32(answered.GetStatus()),
	}
	if len(answered.GetPayload()) > 0 {
		out.Response = new(structpb.Value)
		if err := protojson.Unmarshal(answered.GetPayload(), out.Response); err != nil {
			return nil, toStatus(err)
		}
	}
	return out, nil
}

// commandRequest checks what is asked and says until when.
func commandRequest(req *apiv1.RunCommandRequest) (*eventsv1.CommandRequested, error) {
	asked := req.GetCommand()
	if err := checkComponent(req.GetComponent()); err != nil {
		return nil, err
	}
	connect := asked.GetConnectionTimeout()
	if connect < 0 || connect > maxCommandSeconds {
		return nil, badField("connectionTimeout", "connectionTimeout is %d: use 0 to %d seconds", connect, maxCommandSeconds)
	}
	response := int32(defaultResponseSeconds)
	if asked.GetResponseTimeout() != 0 {
		response = asked.GetResponseTimeout()
	}
	if response < minResponseSeconds || response > maxCommandSeconds {
		return nil, badField("responseTimeout", "responseTimeout is %d: use %d to %d seconds", response, minResponseSeconds, maxCommandSeconds)
	}
	method := req.GetCommandName()
	if req.GetComponent() != "" {
		method = req.GetComponent() + "*" + method
	}
	var payload []byte
	if asked.GetRequest() != nil {
		var err error
		if payload, err = json.Marshal(asked.GetRequest().AsInterface()); err != nil {
			return nil, badField("request", "the request is not JSON: %s", err)
		}
	}
	// A device that is connected has a moment to take the command, whatever the
	// caller's patience with one that is not.
	const grace = time.Second
	connectBy := time.Now().Add(time.Duration(connect)*time.Second + grace)
	return &eventsv1.CommandRequested{
		Method: method, Payload: payload, ConnectBy: timestamppb.New(connectBy),
		Deadline: timestamppb.New(connectBy.Add(time.Duration(response) * time.Second)),
	}, nil
}
