package device

import (
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Exists reports whether the state is that of a device there is.
func Exists(s *eventsv1.DeviceState) bool { return s.GetVersion() > 0 && !s.GetDeleted() }

// Apply folds one event into a device's state (nil: never existed) and says
// what became of it. A rejected event leaves the state as it was. The state
// passed in is never changed, so that readers may hold on to it.
func Apply(state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) (*eventsv1.DeviceState, *eventsv1.Outcome) {
	return ApplyTo(new(eventsv1.DeviceState), state, ev)
}

// ApplyTo is Apply that writes the new state over next, which nobody may be reading,
// instead of into new memory.
func ApplyTo(next, state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) (*eventsv1.DeviceState, *eventsv1.Outcome) {
	outcome, refusal := accept(next, state, ev)
	if refusal != nil {
		return state, &eventsv1.Outcome{EventId: ev.GetId(), Version: state.GetVersion(), Rejection: refusal}
	}
	return next, outcome
}

func accept(next, state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) (*eventsv1.Outcome, *eventsv1.Rejection) {
	if r := refuse(state, ev); r != nil {
		return nil, r
	}
	shallow(next, state)
	next.Tenant, next.Device, next.Revision = ev.GetTenant(), ev.GetDevice(), state.GetRevision()+1
	outcome := &eventsv1.Outcome{EventId: ev.GetId()}
	if r := change(next, ev, outcome); r != nil {
		return nil, r
	}
	expire(next, ev.GetTime().AsTime(), outcome)
	outcome.Version = next.GetVersion()
	return outcome, nil
}

// change applies what the event says to a copy of the state that is its own.
func change(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, outcome *eventsv1.Outcome) *eventsv1.Rejection {
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Registered:
		if r := register(next, ev, c.Registered); r != nil {
			return r
		}
	case *eventsv1.DeviceEvent_Updated:
		if r := update(next, ev, c.Updated); r != nil {
			return r
		}
	case *eventsv1.DeviceEvent_Deleted:
		remove(next)
	case *eventsv1.DeviceEvent_Provisioned, *eventsv1.DeviceEvent_Approved, *eventsv1.DeviceEvent_AttestationSet, *eventsv1.DeviceEvent_AttestationRemoved:
		attest(next, ev)
	case *eventsv1.DeviceEvent_DeploymentApplied:
		if r := deploy(next, ev, c.DeploymentApplied); r != nil {
			return r
		}
	case *eventsv1.DeviceEvent_ModuleRegistered:
		return registerModule(next, ev.GetModule())
	case *eventsv1.DeviceEvent_ModuleDeleted:
		return removeModule(next, ev.GetModule())
	case *eventsv1.DeviceEvent_ParentAssigned:
		assignParent(next, c.ParentAssigned)
		return nil
	case *eventsv1.DeviceEvent_Connected:
		return connectDevice(next, ev, c.Connected)
	default:
		identity := own(next, ev.GetModule())
		if identity == nil {
			return noModule(ev.GetDevice(), ev.GetModule())
		}
		if p := ev.GetPropertiesDesired(); p != nil {
			return setProperties(next, identity, ev, p)
		}
		return changeIdentity(identity, ev, outcome)
	}
	next.Version, next.UpdatedAt = next.GetVersion()+1, ev.GetTime()
	return nil
}

// changeIdentity applies a change of one identity to a copy that is its own.
func changeIdentity(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, outcome *eventsv1.Outcome) *eventsv1.Rejection {
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Disconnected:
		return disconnect(i, ev, c.Disconnected)
	case *eventsv1.DeviceEvent_SubscriptionsKept:
		return keepSubscriptions(i, ev, c.SubscriptionsKept)
	case *eventsv1.DeviceEvent_PropertiesReported:
		return report(i, ev, c.PropertiesReported)
	case *eventsv1.DeviceEvent_CommandRequested:
		return request(i, ev, c.CommandRequested)
	case *eventsv1.DeviceEvent_CommandAnswered:
		return answer(i, ev, c.CommandAnswered, outcome)
	case *eventsv1.DeviceEvent_CommandExpired:
		return giveUp(i, ev, c.CommandExpired, outcome)
	case *eventsv1.DeviceEvent_MessageEnqueued:
		return enqueue(i, ev, c.MessageEnqueued)
	case *eventsv1.DeviceEvent_MessageLocked:
		return lock(i, ev, c.MessageLocked)
	case *eventsv1.DeviceEvent_MessageSettled:
		return settle(i, c.MessageSettled)
	case *eventsv1.DeviceEvent_MessagesPurged:
		i.Messages = nil
		return nil
	case *eventsv1.DeviceEvent_FileUploaded:
		return nil
	}
	return rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "event carries no change this version knows")
}

// shallow makes next a copy of the state that shares what hangs on it.
func shallow(next, s *eventsv1.DeviceState) {
	*next = eventsv1.DeviceState{
		Tenant: s.GetTenant(), Device: s.GetDevice(), Version: s.GetVersion(), Deleted: s.GetDeleted(),
		DisplayName: s.GetDisplayName(), Template: s.GetTemplate(), Enabled: s.GetEnabled(), Simulated: s.GetSimulated(),
		Provisioned: s.GetProvisioned(), Organizations: s.GetOrganizations(),
		RegisteredAt: s.GetRegisteredAt(), UpdatedAt: s.GetUpdatedAt(),
		EnrollmentGroup: s.GetEnrollmentGroup(), Attestation: s.GetAttestation(), ModelId: s.GetModelId(),
		Waiting: s.GetWaiting(), BlockedWhileWaiting: s.GetBlockedWhileWaiting(),
		ProvisionedAt: s.GetProvisionedAt(), ReprovisionedAt: s.GetReprovisionedAt(),
		Revision: s.GetRevision(), Self: s.GetSelf(), Modules: s.GetModules(),
		Parent: s.GetParent(), Relationship: s.GetRelationship(),
		Cloud: s.GetCloud(), CloudVersion: s.GetCloudVersion(), CloudStamps: s.GetCloudStamps(), CloudDates: s.GetCloudDates(),
		Tags: s.GetTags(), Edge: s.GetEdge(), Deployment: s.GetDeployment(),
	}
}

