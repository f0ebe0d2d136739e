package query

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// refusals puts calls that were refused on the log. Those of one caller and method are
// one event for some seconds, and there are so many at most, so that nobody can fill the
// log by being refused; what is beyond is counted together.
type refusals struct {
	log    *eventlog.Log
	logger *slog.Logger

	mu      sync.Mutex
	pending map[refusal]*eventsv1.AuditEvent
}

// refusal is what is counted together.
type refusal struct {
	tenant, principal, address, method string
	why                                eventsv1.AccessRefusal
}

const (
	refusalSpan = 2 * time.Second
	maxRefusals = 1000 // of different ones in a span
)

func newRefusals(log *eventlog.Log, logger *slog.Logger) *refusals {
	return &refusals{log: log, logger: logger, pending: map[refusal]*eventsv1.AuditEvent{}}
}

// note counts a call that was refused. An unknown caller's is the default tenant's: what
// it says of a tenant is not to be believed.
func (r *refusals) note(actor *eventsv1.Actor, tenant, permission string, why eventsv1.AccessRefusal) {
	if tenant == "" {
		tenant = access.DefaultTenant
	}
	of, now := refusal{tenant, actor.GetPrincipal(), actor.GetAddress(), actor.GetMethod(), why}, timestamppb.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[of] == nil && len(r.pending) >= maxRefusals {
		of = refusal{tenant: tenant, why: why}
		actor, permission = &eventsv1.Actor{}, ""
	}
	ev := r.pending[of]
	if ev == nil {
		ev = &eventsv1.AuditEvent{
			Id: eventlog.NewID(), Tenant: tenant, Time: now, Actor: actor, Refused: &eventsv1.AccessRefused{Why: why, Permission: permission},
		}
		r.pending[of] = ev
	}
	ev.Refused.Count++
	ev.Refused.Last = now
}

// run writes what was refused until ctx ends, and then the rest.
func (r *refusals) run(ctx context.Context) {
	tick := time.NewTicker(refusalSpan)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.write(ctx)
		case <-ctx.Done():
			r.write(context.WithoutCancel(ctx))
			return
		}
	}
}

func (r *refusals) write(ctx context.Context) {
	r.mu.Lock()
	events := r.pending
	r.pending = map[refusal]*eventsv1.AuditEvent{}
	r.mu.Unlock()
	for _, ev := range events {
		value, err := proto.Marshal(ev)
		if err != nil {
			r.logger.Error("a refused call is not on the log", "error", err)
			continue
		}
		record := eventlog.CloudEvent(r.log.Name(eventlog.Audit), ev.GetId(), "/tenants/"+ev.GetTenant(), eventlog.TypeAuditEvent,
			ev.GetTime().AsTime(), eventlog.ContentTypeProtobuf, eventlog.Key(ev.GetTenant(), ev.GetId()), value)
		r.log.Append(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				r.logger.Error("a refused call is not on the log", "tenant", ev.GetTenant(), "principal", ev.GetActor().GetPrincipal(), "error", err)
			}
		})
	}
}
