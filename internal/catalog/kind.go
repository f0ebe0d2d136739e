package catalog

import (
	"fmt"
	"regexp"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// Kind says what there is to know about one kind of resource. Every node must
// know the same kinds by the same rules.
type Kind struct {
	// Name is the kind's as its REST path has it, `enrollmentGroups`.
	Name string
	// Noun names one resource to a person, `enrollment group`.
	Noun string
	// Body is the event's body if it is of this kind, else nil.
	Body func(*eventsv1.CatalogEvent) proto.Message
	// Builtin are the resources that every tenant has from the start, by id. They
	// can be changed but not deleted.
	Builtin map[string]proto.Message
	// Validate checks a body by itself.
	Validate func(tenant, id string, body proto.Message) error
	// Admit checks a body against the other resources of its tenant, in the
	// fold; nil when there is nothing to check. It must be pure.
	Admit func(others View, tenant, id string, body proto.Message) error
	// Release checks a deletion against the other resources, as Admit does.
	Release func(others View, tenant, id string) error
}

// View reads resources.
type View interface {
	// Get is the resource; nil when there is none.
	Get(tenant, kind, id string) *Resource
	// List is up to limit resources whose ids sort after the given one.
	List(tenant, kind, after string, limit int) []*Resource
	// Count is how many there are, without those that every tenant has.
	Count(tenant, kind string) int
}

// Resource is one resource of the catalog. It is shared and must not be changed.
type Resource struct {
	Tenant, Kind, ID string
	// Version counts accepted events; a built-in resource begins at 1.
	Version              uint64
	Body                 proto.Message // nil: deleted
	CreatedAt, UpdatedAt time.Time     // zero for a built-in resource nobody has changed
}

// exists reports whether the resource is one there is.
func (r *Resource) exists() bool { return r != nil && r.Body != nil }

// BodyOf is what the event makes of its resource; nil for a deletion.
func BodyOf(ev *eventsv1.CatalogEvent) proto.Message {
	m := ev.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("change"))
	if field == nil || ev.GetDeleted() != nil {
		return nil
	}
	return m.Get(field).Message().Interface()
}

// maxBodyBytes bounds a resource.
const maxBodyBytes = 512 << 10

// idPattern is IoT Central's for most resources (AUTH-04); device templates'
// ids hold more.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9\-._:;]{1,255}$`)

// RejectedError is the fold's refusal of a change.
type RejectedError struct {
	Reason  eventsv1.RejectionReason
	Message string
}

func (e *RejectedError) Error() string { return e.Message }

func reject(reason eventsv1.RejectionReason, format string, args ...any) *RejectedError {
	return &RejectedError{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// validate checks an event by itself, without the state it meets.
func (k Kind) validate(ev *eventsv1.CatalogEvent) *RejectedError {
	const invalid = eventsv1.RejectionReason_REJECTION_REASON_INVALID
	if ev.GetId() == "" || ev.GetTenant() == "" || ev.GetTime() == nil {
		return reject(invalid, "event lacks an id, a tenant or a time")
	}
	if !idPattern.MatchString(ev.GetResource()) {
		return reject(invalid, "the id of the %s is not valid: use 1 to 255 letters, digits and '-'", k.Noun)
	}
	if ev.GetDeleted() != nil {
		return nil
	}
	body := k.Body(ev)
	if body == nil {
		return reject(invalid, "event carries no %s", k.Noun)
	}
	if n := proto.Size(body); n > maxBodyBytes {
		return reject(invalid, "the %s has %d bytes: use at most %d", k.Noun, n, maxBodyBytes)
	}
	if err := k.Validate(ev.GetTenant(), ev.GetResource(), body); err != nil {
		return reject(invalid, "%s", err)
	}
	return nil
}

// apply folds one event into a resource (nil: never existed). A refused event
// leaves it as it was.
func (k Kind) apply(others View, before *Resource, ev *eventsv1.CatalogEvent) (*Resource, *RejectedError) {
	if r := k.refuse(others, before, ev); r != nil {
		return before, r
	}
	at := ev.GetTime().AsTime()
	next := &Resource{Tenant: ev.GetTenant(), Kind: k.Name, ID: ev.GetResource(), Version: 1, CreatedAt: at, UpdatedAt: at}
	if before != nil {
		next.Version = before.Version + 1
	}
	if before.exists() {
		next.CreatedAt = before.CreatedAt
	}
	if ev.GetDeleted() == nil {
		next.Body = k.Body(ev)
	}
	return next, nil
}

func (k Kind) refuse(others View, before *Resource, ev *eventsv1.CatalogEvent) *RejectedError {
	if r := k.validate(ev); r != nil {
		return r
	}
	const (
		mismatch = eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH
		notFound = eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND
		conflict = eventsv1.RejectionReason_REJECTION_REASON_CONFLICT
	)
	exists, id, p := before.exists(), ev.GetResource(), ev.GetPrecondition()
	switch {
	case ev.GetDeleted() != nil && !exists:
		return reject(notFound, "%s %q does not exist", k.Noun, id)
	case p.GetVersion() != 0 && (!exists || p.GetVersion() != before.Version):
		return reject(mismatch, "%s %q has changed since it was read: read it again and repeat the change with its new etag", k.Noun, id)
	case p != nil && p.Exists != nil && p.GetExists() && !exists:
		return reject(mismatch, "%s %q does not exist", k.Noun, id)
	case p != nil && p.Exists != nil && !p.GetExists() && exists:
		return reject(eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS, "%s %q already exists", k.Noun, id)
	}
	if ev.GetDeleted() != nil {
		if _, builtin := k.Builtin[id]; builtin {
			return reject(conflict, "%s %q cannot be deleted: every tenant has it; disable it instead", k.Noun, id)
		}
		if k.Release != nil {
			if err := k.Release(others, ev.GetTenant(), id); err != nil {
				return reject(conflict, "%s", err)
			}
		}
		return nil
	}
	if k.Admit != nil {
		if err := k.Admit(others, ev.GetTenant(), id, k.Body(ev)); err != nil {
			return reject(conflict, "%s", err)
		}
	}
	return nil
}
