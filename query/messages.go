package query

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// messageService keeps the queues of cloud-to-device messages.
type messageService struct {
	apiv1.UnimplementedMessageServiceServer
	identities
}

func (s *messageService) EnqueueMessage(ctx context.Context, req *apiv1.EnqueueMessageRequest) (*apiv1.CloudToDeviceMessage, error) {
	enqueued, err := toEnqueued(req.GetMessage(), time.Now())
	if err != nil {
		return nil, err
	}
	ev := &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: enqueued}}
	if _, err := s.change(ctx, req.GetDeviceId(), req.GetModule(), ev); err != nil {
		return nil, err
	}
	answerWith(ctx, http.StatusAccepted)
	return toMessage(&eventsv1.CloudMessage{Id: ev.GetId(), Message: enqueued, EnqueuedAt: ev.GetTime()}), nil
}

func (s *messageService) ListMessages(ctx context.Context, req *apiv1.ListMessagesRequest) (*apiv1.ListMessagesResponse, error) {
	_, identity, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListMessagesResponse{}
	for _, m := range identity.GetMessages() {
		if !device.MessageOver(m, time.Now()) {
			out.Value = append(out.Value, toMessage(m))
		}
	}
	return out, nil
}

func (s *messageService) PurgeMessages(ctx context.Context, req *apiv1.PurgeMessagesRequest) (*apiv1.PurgeMessagesResponse, error) {
	_, before, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	ev := &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_MessagesPurged{MessagesPurged: &eventsv1.MessagesPurged{}}}
	if _, err := s.change(ctx, req.GetDeviceId(), req.GetModule(), ev); err != nil {
		return nil, err
	}
	return &apiv1.PurgeMessagesResponse{TotalMessagesPurged: int32(len(before.GetMessages())), DeviceId: req.GetDeviceId()}, nil
}

func toEnqueued(m *apiv1.CloudToDeviceMessage, at time.Time) (*eventsv1.MessageEnqueued, error) {
	if m == nil {
		return nil, badField("message", "the body is empty: send at least a payload")
	}
	body := m.GetBody()
	if m.GetPayload() != nil {
		if len(body) > 0 {
			return nil, badField("body", "payload and body are both there: send one")
		}
		var err error
		if body, err = payloadBytes(m.GetPayload()); err != nil {
			return nil, err
		}
	}
	expires := at.Add(device.DefaultMessageLife)
	if m.GetExpires() != nil {
		expires = m.GetExpires().AsTime()
	}
	if !expires.After(at) || expires.Sub(at) > device.MaxMessageLife {
		return nil, badField("expires", "expires is %s: choose a time within the next %s", expires.Format(time.RFC3339), device.MaxMessageLife)
	}
	out := &eventsv1.MessageEnqueued{
		Body: body, MessageId: m.GetMessageId(), CorrelationId: m.GetCorrelationId(),
		ContentType: m.GetContentType(), ContentEncoding: m.GetContentEncoding(), Expires: timestamppb.New(expires), Ack: "none",
	}
	for _, key := range slices.Sorted(maps.Keys(m.GetProperties())) {
		out.Properties = append(out.Properties, &eventsv1.MessageProperty{Key: key, Value: proto.String(m.GetProperties()[key])})
	}
	return out, nil
}

func payloadBytes(v *structpb.Value) ([]byte, error) {
	if text, ok := v.GetKind().(*structpb.Value_StringValue); ok {
		return []byte(text.StringValue), nil
	}
	body, err := json.Marshal(v.AsInterface())
	if err != nil {
		return nil, badField("payload", "the payload is not JSON: %s", err)
	}
	return body, nil
}

func toMessage(m *eventsv1.CloudMessage) *apiv1.CloudToDeviceMessage {
	sent := m.GetMessage()
	out := &apiv1.CloudToDeviceMessage{
		Id: m.GetId(), Body: sent.GetBody(), MessageId: sent.GetMessageId(), CorrelationId: sent.GetCorrelationId(),
		ContentType: sent.GetContentType(), ContentEncoding: sent.GetContentEncoding(), Expires: sent.GetExpires(),
		Enqueued: m.GetEnqueuedAt(), DeliveryCount: m.GetDeliveryCount(), Properties: map[string]string{},
	}
	for _, p := range sent.GetProperties() {
		out.Properties[p.GetKey()] = p.GetValue()
	}
	return out
}
