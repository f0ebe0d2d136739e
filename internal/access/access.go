// Package access says who a caller is, what it may do, and where.
//
// In goes a credential, out comes a [Principal] or an error. What a call needs stands
// beside it in its proto; whether the principal has it is decided by [Principal.Scope],
// a pure function, before the call is made. The scope then travels in the context: every
// list, read and change is bounded by it, and by the tenant.
package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// DefaultTenant is the tenant that the first start creates.
const DefaultTenant = "default"

// Principal is an authenticated caller.
type Principal struct {
	// ID names the caller for the record of who did what: `token:admin`, `user:anna`.
	ID string
	// Tenant the caller may see and change.
	Tenant string
	// Grants are what it may do there, and where.
	Grants []Grant
}

// Grant is a role that a principal holds.
type Grant struct {
	Permissions Set
	// Organizations are those that it is for, with all below them; nil: the whole tenant.
	Organizations map[string]bool
	// Home is the organization that the role is held for.
	Home string
}

// Everything is the grant of an administrator.
func Everything() []Grant { return []Grant{{Permissions: all}} }

// Scope is where the principal may do what takes the permission.
func (p Principal) Scope(permission Permission) (s Scope) {
	for _, g := range p.Grants {
		switch {
		case !g.Permissions.Has(permission):
		case g.Organizations == nil:
			return Scope{everywhere: true}
		default:
			s.add(g)
		}
	}
	return s
}

// MayGrant reports whether the principal has, wherever the grant is for, all that it
// permits: nobody gives away more than he has. It names what is missing.
func (p Principal) MayGrant(g Grant) (missing Permission, ok bool) {
	for _, permission := range Permissions() {
		if !g.Permissions.Has(permission) {
			continue
		}
		if s := p.Scope(permission); !s.everywhere && (g.Organizations == nil || !s.organizations[g.Home]) {
			return permission, false
		}
	}
	return 0, true
}

// Scope is where in its tenant a caller may do what it asks for. The zero Scope is
// nowhere, so that a door without a check stays shut.
type Scope struct {
	everywhere    bool
	organizations map[string]bool
	homes         []string
}

func (s *Scope) add(g Grant) {
	if s.organizations == nil {
		s.organizations = g.Organizations // shared, and so never written to
	} else {
		s.organizations = maps.Clone(s.organizations)
		maps.Copy(s.organizations, g.Organizations)
	}
	if !slices.Contains(s.homes, g.Home) {
		s.homes = append(s.homes, g.Home)
	}
}

// WholeTenant is the scope of what the platform itself looks for.
func WholeTenant() Scope { return Scope{everywhere: true} }

// Nowhere reports whether there is nothing that the caller may do.
func (s Scope) Nowhere() bool { return !s.everywhere && len(s.organizations) == 0 }

// Everywhere reports whether it is the whole tenant.
func (s Scope) Everywhere() bool { return s.everywhere }

// Has reports whether something of these organizations is in the scope; what is of
// none is the whole tenant's.
func (s Scope) Has(organizations []string) bool {
	if s.everywhere || len(organizations) == 0 {
		return s.everywhere
	}
	for _, id := range organizations {
		if !s.organizations[id] {
			return false
		}
	}
	return true
}

// Organizations are those of the scope, sorted; nil when it is everywhere.
func (s Scope) Organizations() []string {
	if s.everywhere {
		return nil
	}
	return slices.Sorted(maps.Keys(s.organizations))
}

// Home is the organization of what the caller makes without saying whose it is: "" for
// those who may do it everywhere. Who has several must say which.
func (s Scope) Home() (organization string, err error) {
	switch {
	case s.everywhere:
		return "", nil
	case len(s.homes) == 1:
		return s.homes[0], nil
	}
	return "", fmt.Errorf("you have this role in %d organizations: say which one in `organizations`", len(s.homes))
}

// Authenticator finds out who a credential belongs to.
type Authenticator interface {
	// Authenticate is the principal of an Authorization header's value; an error
	// that is ErrUnauthenticated for a credential that is missing or wrong.
	Authenticate(ctx context.Context, header string) (Principal, error)
}

// Any asks one authenticator after the other until one knows the credential.
type Any []Authenticator

// Authenticate is the first answer that is not ErrUnauthenticated.
func (a Any) Authenticate(ctx context.Context, header string) (Principal, error) {
	for _, one := range a {
		if p, err := one.Authenticate(ctx, header); !errors.Is(err, ErrUnauthenticated) {
			return p, err
		}
	}
	return Principal{}, ErrUnauthenticated
}

// ErrUnauthenticated is returned for a credential that is missing or wrong.
var ErrUnauthenticated = errors.New("no valid API token: send the token from <data-dir>/admin-token as `Authorization: Bearer <token>`")

// DeniedError is the refusal of a call that the caller has no permission for.
type DeniedError struct{ Permission Permission }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("you lack the permission %s: ask an administrator for a role that has it", e.Permission)
}

type contextKey struct{}

// caller is what a request carries.
type caller struct {
	principal     Principal
	scope, create Scope
}

// WithCaller puts the principal into the context, and where it may do what it asks for:
// to what there is, and to what there is not yet.
func WithCaller(ctx context.Context, p Principal, scope, create Scope) context.Context {
	return context.WithValue(ctx, contextKey{}, caller{p, scope, create})
}

// FromContext is the request's principal; the error is ErrUnauthenticated when
// nobody put one there, so a door without a check stays shut.
func FromContext(ctx context.Context) (Principal, error) {
	c, ok := ctx.Value(contextKey{}).(caller)
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	return c.principal, nil
}

// ScopeOf is where the caller may do what it asks for: nowhere when nobody put a caller
// into the context.
func ScopeOf(ctx context.Context) Scope {
	c, _ := ctx.Value(contextKey{}).(caller)
	return c.scope
}

// CreateScopeOf is where the caller may make what it asks for.
func CreateScopeOf(ctx context.Context) Scope {
	c, _ := ctx.Value(contextKey{}).(caller)
	return c.create
}
