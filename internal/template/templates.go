package template

import (
	"log/slog"
	"sync"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Templates is a node's view of the published templates. It is safe for concurrent
// use.
type Templates struct {
	catalog *catalog.Catalog
	logger  *slog.Logger

	mu      sync.Mutex
	tenants map[string]*tenant
}

// tenant is the templates of one tenant. Those that have not been asked for are not
// parsed.
type tenant struct {
	mu     sync.Mutex
	parsed map[string]*Template // by id; nil: there is none that is published
	models map[string]string    // the template of each model id; made when first asked for
}

// New makes the view. It must be made before the catalog runs.
func New(c *catalog.Catalog, logger *slog.Logger) *Templates {
	ts := &Templates{catalog: c, logger: logger, tenants: map[string]*tenant{}}
	c.OnChange(func(_, after *catalog.Resource) {
		if after.Kind == KindName {
			ts.mu.Lock()
			defer ts.mu.Unlock()
			delete(ts.tenants, after.Tenant)
		}
	})
	return ts
}

// Ready is nil once the view has caught up with the log.
func (ts *Templates) Ready() error { return ts.catalog.Ready() }

// Get is the published template; nil when there is none.
func (ts *Templates) Get(tenantID, id string) *Template {
	if id == "" {
		return nil
	}
	t := ts.of(tenantID)
	t.mu.Lock()
	defer t.mu.Unlock()
	return ts.get(t, tenantID, id)
}

// ByModel is the template for devices that announce a model: the one published last
// of those with that model, or the one of that very id; nil when there is none
// (FEATURES.md DEV-51).
func (ts *Templates) ByModel(tenantID, model string) *Template {
	if model == "" {
		return nil
	}
	t := ts.of(tenantID)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.models == nil {
		t.models = ts.index(t, tenantID)
	}
	if id, known := t.models[model]; known {
		return ts.get(t, tenantID, id)
	}
	return ts.get(t, tenantID, model)
}

func (ts *Templates) of(tenantID string) *tenant {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.tenants[tenantID]
	if t == nil {
		t = &tenant{parsed: map[string]*Template{}}
		if ts.catalog.Ready() == nil { // else changes go untold
			ts.tenants[tenantID] = t
		}
	}
	return t
}

// get parses once; t.mu is held.
func (ts *Templates) get(t *tenant, tenantID, id string) *Template {
	if parsed, known := t.parsed[id]; known {
		return parsed
	}
	resource := ts.catalog.Get(tenantID, KindName, id)
	if resource == nil {
		return nil // not remembered: callers may ask for any id
	}
	published := resource.Body.(*eventsv1.DeviceTemplate).GetPublished()
	if len(published) == 0 {
		return nil
	}
	parsed, err := Parse(published)
	if err != nil {
		ts.logger.Error("device template cannot be read any more: publish it anew", "tenant", tenantID, "template", id, "error", err)
	}
	t.parsed[id] = parsed
	return parsed
}

func (ts *Templates) index(t *tenant, tenantID string) map[string]string {
	models, newest := map[string]string{}, map[string]time.Time{}
	for _, r := range ts.catalog.List(tenantID, KindName, "", maxTemplates) {
		parsed := ts.get(t, tenantID, r.ID)
		if parsed == nil {
			continue
		}
		at := r.Body.(*eventsv1.DeviceTemplate).GetPublishedAt().AsTime()
		if _, known := models[parsed.ModelID()]; !known || at.After(newest[parsed.ModelID()]) {
			models[parsed.ModelID()], newest[parsed.ModelID()] = r.ID, at
		}
	}
	return models
}
