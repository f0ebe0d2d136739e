// Package catalog is a node's view of what an installation is made of besides
// its devices, such as enrollment groups: it folds the `catalog` topic into
// memory and lets a caller append an intent and wait for what became of it.
//
// The topic has one partition and is kept for ever, and the fold is pure, so
// that every node and every replay come to the same resources and the same
// refusals; there is no state to write down. Reads cost a map look-up and never
// leave the node. A change that returned is visible to reads on the same node.
package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/tidwall/btree"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
)

// ErrNotReady is returned until the view has caught up with the log.
var ErrNotReady = errors.New("the catalog is still reading the log: try again in a moment")

// Catalog is safe for concurrent use. Run must be running for it to be of use.
type Catalog struct {
	log      *eventlog.Log
	logger   *slog.Logger
	kinds    map[string]Kind
	ready    atomic.Bool
	onChange []func(before, after *Resource)

	mu        sync.RWMutex
	resources btree.Map[string, *Resource] // by record key
	counts    map[string]int               // of resources that exist, by tenant and kind
	waiting   map[string]chan decided      // by event id
}

type decided struct {
	resource *Resource
	rejected *RejectedError
}

// New makes a catalog of the kinds; Run starts it.
func New(log *eventlog.Log, logger *slog.Logger, kinds ...Kind) *Catalog {
	c := &Catalog{log: log, logger: logger, kinds: map[string]Kind{}, counts: map[string]int{}, waiting: map[string]chan decided{}}
	for _, k := range kinds {
		c.kinds[k.Name] = k
	}
	return c
}

// OnChange registers a function called for each change that the view takes in
// once it has caught up, with the resource before (nil: none) and after (without
// a body: deleted). It must be called before Run and must not block.
func (c *Catalog) OnChange(f func(before, after *Resource)) { c.onChange = append(c.onChange, f) }

// Run follows the log until ctx ends; nil is its only answer then.
func (c *Catalog) Run(ctx context.Context) error {
	return c.log.Follow(ctx, eventlog.Catalog, c.take, func() {
		c.ready.Store(true)
		c.logger.Info("catalog has caught up")
	})
}

// Ready is nil once the view has caught up with the log.
func (c *Catalog) Ready() error {
	if !c.ready.Load() {
		return ErrNotReady
	}
	return nil
}

// Get is the resource; nil when there is none.
func (c *Catalog) Get(tenant, kind, id string) *Resource {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.view().Get(tenant, kind, id)
}

// List is up to limit resources of the tenant and kind whose ids sort after the
// given one ("" starts at the first).
func (c *Catalog) List(tenant, kind, after string, limit int) []*Resource {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.view().List(tenant, kind, after, limit)
}

// Count is how many resources of the kind the tenant has made.
func (c *Catalog) Count(tenant, kind string) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.view().Count(tenant, kind)
}

// Tenants are those that have or had resources, sorted.
func (c *Catalog) Tenants() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var tenants []string
	for at, more := "", true; more; {
		more = false
		c.resources.Ascend(at, func(key string, _ *Resource) bool {
			tenant, _, _ := strings.Cut(key, "/")
			tenants, at, more = append(tenants, tenant), tenant+"0", true // '0' follows '/'
			return false
		})
	}
	return tenants
}

// Change appends an intent, waits until this node has folded it and returns the
// resource after it. A refusal is a [*RejectedError]. When ctx ends first the
// change may still happen: the error says so.
func (c *Catalog) Change(ctx context.Context, ev *eventsv1.CatalogEvent) (*Resource, error) {
	if err := c.Ready(); err != nil {
		return nil, err
	}
	kind, known := c.kinds[ev.GetKind()]
	if !known {
		return nil, fmt.Errorf("change of kind %q: there is no such kind", ev.GetKind())
	}
	if rejected := kind.validate(ev); rejected != nil {
		return nil, rejected
	}
	value, err := proto.Marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("encode catalog event: %w", err)
	}
	decision := c.await(ev.GetId())
	defer c.forget(ev.GetId())
	record := eventlog.CloudEvent(c.log.Name(eventlog.Catalog), ev.GetId(), "/tenants/"+ev.GetTenant(), eventlog.TypeCatalogEvent,
		ev.GetTime().AsTime(), eventlog.ContentTypeProtobuf, key(ev.GetTenant(), ev.GetKind(), ev.GetResource()), value)
	if err := c.log.AppendSync(ctx, record); err != nil {
		return nil, err
	}
	select {
	case d := <-decision:
		if d.rejected != nil {
			return nil, d.rejected
		}
		return d.resource, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("change of %s %s is on the log but not decided yet, read it to see what became of it: %w", kind.Noun, ev.GetResource(), context.Cause(ctx))
	}
}

