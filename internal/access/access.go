// Package access says who a caller is and for which tenant: the seam every
// request goes through before it reads or changes anything.
//
// In goes a credential, out comes a Principal or an error; the principal then
// travels in the context, and its tenant is part of every key, row and query.
// Until roles exist there is one tenant and one administrator.
package access

import (
	"context"
	"errors"
)

// DefaultTenant is the tenant that the first start creates.
const DefaultTenant = "default"

// Principal is an authenticated caller.
type Principal struct {
	// ID names the credential for the record of who did what, `token:admin`.
	ID string
	// Tenant the caller may see and change.
	Tenant string
}

// ErrUnauthenticated is returned for a credential that is missing or wrong.
var ErrUnauthenticated = errors.New("no valid API token: send the token from <data-dir>/admin-token as `Authorization: Bearer <token>`")

type contextKey struct{}

// WithPrincipal puts the principal into the context.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext is the request's principal; the error is ErrUnauthenticated when
// nobody put one there, so a door without a check stays shut.
func FromContext(ctx context.Context) (Principal, error) {
	p, ok := ctx.Value(contextKey{}).(Principal)
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	return p, nil
}
