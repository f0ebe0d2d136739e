package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	accessTarget  = 5 * time.Microsecond
	accessRounds  = 1_000_000
	smallTenant   = "small"
	largeTenant   = "large"
	manyTokens    = 1000
	accessGrowing = 2 // how much more a large tenant's decision may take
)

// access measures what it costs to know a caller by its token and to decide where it
// may do what it asks for: in a tenant of 10 roles and users, and in one of 10,000 roles
// and 100,000 users.
func (b *bench) access(ctx context.Context) ([]row, error) {
	return b.onLog(ctx, "access", func(ctx context.Context, log *eventlog.Log) (rows []row, err error) {
		few, err := b.people(ctx, log, smallTenant, 10, 10, 10)
		if err != nil {
			return nil, err
		}
		many, err := b.people(ctx, log, largeTenant, pick(b, 10_000, 1000), pick(b, 100_000, 10_000), manyTokens)
		if err != nil {
			return nil, err
		}
		all := catalog.New(log, slog.New(slog.DiscardHandler), access.Kinds()...)
		directory := access.NewDirectory(all)
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- all.Run(ctx) }()
		defer func() { stop(); err = errors.Join(err, <-ended) }()
		for all.Ready() != nil {
			select {
			case err := <-ended:
				ended <- nil
				return nil, fmt.Errorf("read the catalog: %w", errors.Join(err, ctx.Err()))
			case <-time.After(time.Millisecond):
			}
		}
		ready := time.Since(began)
		tokens := access.NewTokens(directory)
		small, err := decide(ctx, tokens, few)
		if err != nil {
			return nil, err
		}
		large, err := decide(ctx, tokens, many)
		if err != nil {
			return nil, err
		}
		return []row{{
			what: "token known and decided, 10,000 roles, 100,000 users", measured: micros(large), peer: "10 roles, 10 users " + micros(small),
			ratio: fmt.Sprintf("%.2f ×", float64(large)/float64(small)), target: "≤ " + micros(accessTarget), result: judge(large <= accessTarget && large <= accessGrowing*small),
			note: fmt.Sprintf("the node has read them in %.1f s", ready.Seconds()),
		}}, nil
	})
}

func micros(d time.Duration) string {
	return fmt.Sprintf("%.2f µs", float64(d.Nanoseconds())/1000)
}

// decide is what one request takes. The tokens come in turn.
func decide(ctx context.Context, tokens *access.Tokens, of []string) (time.Duration, error) {
	permission, err := access.ParsePermission("devices.view")
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for i := range accessRounds {
		p, err := tokens.Authenticate(ctx, of[i%len(of)])
		if err != nil {
			return 0, err
		}
		scope := p.Scope(permission)
		if scope.Nowhere() || access.WithCaller(ctx, p, scope, scope) == nil {
			return 0, fmt.Errorf("%s is let in nowhere", p.ID)
		}
	}
	return time.Since(began) / accessRounds, nil
}

// people puts a tenant's on the log, and gives its tokens.
func (b *bench) people(ctx context.Context, log *eventlog.Log, tenant string, roles, users, tokens int) (made []string, err error) {
	failed := make(chan error, 1)
	put := func(kind, id string, ev *eventsv1.CatalogEvent) error {
		ev.Id, ev.Tenant, ev.Kind, ev.Resource, ev.Time = eventlog.NewID(), tenant, kind, id, timestamppb.Now()
		value, err := proto.Marshal(ev)
		if err != nil {
			return err
		}
		log.Append(ctx, eventlog.CloudEvent(log.Name(eventlog.Catalog), ev.GetId(), "/tenants/"+tenant, eventlog.TypeCatalogEvent,
			ev.GetTime().AsTime(), eventlog.ContentTypeProtobuf, eventlog.Key(tenant, kind+"/"+id), value), func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		return nil
	}
	for i := range roles {
		role := &eventsv1.Role{DisplayName: fmt.Sprint("Role ", i), Permissions: []string{"devices.view", "deviceGroups.view", "deviceTemplates.view"}}
		if err := put(access.RoleKind, fmt.Sprint("r", i), &eventsv1.CatalogEvent{Change: &eventsv1.CatalogEvent_Role{Role: role}}); err != nil {
			return nil, err
		}
	}
	held := func(i int) []*eventsv1.RoleAssignment {
		return []*eventsv1.RoleAssignment{{Role: fmt.Sprint("r", i%roles)}}
	}
	for i := range users {
		user := &eventsv1.User{Subject: &eventsv1.User_Email{Email: fmt.Sprintf("u%d@example.com", i)}, Roles: held(i)}
		if err := put(access.UserKind, fmt.Sprint("u", i), &eventsv1.CatalogEvent{Change: &eventsv1.CatalogEvent_User{User: user}}); err != nil {
			return nil, err
		}
	}
	expiry := time.Now().Add(24 * time.Hour)
	for i := range tokens {
		id := fmt.Sprint("t", i)
		token, hash := access.NewToken(tenant, id, expiry)
		made = append(made, token)
		if err := put(access.TokenKind, id, &eventsv1.CatalogEvent{Change: &eventsv1.CatalogEvent_ApiToken{ApiToken: &eventsv1.ApiToken{Roles: held(i), Expiry: timestamppb.New(expiry), Hash: hash}}}); err != nil {
			return nil, err
		}
	}
	if err := log.Flush(ctx); err != nil {
		return nil, err
	}
	select {
	case err := <-failed:
		return nil, err
	default:
		return made, nil
	}
}