func (c *Catalog) await(eventID string) <-chan decided {
	ch := make(chan decided, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[eventID] = ch
	return ch
}

func (c *Catalog) forget(eventID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, eventID)
}

// take folds one record. What cannot be read is left out, by every node alike.
func (c *Catalog) take(rec *kgo.Record) {
	var ev eventsv1.CatalogEvent
	err := proto.Unmarshal(rec.Value, &ev)
	kind, known := c.kinds[ev.GetKind()]
	if err != nil || !known || !bytes.Equal(rec.Key, key(ev.GetTenant(), ev.GetKind(), ev.GetResource())) {
		c.logger.Error("catalog event cannot be read and is left out", "topic", rec.Topic, "offset", rec.Offset, "kind", ev.GetKind(), "error", err)
		return
	}
	c.mu.Lock()
	before := c.view().at(kind, ev.GetTenant(), ev.GetResource())
	after, rejected := kind.apply(c.view(), before, &ev)
	if rejected == nil {
		if _, was := c.resources.Set(string(rec.Key), after); after.exists() != (was && before.exists()) {
			c.counts[string(key(after.Tenant, after.Kind, ""))] += map[bool]int{true: 1, false: -1}[after.exists()]
		}
	}
	ch, waited := c.waiting[ev.GetId()]
	delete(c.waiting, ev.GetId())
	c.mu.Unlock()
	if rejected == nil && c.ready.Load() {
		for _, f := range c.onChange {
			f(before, after)
		}
	}
	// Last, so that the caller also finds what is made of the resources up to date.
	if waited {
		ch <- decided{resource: after, rejected: rejected}
	}
}

// view reads without the lock, which its user holds.
func (c *Catalog) view() view { return view{c} }

type view struct{ *Catalog }

func (v view) Get(tenant, kind, id string) *Resource {
	if r := v.at(v.kinds[kind], tenant, id); r.exists() {
		return r
	}
	return nil
}

// at is the resource as the fold left it, nil when it never existed.
func (v view) at(k Kind, tenant, id string) *Resource {
	if r, ok := v.resources.Get(string(key(tenant, k.Name, id))); ok {
		return r
	}
	if body, ok := k.Builtin[id]; ok {
		return &Resource{Tenant: tenant, Kind: k.Name, ID: id, Version: 1, Body: body}
	}
	return nil
}

func (v view) Count(tenant, kind string) int { return v.counts[string(key(tenant, kind, ""))] }

func (v view) List(tenant, kind, after string, limit int) []*Resource {
	var found btree.Map[string, *Resource]
	for id := range v.kinds[kind].Builtin {
		if id > after {
			found.Set(id, v.at(v.kinds[kind], tenant, id))
		}
	}
	prefix := string(key(tenant, kind, ""))
	v.resources.Ascend(prefix+after, func(at string, r *Resource) bool {
		id, ours := strings.CutPrefix(at, prefix)
		if !ours {
			return false
		}
		if id != after && r.exists() {
			found.Set(id, r)
		}
		return found.Len() < limit+len(v.kinds[kind].Builtin)
	})
	page := found.Values()
	return page[:min(limit, len(page))]
}

// key is the record key of a resource.
func key(tenant, kind, id string) []byte { return eventlog.Key(tenant, kind+"/"+id) }
