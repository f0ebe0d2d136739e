package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// message is one message as the broker delivered it.
type message struct {
	topic     string
	payload   []byte
	packetID  uint16
	qos       byte
	retained  bool
	duplicate bool
	received  time.Time
}

const (
	deviceCapture = "device"
	stage         = "bridge"
	// headerDeadMQTTTopic is the MQTT topic a dead letter came by.
	headerDeadMQTTTopic = "fleetlog-dead-mqtt-topic"
	// registrationTimeout bounds the wait for the fold's decision.
	registrationTimeout = 30 * time.Second
)

// Reasons of dead letters: labels of few values. The record says the rest.
const (
	deadTooLarge = "too_large"
	deadNoRoute  = "no_template"
	deadUnmapped = "unmapped"
	deadDeviceID = "bad_device_id"
	deadUnknown  = "unknown_device"
	deadBlocked  = "device_blocked"
	deadRejected = "registration_rejected"
)

// verdict is what becomes of a message: a record of telemetry, a dead letter
// with its reason, or, without a record, nothing.
type verdict struct {
	record *kgo.Record
	dead   string
}

// refusal is why a message is no telemetry.
type refusal struct{ class, reason string }

// decide says what becomes of a message. An error means that it cannot be said
// now: the message must come again.
func (b *bridge) decide(ctx context.Context, m *message) (verdict, error) {
	event := eventlog.TelemetryEvent{ID: b.ids.id(m), Tenant: access.DefaultTenant, At: m.received, Received: m.received, Payload: m.payload}
	wanted, refused, err := b.fill(ctx, m, &event)
	switch {
	case err != nil:
		return verdict{}, err
	case refused != nil:
		return verdict{record: b.deadLetter(m, event, refused), dead: refused.class}, nil
	case !wanted:
		return verdict{}, nil
	}
	return verdict{record: event.Record(b.log.Name(eventlog.Telemetry))}, nil
}

// fill maps the message into the event and checks its device.
func (b *bridge) fill(ctx context.Context, m *message, event *eventlog.TelemetryEvent) (wanted bool, _ *refusal, _ error) {
	event.Source = "/bridges/" + b.cfg.Name
	if len(m.payload) > maxPayloadBytes {
		event.Payload = m.payload[:maxPayloadBytes]
		return false, &refusal{deadTooLarge, fmt.Sprintf("payload is larger than %d bytes, only its beginning is kept: send less at once", maxPayloadBytes)}, nil
	}
	r, values := b.cfg.route(m.topic)
	if r == nil {
		return false, &refusal{deadNoRoute, "topic fits no template of the bridge: the broker may keep a subscription of an earlier configuration; add a template, or give the bridge another client-id"}, nil
	}
	out, err := r.mapping.apply(m, r.template.captures, values)
	if err != nil {
		return false, &refusal{deadUnmapped, fmt.Sprint(err)}, nil
	}
	if out.skip {
		return false, nil, nil
	}
	if out.id != "" {
		event.ID = out.id
	}
	event.Component, event.Properties, event.At = out.component, out.properties, out.at
	if err := device.ValidateID(out.device); err != nil {
		return false, &refusal{deadDeviceID, fmt.Sprintf("%s; map the topic to an id with the setting `device`", err)}, nil
	}
	event.Device = out.device
	event.Source += "/devices/" + out.device
	refused, err := b.admit(ctx, out.device)
	if refused == nil { // a dead letter keeps the payload as it was
		event.Payload = out.payload
		if out.json {
			event.ContentType = eventlog.ContentTypeJSON
		}
	}
	return true, refused, err
}

// admit checks the device against the registry, and registers it where the
// bridge may.
func (b *bridge) admit(ctx context.Context, id string) (*refusal, error) {
	state := b.devices.Get(access.DefaultTenant, id)
	if state == nil && b.cfg.Register {
		refused, err := b.register(ctx, id)
		if refused != nil || err != nil {
			return refused, err
		}
		state = b.devices.Get(access.DefaultTenant, id)
	}
	switch {
	case state == nil:
		return &refusal{deadUnknown, fmt.Sprintf("device %s is not registered: register it (PUT /api/devices/%s), or set `register: true` on the bridge", id, id)}, nil
	case !state.GetEnabled():
		return &refusal{deadBlocked, fmt.Sprintf("device %s is blocked: enable it (PATCH /api/devices/%s with {\"enabled\":true}) to take its messages again", id, id)}, nil
	}
	return nil, nil //nolint:nilnil // neither refused nor failed
}

// register makes the device known. Somebody else may do the same meanwhile.
func (b *bridge) register(ctx context.Context, id string) (*refusal, error) {
	ctx, cancel := context.WithTimeout(ctx, registrationTimeout)
	defer cancel()
	_, err := b.devices.Change(ctx, &eventsv1.DeviceEvent{
		Id: eventlog.NewID(), Tenant: access.DefaultTenant, Device: id, Time: timestamppb.Now(),
		Precondition: &eventsv1.Precondition{Exists: proto.Bool(false)},
		Change:       &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{Enabled: true}},
	})
	var rejected *registry.RejectedError
	switch {
	case err == nil:
		b.metrics.registered.Inc()
		b.logger.Info("bridge registered a device", "device", id)
		return nil, nil //nolint:nilnil // neither refused nor failed
	case errors.As(err, &rejected) && rejected.Reason == eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS:
		return nil, nil //nolint:nilnil // neither refused nor failed
	case errors.As(err, &rejected):
		return &refusal{deadRejected, fmt.Sprintf("device %s cannot be registered: %s", id, rejected.Message)}, nil
	}
	return nil, fmt.Errorf("register device %s: %w", id, err)
}

// deadLetter is the message as it came. Its origin is the telemetry topic at
// offset -1, where it would have gone and never was. Without a device it has no
// key.
func (b *bridge) deadLetter(m *message, event eventlog.TelemetryEvent, why *refusal) *kgo.Record {
	origin := event.Record(b.log.Name(eventlog.Telemetry))
	origin.Offset = -1
	if event.Device == "" {
		origin.Key = nil
	}
	origin.Headers = append(origin.Headers, kgo.RecordHeader{Key: headerDeadMQTTTopic, Value: []byte(m.topic)})
	return b.log.DeadLetterRecord(origin, stage, fmt.Sprintf("bridge %s: %s", b.cfg.Name, why.reason))
}
