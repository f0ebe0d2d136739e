package device

import (
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// Exists reports whether the state is that of a device there is.
func Exists(s *eventsv1.DeviceState) bool { return s.GetVersion() > 0 && !s.GetDeleted() }

// Apply folds one event into a device's state (nil: never existed) and says
// what became of it. A rejected event leaves the state as it was. The state
// passed in is never changed, so that readers may hold on to it.
func Apply(state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) (*eventsv1.DeviceState, *eventsv1.Outcome) {
	if r := refuse(state, ev); r != nil {
		return state, &eventsv1.Outcome{EventId: ev.GetId(), Version: state.GetVersion(), Rejection: r}
	}
	next := &eventsv1.DeviceState{Tenant: ev.GetTenant(), Device: ev.GetDevice(), Version: state.GetVersion() + 1, UpdatedAt: ev.GetTime()}
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Registered:
		register(next, state, ev, c.Registered)
	case *eventsv1.DeviceEvent_Updated:
		next = proto.CloneOf(state)
		next.Version, next.UpdatedAt = state.GetVersion()+1, ev.GetTime()
		update(next, c.Updated)
	case *eventsv1.DeviceEvent_Deleted:
		next.Deleted = true
	default:
		next = attest(next, state, ev)
	}
	return next, &eventsv1.Outcome{EventId: ev.GetId(), Version: next.GetVersion()}
}

func register(next, before *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, r *eventsv1.DeviceRegistered) {
	next.DisplayName = r.GetDisplayName()
	if next.DisplayName == "" {
		next.DisplayName = ev.GetDevice()
	}
	next.Template, next.Simulated = r.GetTemplate(), r.GetSimulated()
	next.Organizations = r.GetOrganizations()
	next.RegisteredAt = ev.GetTime()
	if Exists(before) {
		next.RegisteredAt, next.Provisioned = before.GetRegisteredAt(), before.GetProvisioned()
		keepProvisioning(next, before)
	}
	enable(next, r.GetEnabled())
}

func update(next *eventsv1.DeviceState, u *eventsv1.DeviceUpdated) {
	if u.DisplayName != nil {
		next.DisplayName = u.GetDisplayName()
	}
	if u.Template != nil {
		next.Template = u.GetTemplate()
	}
	if u.Enabled != nil {
		enable(next, u.GetEnabled())
	}
	if u.Simulated != nil {
		next.Simulated = u.GetSimulated()
	}
	if u.Organizations != nil {
		next.Organizations = u.GetOrganizations().GetIds()
	}
}

// refuse gives the reason an event is not accepted, nil when it is.
func refuse(state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) *eventsv1.Rejection {
	if err := Validate(ev); err != nil {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "%s", err)
	}
	exists, id := Exists(state), ev.GetDevice()
	_, registers := ev.GetChange().(*eventsv1.DeviceEvent_Registered)
	if !exists && !registers && !ev.GetProvisioned().GetCreates() {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND, "device %q does not exist", id)
	}
	p := ev.GetPrecondition()
	if p.GetVersion() != 0 && (!exists || p.GetVersion() != state.GetVersion()) {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH, "device %q has changed since it was read: read it again and repeat the change with its new etag", id)
	}
	switch {
	case p == nil || p.Exists == nil:
	case p.GetExists() && !exists:
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH, "device %q does not exist", id)
	case !p.GetExists() && exists:
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS, "device %q already exists", id)
	}
	return refuseAttest(state, ev)
}

func rejection(reason eventsv1.RejectionReason, format string, args ...any) *eventsv1.Rejection {
	return &eventsv1.Rejection{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Validate checks an event by itself, without the state it meets. The fold
// applies it to every event; an API call applies it first, so that nonsense is
// answered at once and does not reach the log.
func Validate(ev *eventsv1.DeviceEvent) error {
	if ev.GetId() == "" || ev.GetTenant() == "" || ev.GetTime() == nil {
		return fmt.Errorf("event lacks an id, a tenant or a time")
	}
	if err := ValidateID(ev.GetDevice()); err != nil {
		return err
	}
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Registered:
		return validateFields(c.Registered.GetDisplayName(), c.Registered.GetTemplate(), c.Registered.GetOrganizations())
	case *eventsv1.DeviceEvent_Updated:
		return validateFields(c.Updated.GetDisplayName(), c.Updated.GetTemplate(), c.Updated.GetOrganizations().GetIds())
	case *eventsv1.DeviceEvent_Deleted:
		return nil
	default:
		return validateAttest(ev)
	}
}

func validateFields(displayName, template string, organizations []string) error {
	if err := validateDisplayName(displayName); err != nil {
		return err
	}
	if err := validateTemplate(template); err != nil {
		return err
	}
	return validateOrganizations(organizations)
}
