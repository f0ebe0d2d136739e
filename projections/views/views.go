package views

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/cenkalti/backoff/v5"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/template"
)

const (
	// lookAgain is how often all tenants are looked at though nothing has changed: a
	// node that was behind may have put back what another had done.
	lookAgain = 5 * time.Minute
	// patience bounds the work on one tenant.
	patience = 2 * time.Minute
	// maxDefinition bounds a statement; models of 200 KiB are several times that.
	maxDefinition = 16 << 20
	maxTemplates  = 1000
)

// Views keeps the views of all tenants. Run must be running.
type Views struct {
	catalog   *catalog.Catalog
	templates *template.Templates
	db        *clickhouse.Conn
	logger    *slog.Logger

	changed chan struct{} // holds one: there is something in dirty
	mu      sync.Mutex
	dirty   map[string]bool
}

// New makes it. It must be made before the catalog runs.
func New(c *catalog.Catalog, templates *template.Templates, db *clickhouse.Conn, logger *slog.Logger) *Views {
	v := &Views{catalog: c, templates: templates, db: db, logger: logger, changed: make(chan struct{}, 1), dirty: map[string]bool{}}
	c.OnChange(func(_, after *catalog.Resource) {
		if after.Kind == template.KindName {
			v.touch(after.Tenant)
		}
	})
	return v
}

func (v *Views) touch(tenants ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, tenant := range tenants {
		v.dirty[tenant] = true
	}
	select {
	case v.changed <- struct{}{}:
	default: // it is already known
	}
}

// Run follows the catalog until ctx ends; nil is its only answer then. What fails is
// tried again.
func (v *Views) Run(ctx context.Context) error {
	if err := v.awaitCatalog(ctx); err != nil {
		return nil // ctx has ended
	}
	all := time.NewTicker(lookAgain)
	defer all.Stop()
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 10*time.Second
	failed := map[string]bool{}
	var again <-chan time.Time // when those that failed are tried again; others need not wait for it
	v.touchAll()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-all.C:
			v.touchAll()
		case <-again:
			v.touch(slices.Collect(maps.Keys(failed))...)
		case <-v.changed:
			v.bringUp(ctx, failed)
			if again = nil; len(failed) > 0 {
				again = time.After(wait.NextBackOff())
			} else {
				wait.Reset()
			}
		}
	}
}

// awaitCatalog waits until the catalog has caught up.
func (v *Views) awaitCatalog(ctx context.Context) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, v.catalog.Ready() },
		backoff.WithBackOff(backoff.NewConstantBackOff(20*time.Millisecond)), backoff.WithMaxElapsedTime(0))
	return err
}

func (v *Views) touchAll() { v.touch(append(v.catalog.Tenants(), access.DefaultTenant)...) }

// bringUp works on the tenants that have changed, and notes which it could not do.
func (v *Views) bringUp(ctx context.Context, failed map[string]bool) {
	for _, tenant := range v.take() {
		delete(failed, tenant)
		if err := v.sync(ctx, tenant); err != nil && ctx.Err() == nil {
			v.logger.Warn("analysts' views are behind the templates, trying again", "tenant", tenant, "error", err)
			failed[tenant] = true
		}
	}
}

func (v *Views) take() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	tenants := slices.Sorted(maps.Keys(v.dirty))
	clear(v.dirty)
	return tenants
}

// sync brings one tenant's database to what the catalog says.
func (v *Views) sync(ctx context.Context, tenant string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ctx = driver.Context(ctx, driver.WithSettings(driver.Settings{"max_query_size": maxDefinition, "max_ast_elements": 10_000_000, "max_expanded_ast_elements": 10_000_000}))
	p := place{v.db.Database(), tenant}
	if err := v.db.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+p.own()); err != nil {
		return fmt.Errorf("create its database: %w", err)
	}
	there, err := v.there(ctx, p)
	if err != nil {
		return err
	}
	wanted := v.wanted(p, there)
	var failed error // one view must not keep the others from what they should be
	for _, view := range wanted {
		if there[view.name] == view.marked(p) {
			continue
		}
		if err := v.db.Exec(ctx, view.define(p)); err != nil {
			failed = errors.Join(failed, fmt.Errorf("define view %s: %w", view.name, err))
		}
	}
	return errors.Join(failed, v.drop(ctx, p, there, wanted))
}

// drop removes the views that nothing wants any more, of those made here.
func (v *Views) drop(ctx context.Context, p place, there map[string]string, wanted []view) error {
	for name, comment := range there {
		_, ours := family(comment)
		if !ours || slices.ContainsFunc(wanted, func(w view) bool { return w.name == name }) {
			continue
		}
		if err := v.db.Exec(ctx, "DROP VIEW IF EXISTS "+p.own()+"."+quoteName(name)); err != nil {
			return fmt.Errorf("drop view %s: %w", name, err)
		}
	}
	return nil
}

// there are the comments of the views in ClickHouse by name.
func (v *Views) there(ctx context.Context, p place) (map[string]string, error) {
	rows, err := v.db.Query(ctx, "SELECT name, comment FROM system.tables WHERE database = ?", p.own())
	if err != nil {
		return nil, fmt.Errorf("list views: %w", err)
	}
	defer rows.Close()
	there := map[string]string{}
	for rows.Next() {
		var name, comment string
		if err := rows.Scan(&name, &comment); err != nil {
			return nil, fmt.Errorf("list views: %w", err)
		}
		there[name] = comment
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list views: %w", err)
	}
	return there, nil
}

// wanted are all views of the tenant.
func (v *Views) wanted(p place, there map[string]string) []view {
	all := base(p)
	of := map[string]string{}
	for name, comment := range there {
		of[name], _ = family(comment)
	}
	families := v.families(p.tenant)
	names := name(families, of, all)
	for _, f := range families {
		all = append(all, f.views(p, names[f.id])...)
	}
	return all
}

// families are the tenant's published templates.
func (v *Views) families(tenant string) []*versions {
	byID := map[string]*versions{}
	for _, r := range v.catalog.List(tenant, template.KindName, "", maxTemplates) {
		t := v.templates.Get(tenant, r.ID)
		if t == nil {
			continue
		}
		id, number := dtdl.Version(r.ID)
		f := byID[id]
		if f == nil {
			f = &versions{id: id, at: r.CreatedAt.UnixNano(), byNumber: map[int]*template.Template{}}
			byID[id] = f
		}
		f.at, f.newest, f.byNumber[number] = min(f.at, r.CreatedAt.UnixNano()), max(f.newest, number), t
	}
	return slices.Collect(maps.Values(byID))
}
