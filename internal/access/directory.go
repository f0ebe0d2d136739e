package access

import (
	"slices"
	"strings"
	"sync"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Directory is a node's view of who may do what: the users, tokens, roles and
// organizations of the catalog, ready to be asked at every request. It is safe for
// concurrent use.
type Directory struct {
	catalog *catalog.Catalog

	mu         sync.RWMutex
	tenants    map[string]*tenantView
	generation uint64
}

// tenantView is one tenant's. Principals are made when they are first asked for; a
// change of a role or an organization lets go of all of them.
type tenantView struct {
	roles         map[string]role
	organizations tree
	subjects      map[string][]string // ids of users by who they are; sorted

	mu         sync.RWMutex
	principals map[string]Principal
}

type role struct {
	permissions  Set
	organization bool
}

// NewDirectory makes the view. It must be made before the catalog runs.
func NewDirectory(c *catalog.Catalog) *Directory {
	d := &Directory{catalog: c, tenants: map[string]*tenantView{}}
	c.OnChange(d.changed)
	return d
}

func (d *Directory) changed(before, after *catalog.Resource) {
	switch after.Kind {
	case RoleKind, OrganizationKind:
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.tenants, after.Tenant)
		d.generation++
	case UserKind, TokenKind:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.generation++ // what is being assembled may be old
		if t := d.tenants[after.Tenant]; t != nil {
			t.replace(before, after)
		}
	}
}

// replace takes in a change of a user or token. A user's principals have other names,
// so that all of them are made anew.
func (t *tenantView) replace(before, after *catalog.Resource) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if after.Kind == TokenKind {
		delete(t.principals, tokenName(after.ID))
		return
	}
	clear(t.principals)
	if key := subjectOf(before); key != "" {
		t.subjects[key] = slices.DeleteFunc(slices.Clone(t.subjects[key]), func(id string) bool { return id == after.ID })
	}
	if key := subjectOf(after); key != "" {
		t.subjects[key] = append(slices.Clone(t.subjects[key]), after.ID)
		slices.Sort(t.subjects[key])
	}
}

// subjectOf is the key by which a user is found, "" for none.
func subjectOf(r *catalog.Resource) string {
	if r == nil || r.Body == nil {
		return ""
	}
	switch u := r.Body.(*eventsv1.User); {
	case u.GetEmail() != "":
		return emailKey(u.GetEmail())
	case u.GetServicePrincipal() != nil:
		return objectKey(u.GetServicePrincipal().GetTenantId(), u.GetServicePrincipal().GetObjectId())
	default:
		return groupKey(u.GetAdGroup().GetTenantId(), u.GetAdGroup().GetObjectId())
	}
}

func emailKey(email string) string             { return "email/" + strings.ToLower(email) }
func objectKey(tenantID, object string) string { return "object/" + tenantID + "/" + object }
func groupKey(tenantID, group string) string   { return "group/" + tenantID + "/" + group }
func tokenName(id string) string               { return "token:" + id }

// Ready is nil once the view has caught up with the log.
func (d *Directory) Ready() error { return d.catalog.Ready() }

// ByEmail is the ids of the users with the address, whatever its case.
func (d *Directory) ByEmail(tenant, email string) []string {
	return d.by(tenant, emailKey(email))
}

// ByObject is the ids of the service principals that are the object of the directory's
// tenant.
func (d *Directory) ByObject(tenant, directoryTenant, objectID string) []string {
	return d.by(tenant, objectKey(directoryTenant, objectID))
}

// ByGroup is the ids of the users that stand for one of the directory tenant's groups.
func (d *Directory) ByGroup(tenant, directoryTenant string, groups ...string) (ids []string) {
	for _, group := range groups {
		ids = append(ids, d.by(tenant, groupKey(directoryTenant, group))...)
	}
	return ids
}

func (d *Directory) by(tenant, key string) []string {
	t := d.of(tenant)
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.subjects[key]
}

// Principal is who has the roles of all these users. The name is what is recorded of
// him, `user:anna`.
func (d *Directory) Principal(tenant, name string, users ...string) Principal {
	return d.principal(tenant, name+"\x00"+strings.Join(users, "\x00"), func(t *tenantView) Principal {
		p := Principal{ID: name, Tenant: tenant}
		for _, id := range users {
			if r := d.catalog.Get(tenant, UserKind, id); r != nil {
				p.Grants = append(p.Grants, t.grants(assignmentsOf(r))...)
			}
		}
		return p
	})
}

func (d *Directory) tokenPrincipal(tenant, id string) Principal {
	return d.principal(tenant, tokenName(id), func(t *tenantView) Principal {
		p := Principal{ID: tokenName(id), Tenant: tenant}
		if r := d.catalog.Get(tenant, TokenKind, id); r != nil {
			p.Grants = t.grants(assignmentsOf(r))
		}
		return p
	})
}

// maxPrincipals bounds those that are kept of a tenant.
const maxPrincipals = 100_000

func (d *Directory) principal(tenant, key string, build func(*tenantView) Principal) Principal {
	t := d.of(tenant)
	t.mu.RLock()
	p, known := t.principals[key]
	t.mu.RUnlock()
	if known {
		return p
	}
	// Under the lock, so that a change that comes meanwhile finds it, and lets it go.
	t.mu.Lock()
	defer t.mu.Unlock()
	p = build(t)
	if len(t.principals) >= maxPrincipals {
		clear(t.principals)
	}
	t.principals[key] = p
	return p
}

// HasOrganization reports whether there is one of this id.
func (d *Directory) HasOrganization(tenant, id string) bool {
	return d.catalog.Get(tenant, OrganizationKind, id) != nil
}

// Grants are what the assignments permit.
func (d *Directory) Grants(tenant string, assignments []*eventsv1.RoleAssignment) []Grant {
	return d.of(tenant).grants(assignments)
}

func (t *tenantView) grants(assignments []*eventsv1.RoleAssignment) (grants []Grant) {
	for _, a := range assignments {
		r, known := t.roles[a.GetRole()]
		if !known || r.organization != (a.GetOrganization() != "") {
			continue
		}
		g := Grant{Permissions: r.permissions, Home: a.GetOrganization()}
		if r.organization {
			g.Organizations = map[string]bool{}
			t.organizations.with(a.GetOrganization(), g.Organizations)
		}
		grants = append(grants, g)
	}
	return grants
}

func (d *Directory) of(tenant string) *tenantView {
	d.mu.RLock()
	t, generation := d.tenants[tenant], d.generation
	d.mu.RUnlock()
	if t != nil {
		return t
	}
	t = d.assemble(tenant)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.generation == generation && d.catalog.Ready() == nil { // else it may be old already
		d.tenants[tenant] = t
	}
	return t
}

func (d *Directory) assemble(tenant string) *tenantView {
	t := &tenantView{roles: map[string]role{}, organizations: organizationsOf(d.catalog, tenant), subjects: map[string][]string{}, principals: map[string]Principal{}}
	for _, r := range d.catalog.List(tenant, RoleKind, "", MaxRoles+len(builtinRoles)) {
		body := r.Body.(*eventsv1.Role)
		if set, err := ParseSet(body.GetPermissions()); err == nil { // else the catalog would not have it
			t.roles[r.ID] = role{set, body.GetOrganization()}
		}
	}
	for _, r := range d.catalog.List(tenant, UserKind, "", MaxUsers) {
		key := subjectOf(r)
		t.subjects[key] = append(t.subjects[key], r.ID)
	}
	return t
}