// remove leaves what must outlive a device: its counters.
func remove(next *eventsv1.DeviceState) {
	*next = eventsv1.DeviceState{
		Tenant: next.GetTenant(), Device: next.GetDevice(), Version: next.GetVersion(), Revision: next.GetRevision(), Deleted: true,
	}
}

func register(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, r *eventsv1.DeviceRegistered) *eventsv1.Rejection {
	if !Exists(next) {
		next.RegisteredAt, next.Deleted = ev.GetTime(), false
	}
	next.DisplayName = r.GetDisplayName()
	if next.DisplayName == "" {
		next.DisplayName = ev.GetDevice()
	}
	next.Template, next.Simulated, next.Edge = r.GetTemplate(), r.GetSimulated(), r.GetEdge()
	next.Organizations = r.GetOrganizations()
	enable(next, r.GetEnabled())
	next.Tags = nil
	if len(r.GetTags()) > 0 {
		if refusal := tag(next, r.GetTags()); refusal != nil {
			return refusal
		}
	}
	return initialize(next, r.GetInitial(), ev.GetTime())
}

func update(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, u *eventsv1.DeviceUpdated) *eventsv1.Rejection {
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
	if u.Tags != nil {
		if refusal := tag(next, u.GetTags()); refusal != nil {
			return refusal
		}
	}
	return initialize(next, u.GetInitial(), ev.GetTime())
}

// refuse gives the reason an event is not accepted, nil when it is.
func refuse(state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) *eventsv1.Rejection {
	if err := validateUnread(ev); err != nil {
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
	if err := validateUnread(ev); err != nil {
		return err
	}
	if reported := ev.GetPropertiesReported(); reported != nil {
		return validatePatch(reported.GetPatch())
	}
	return nil
}

// validateUnread leaves out the one thing that the fold reads itself, and as often as
// all others together: reported properties.
func validateUnread(ev *eventsv1.DeviceEvent) error {
	if ev.GetId() == "" || ev.GetTenant() == "" || ev.GetTime() == nil {
		return fmt.Errorf("event lacks an id, a tenant or a time")
	}
	if err := ValidateID(ev.GetDevice()); err != nil {
		return err
	}
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Registered:
		r := c.Registered
		return validateFields(r.GetDisplayName(), r.GetTemplate(), r.GetOrganizations(), r.GetTags(), r.GetInitial())
	case *eventsv1.DeviceEvent_Updated:
		u := c.Updated
		return validateFields(u.GetDisplayName(), u.GetTemplate(), u.GetOrganizations().GetIds(), u.GetTags(), u.GetInitial())
	case *eventsv1.DeviceEvent_Deleted:
		return nil
	case *eventsv1.DeviceEvent_ModuleRegistered, *eventsv1.DeviceEvent_ModuleDeleted:
		return ValidateModuleID(ev.GetModule())
	case *eventsv1.DeviceEvent_ParentAssigned:
		return validateParent(ev.GetDevice(), c.ParentAssigned)
	case *eventsv1.DeviceEvent_DeploymentApplied:
		return validateDeployment(c.DeploymentApplied)
	default:
		if ev.GetModule() != "" {
			if err := ValidateModuleID(ev.GetModule()); err != nil {
				return err
			}
		}
		return validateIdentityChange(ev)
	}
}

func validateIdentityChange(ev *eventsv1.DeviceEvent) error {
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Connected:
		return validateConnected(c.Connected)
	case *eventsv1.DeviceEvent_Disconnected:
		return validateConnectionID(c.Disconnected.GetConnection())
	case *eventsv1.DeviceEvent_FileUploaded:
		return validateUpload(c.FileUploaded)
	case *eventsv1.DeviceEvent_SubscriptionsKept:
		return validateSubscriptions(c.SubscriptionsKept)
	case *eventsv1.DeviceEvent_PropertiesDesired:
		return validateSetProperties(c.PropertiesDesired)
	case *eventsv1.DeviceEvent_PropertiesReported:
		return nil
	case *eventsv1.DeviceEvent_CommandRequested:
		return validateRequest(c.CommandRequested)
	case *eventsv1.DeviceEvent_CommandAnswered:
		return validateCommandPayload(c.CommandAnswered.GetPayload())
	case *eventsv1.DeviceEvent_MessageEnqueued:
		return validateMessage(c.MessageEnqueued)
	case *eventsv1.DeviceEvent_MessageLocked:
		return validateLock(c.MessageLocked)
	case *eventsv1.DeviceEvent_CommandExpired, *eventsv1.DeviceEvent_MessageSettled, *eventsv1.DeviceEvent_MessagesPurged:
		return nil
	default:
		return validateAttest(ev)
	}
}

func validateFields(displayName, template string, organizations []string, tags, initial []byte) error {
	for _, err := range []error{
		validateDisplayName(displayName), validateTemplate(template), validateOrganizations(organizations), validateTags(tags), validateInitial(initial),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}
