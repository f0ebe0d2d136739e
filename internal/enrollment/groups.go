package enrollment

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Groups is a node's view of all enrollment groups, ready to check credentials
// against. It is safe for concurrent use.
type Groups struct {
	catalog *catalog.Catalog
	keys    *device.MasterKey
	logger  *slog.Logger

	mu         sync.RWMutex
	tenants    map[string]*Tenant
	generation uint64
}

// New makes the view. It must be made before the catalog runs.
func New(c *catalog.Catalog, keys *device.MasterKey, logger *slog.Logger) *Groups {
	g := &Groups{catalog: c, keys: keys, logger: logger, tenants: map[string]*Tenant{}}
	c.OnChange(func(_, after *catalog.Resource) {
		if after.Kind == KindName {
			g.forget(after.Tenant)
		}
	})
	return g
}

// OnChange registers a function called for each change of a group (before nil:
// created, after nil: deleted). It must be called before the catalog runs and
// must not block.
func (g *Groups) OnChange(f func(tenant, id string, before, after *eventsv1.EnrollmentGroup)) {
	g.catalog.OnChange(func(before, after *catalog.Resource) {
		if after.Kind == KindName {
			f(after.Tenant, after.ID, body(before), body(after))
		}
	})
}

func body(r *catalog.Resource) *eventsv1.EnrollmentGroup {
	if r == nil {
		return nil
	}
	g, _ := r.Body.(*eventsv1.EnrollmentGroup)
	return g
}

// Ready is nil once the view has caught up with the log.
func (g *Groups) Ready() error { return g.catalog.Ready() }

func (g *Groups) forget(tenant string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.tenants, tenant)
	g.generation++
}

// Of is the tenant's groups.
func (g *Groups) Of(tenant string) *Tenant {
	g.mu.RLock()
	t, generation := g.tenants[tenant], g.generation
	g.mu.RUnlock()
	if t != nil {
		return t
	}
	t = g.assemble(tenant)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.generation == generation { // else it may be old already
		g.tenants[tenant] = t
	}
	return t
}

// Tenant is the groups of one tenant.
type Tenant struct {
	groups      map[string]*Group
	symmetric   []*Group
	authorities *x509.CertPool
	bySigner    map[[sha256.Size]byte]*Group
}

// Group is one enrollment group.
type Group struct {
	*eventsv1.EnrollmentGroup

	ID      string
	Version uint64
	// Keys are the group's symmetric keys; nil when it has none.
	Keys *device.Keys
}

func (g *Groups) assemble(tenant string) *Tenant {
	t := &Tenant{groups: map[string]*Group{}, authorities: x509.NewCertPool(), bySigner: map[[sha256.Size]byte]*Group{}}
	for _, r := range g.catalog.List(tenant, KindName, "", 2*maxGroups+1) {
		group := &Group{EnrollmentGroup: body(r), ID: r.ID, Version: r.Version}
		t.groups[r.ID] = group
		for _, slot := range slots(group.GetX509()) {
			cert, err := ParseAuthority(slot.GetDer())
			if err == nil && slot.GetVerified() {
				t.trust(cert, group)
			}
		}
		if group.GetSymmetricKey() == nil {
			continue
		}
		keys, err := g.open(tenant, group)
		if err != nil {
			g.logger.Error("enrollment group lets nobody in: is this the master key it was made with?", "tenant", tenant, "group", r.ID, "error", err)
			continue
		}
		group.Keys = &keys
		t.symmetric = append(t.symmetric, group)
	}
	return t
}

// trust has the certificate's chains lead to the group.
func (t *Tenant) trust(cert *x509.Certificate, group *Group) {
	t.authorities.AddCert(cert)
	t.bySigner[sha256.Sum256(cert.Raw)] = group
}

func (g *Groups) open(tenant string, group *Group) (device.Keys, error) {
	sealed := group.GetSymmetricKey()
	if group.ID == device.DefaultGroup && len(sealed.GetPrimary()) == 0 {
		return g.keys.GroupKeys(tenant), nil
	}
	return g.keys.OpenKeys(Place(tenant, group.ID), sealed)
}

// Get is the group; nil when there is none.
func (t *Tenant) Get(id string) *Group { return t.groups[id] }

// KeysOf are the symmetric keys of the group; nil when there is no such group or
// it has none.
func (t *Tenant) KeysOf(id string) *device.Keys {
	if group := t.groups[id]; group != nil {
		return group.Keys
	}
	return nil
}

// Symmetric are the groups that have symmetric keys, in order of their ids.
func (t *Tenant) Symmetric() []*Group { return t.symmetric }

// maxChain bounds the certificates that a device may send.
const maxChain = 8

// Signer finds the group whose verified signing certificate the chain (leaf
// first) leads to, at the time. When it leads to several, it is the one nearest
// to the leaf.
func (t *Tenant) Signer(chain []*x509.Certificate, at time.Time) (*Group, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("the device sent %d certificates: send its own and those between it and the CA, at most %d", len(chain), maxChain)
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: t.authorities, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("the certificate does not lead to a verified signing certificate of an enrollment group: %w", err)
	}
	var shortest []*x509.Certificate
	for _, path := range paths {
		if len(path) > 1 && (shortest == nil || len(path) < len(shortest)) { // the CA itself is no device
			shortest = path
		}
	}
	if shortest == nil {
		return nil, fmt.Errorf("the certificate is a CA's: sign one for the device with it")
	}
	return t.bySigner[sha256.Sum256(shortest[len(shortest)-1].Raw)], nil
}
