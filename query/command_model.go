package query

import (
	"context"
	"net/http"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// checkCommand is the command as the model has it, its request checked. Without a
// model there may be any command, with any request (FEATURES.md PAY-47).
func checkCommand(model *dtdl.Interface, req *apiv1.RunCommandRequest) (*dtdl.Content, error) {
	if model == nil {
		return &dtdl.Content{}, nil
	}
	c := model.Find(dtdl.Command, req.GetCommandName())
	if c == nil {
		return nil, notFound("the device's template has no command %q%s", req.GetCommandName(), those(model, dtdl.Command))
	}
	given := req.GetCommand().GetRequest().AsInterface()
	switch {
	case c.Request == nil && given != nil:
		return nil, badField("request", "command %q takes no request: leave it out", c.Name)
	case c.Request == nil, given == nil && c.Request.Nullable:
		return c, nil
	case given == nil:
		return nil, badField("request", "command %q needs a request: send %q, as %s", c.Name, c.Request.Name, c.Request.Schema.Kind)
	}
	problems := c.Request.Schema.Check(given)
	if len(problems) == 0 {
		return c, nil
	}
	failure := &errdetails.BadRequest{}
	for _, p := range problems {
		failure.FieldViolations = append(failure.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: p.Of("request"), Description: p.Of("request") + ": " + p.Message})
	}
	return nil, detailed(codes.InvalidArgument, failure.GetFieldViolations()[0].GetDescription(), failure)
}

// Commands that wait for a device that is offline are messages to it (FEATURES.md
// PAY-44).
const (
	methodProperty = "method-name"
	queuedLife     = 24 * time.Hour
)

// queue sends a command as a message: nobody waits for the device, which gives no
// answer.
func (s *commandService) queue(ctx context.Context, req *apiv1.RunCommandRequest, method string) (*apiv1.DeviceCommand, error) {
	body := []byte(noParameter)
	if given := req.GetCommand().GetRequest(); given.AsInterface() != nil {
		var err error
		if body, err = payloadBytes(given); err != nil {
			return nil, err
		}
	}
	ev := &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{
		Body: body, Properties: []*eventsv1.MessageProperty{{Key: methodProperty, Value: proto.String(method)}},
		Expires: timestamppb.New(time.Now().Add(queuedLife)), Ack: "none",
	}}}
	if _, err := s.change(ctx, req.GetDeviceId(), req.GetModule(), ev); err != nil {
		return nil, err
	}
	answerWith(ctx, http.StatusCreated)
	asked := req.GetCommand()
	return &apiv1.DeviceCommand{
		Id: ev.GetId(), ConnectionTimeout: asked.ConnectionTimeout, ResponseTimeout: asked.ResponseTimeout, Request: asked.GetRequest(), //nolint:protogetter // not given is not zero
	}, nil
}
