// Package provisioning is the device provisioning service (DPS) whatever the
// protocol: a device that shows a good credential is registered, or registers
// itself, and learns which host to connect to (FEATURES.md PROV-01..PROV-14).
//
// In go an id scope, a registration id, a credential and a JSON body; out come
// the status and the JSON body that Azure's device SDKs expect. http.go speaks
// HTTPS, the MQTT gateway speaks MQTT. A registration is an event on the log; one
// that changes nothing is answered from the node's view and leaves no event.
// An operation is nothing but the device's present state, so that a device may
// ask any node about it.
package provisioning

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// RetryAfter is when a device asks again what became of its registration.
const RetryAfter = time.Second

// changeTimeout bounds how long a registration waits for the fold's decision.
const changeTimeout = 10 * time.Second

// forgetAfter is when an operation that has led to nothing, because the device
// was deleted meanwhile, is no more.
const forgetAfter = 30 * time.Second

// Registrar registers devices. It is safe for concurrent use.
type Registrar struct {
	gate      *deviceauth.Gate
	devices   *registry.Registry
	templates *template.Templates
	scopes    map[string]string // tenant by id scope
	logger    *slog.Logger
}

// New makes a registrar over the node's views.
func New(gate *deviceauth.Gate, devices *registry.Registry, templates *template.Templates, keys *device.MasterKey, logger *slog.Logger) *Registrar {
	// One tenant until tenants have host names of their own.
	scopes := map[string]string{keys.IDScope(access.DefaultTenant): access.DefaultTenant}
	return &Registrar{gate: gate, devices: devices, templates: templates, scopes: scopes, logger: logger}
}

// Authenticate decides whether the credential may register the id. The error is
// a [*Fault].
func (r *Registrar) Authenticate(idScope, registrationID string, cred deviceauth.Credential) (deviceauth.Registrant, error) {
	if err := r.gate.Ready(); err != nil {
		return deviceauth.Registrant{}, faultNotReady.because(err)
	}
	tenant, known := r.scopes[idScope]
	if !known {
		return deviceauth.Registrant{}, faultScope
	}
	if err := device.ValidateID(registrationID); err != nil {
		return deviceauth.Registrant{}, faultRegistrationID.because(err)
	}
	registrant, err := r.gate.Register(tenant, idScope, registrationID, cred, time.Now())
	if err != nil {
		return deviceauth.Registrant{}, faultUnauthorized.because(err)
	}
	return registrant, nil
}

// Register takes a registration and says under which operation the device learns
// what became of it. The error is a [*Fault].
func (r *Registrar) Register(ctx context.Context, who deviceauth.Registrant, body []byte) (Operation, error) {
	req, err := parseRequest(who.ID, body)
	if err != nil {
		return Operation{}, err
	}
	ev := &eventsv1.DeviceProvisioned{ModelId: req.modelID}
	if t := r.templates.ByModel(who.Tenant, req.modelID); t != nil {
		ev.Template, ev.Initial = t.ID, t.Initial()
	}
	if who.Group != nil {
		ev.EnrollmentGroup, ev.Creates, ev.AutoApprove = who.Group.ID, true, who.Group.GetAutoApprove()
	}
	id := eventlog.NewID()
	assigning := Operation{ID: operationID(id), Status: StatusAssigning}
	if !r.changes(r.devices.Get(who.Tenant, who.ID), ev) {
		return assigning, nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err = r.devices.Change(ctx, &eventsv1.DeviceEvent{
		Id: id, Tenant: who.Tenant, Device: who.ID, Time: timestamppb.Now(),
		Actor:  &eventsv1.Actor{Principal: "device:" + who.ID, RequestId: id},
		Change: &eventsv1.DeviceEvent_Provisioned{Provisioned: ev},
	})
	var rejected *registry.RejectedError
	switch {
	case err == nil:
		return assigning, nil
	case errors.As(err, &rejected) && rejected.Reason == eventsv1.RejectionReason_REJECTION_REASON_INVALID:
		return Operation{}, faultBody.because(err)
	case errors.As(err, &rejected):
		return assigning, nil // blocked meanwhile: the operation says so
	}
	r.logger.Warn("registration is not decided, the device tries again", "device", who.ID, "error", err)
	return Operation{}, faultUnavailable.because(err)
}

// changes reports whether a registration would change the device. Devices
// register at every boot; only what is new is worth an event. One that is blocked
// or waits changes nothing either.
func (r *Registrar) changes(state *eventsv1.DeviceState, ev *eventsv1.DeviceProvisioned) bool {
	switch {
	case state == nil:
		return ev.GetCreates()
	case !state.GetEnabled():
		return false
	}
	return !state.GetProvisioned() || state.GetEnrollmentGroup() != ev.GetEnrollmentGroup() ||
		ev.GetModelId() != "" && state.GetModelId() != ev.GetModelId() ||
		ev.GetTemplate() != "" && state.GetTemplate() == ""
}

// Operation says what has become of a registration. The hub is the host name
// that a device is told to connect to. The error is a [*Fault].
func (r *Registrar) Operation(who deviceauth.Registrant, hub, operation string) (Operation, error) {
	at, ok := begun(operation)
	if !ok {
		return Operation{}, faultOperation
	}
	state := r.devices.Get(who.Tenant, who.ID)
	if state == nil || state.GetEnabled() && !state.GetProvisioned() {
		if time.Since(at) > forgetAfter {
			return Operation{}, faultOperation
		}
		return Operation{ID: operation, Status: StatusAssigning}, nil // another node took it, and ours is about to hear of it
	}
	registration := registrationState(who, state, hub)
	return Operation{ID: operation, Status: registration.Status, Registration: registration}, nil
}

// Registration is what a device's look-up of its registration answers. The error
// is a [*Fault].
func (r *Registrar) Registration(who deviceauth.Registrant, hub string) (*Registration, error) {
	state := r.devices.Get(who.Tenant, who.ID)
	if state == nil || state.GetEnabled() && !state.GetProvisioned() {
		return nil, faultRegistration
	}
	return registrationState(who, state, hub), nil
}
