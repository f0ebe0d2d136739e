package query

import (
	"context"
	"errors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	defaultResourcesPage = 100
	maxResourcesPage     = 1000
	// maxEdits bounds how often an edit is built anew because another one came
	// before it.
	maxEdits = 5
)

// resources reads and changes one kind of the catalog for callers.
type resources struct {
	catalog   *catalog.Catalog
	directory *access.Directory
	kind      string
	noun      string
	// timeout bounds how long a change waits for the fold's decision.
	timeout time.Duration
}

// reader is the caller, once there is something to read.
func (s *resources) reader(ctx context.Context) (access.Principal, error) {
	p, err := access.FromContext(ctx)
	if err == nil {
		err = s.catalog.Ready()
	}
	return p, toStatus(err)
}

func (s *resources) get(ctx context.Context, id string) (*catalog.Resource, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	r := s.catalog.Get(p.Tenant, s.kind, id)
	if r == nil || !visible(ctx, r) {
		return nil, notFound("%s %q does not exist", s.noun, id)
	}
	return r, nil
}

// list is one page, and how the caller gets the next.
func (s *resources) list(ctx context.Context, maxPageSize int32, token string) (page []*catalog.Resource, link, next *string, err error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	size, err := pageSize(maxPageSize, defaultResourcesPage, maxResourcesPage)
	if err != nil {
		return nil, nil, nil, err
	}
	after, err := decodeToken[devicesToken](token)
	if err != nil {
		return nil, nil, nil, err
	}
	page = s.page(ctx, p.Tenant, after.After, size+1)
	if len(page) > size {
		page = page[:size]
		link, next = nextPage(ctx, encodeToken(devicesToken{After: page[size-1].ID}))
	}
	return page, link, next, nil
}

// page is up to n resources of the caller's, behind the id.
func (s *resources) page(ctx context.Context, tenant, after string, n int) (page []*catalog.Resource) {
	for len(page) < n {
		more := s.catalog.List(tenant, s.kind, after, maxResourcesPage)
		for _, r := range more {
			if after = r.ID; visible(ctx, r) && len(page) < n {
				page = append(page, r)
			}
		}
		if len(more) < maxResourcesPage {
			break
		}
	}
	return page
}

// placedBody is a resource that is in organizations.
type placedBody interface{ GetOrganizations() []string }

// visible reports whether the caller's scope has the resource. A kind without
// organizations is everybody's who has its permission.
func visible(ctx context.Context, r *catalog.Resource) bool {
	switch body := r.Body.(type) {
	case placedBody:
		return access.ScopeOf(ctx).Has(body.GetOrganizations())
	case holder:
		return overlaps(access.ScopeOf(ctx), body.GetRoles())
	case *eventsv1.Organization:
		return access.ScopeOf(ctx).Has([]string{r.ID})
	}
	return true
}

// place settles which organizations the resource of the event is in.
func (s *resources) place(ctx context.Context, tenant string, current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
	if current == nil && access.CreateScopeOf(ctx).Nowhere() || current != nil && access.ScopeOf(ctx).Nowhere() {
		return status.Errorf(codes.PermissionDenied, "you lack the permission to %s %s %q: ask an administrator for a role that has it", map[bool]string{true: "create", false: "change"}[current == nil], s.noun, ev.GetResource())
	}
	body := catalog.BodyOf(ev)
	asked, is := body.(placedBody)
	if !is {
		return nil
	}
	var before []string
	if current != nil {
		before = current.Body.(placedBody).GetOrganizations()
	}
	ids, err := placed(ctx, s.directory, tenant, current != nil, before, asked.GetOrganizations())
	if err != nil {
		return err
	}
	m := body.ProtoReflect()
	list := m.Mutable(m.Descriptor().Fields().ByName("organizations")).List()
	list.Truncate(0)
	for _, id := range ids {
		list.Append(protoreflect.ValueOfString(id))
	}
	return nil
}

// edit changes a resource: build makes the event's body out of the resource as it
// is (nil: none). Without an etag of the caller's it is built anew when another
// change came between, so that no change is lost.
func (s *resources) edit(ctx context.Context, id, bodyTag string, build func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error) (*catalog.Resource, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	asked, err := precondition(first(ctx, "if-match"), first(ctx, "if-none-match"), bodyTag)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		current := s.catalog.Get(p.Tenant, s.kind, id)
		if current != nil && !visible(ctx, current) {
			return nil, notFound("%s %q does not exist", s.noun, id)
		}
		ev := &eventsv1.CatalogEvent{Precondition: asked}
		built := asked == nil || asked.GetExists()
		if built && current != nil {
			ev.Precondition = &eventsv1.Precondition{Version: &current.Version}
		} else if asked == nil {
			ev.Precondition = &eventsv1.Precondition{Exists: proto.Bool(false)}
		}
		if err := build(current, ev); err != nil {
			return nil, err
		}
		ev.Resource = id
		if err := s.place(ctx, p.Tenant, current, ev); err != nil {
			return nil, err
		}
		r, err := s.change(ctx, p, id, ev)
		if err == nil {
			_ = grpc.SetHeader(ctx, metadata.Pairs("etag", `"`+device.ETag(r.Version)+`"`)) // fails only after the answer has begun
			return r, nil
		}
		if !built || attempt == maxEdits || !overtaken(err) {
			return nil, changeFailure(err)
		}
	}
}

// overtaken reports whether a change was refused because another came before it.
func overtaken(err error) bool {
	var rejected *catalog.RejectedError
	return errors.As(err, &rejected) &&
		(rejected.Reason == eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH || rejected.Reason == eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS)
}

func (s *resources) remove(ctx context.Context, id string) error {
	p, err := s.reader(ctx)
	if err != nil {
		return err
	}
	asked, err := precondition(first(ctx, "if-match"), first(ctx, "if-none-match"), "")
	if err != nil {
		return err
	}
	if current := s.catalog.Get(p.Tenant, s.kind, id); current != nil && !visible(ctx, current) {
		return notFound("%s %q does not exist", s.noun, id)
	}
	_, err = s.change(ctx, p, id, &eventsv1.CatalogEvent{Precondition: asked, Change: &eventsv1.CatalogEvent_Deleted{Deleted: &eventsv1.CatalogDeleted{}}})
	if err != nil {
		return changeFailure(err)
	}
	return nil
}

func (s *resources) change(ctx context.Context, p access.Principal, id string, ev *eventsv1.CatalogEvent) (*catalog.Resource, error) {
	ev.Id, ev.Tenant, ev.Kind, ev.Resource, ev.Time = eventlog.NewID(), p.Tenant, s.kind, id, timestamppb.Now()
	ev.Actor = actorOf(ctx, p)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.catalog.Change(ctx, ev)
}
