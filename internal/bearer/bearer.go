// Package bearer lets in people and programs who have a token of an identity provider
// (OpenID Connect): Entra ID, Keycloak or any other.
//
// In goes the value of an Authorization header, `Bearer <JWT>`; out comes the principal
// with the roles of all users that the token is of: the one with its e-mail address, the
// service principal with its object, the groups that it names. A token of somebody who is
// no user is good for nothing.
package bearer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"

	"github.com/fleetlog/fleetlog/internal/access"
)

const (
	maxTokenBytes = 16 << 10
	maxGroups     = 500 // of one token
	fetchTimeout  = 10 * time.Second
	// fetchEvery bounds how often a provider is asked for its keys: anybody can send a
	// token that names a key nobody has.
	fetchEvery = 5 * time.Second
	fetchBurst = 4
)

// algorithms are the signatures that are taken: none that is made with a key the caller
// may know (RFC 8725 §3.1).
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// Users are those whom tokens may be of. [access.Directory] knows them.
type Users interface {
	Ready() error
	ByEmail(tenant, email string) []string
	ByObject(tenant, directoryTenant, objectID string) []string
	ByGroup(tenant, directoryTenant string, groups ...string) []string
	Principal(tenant, name string, users ...string) access.Principal
}

// Authenticator knows the tokens of identity providers.
type Authenticator struct {
	users   Users
	logger  *slog.Logger
	issuers map[string]*issuer
}

// issuer is a provider, once something of it has come.
type issuer struct {
	*Provider

	client *http.Client

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
}

// New makes an authenticator. It does not ask the providers before somebody comes with a
// token of theirs.
func New(providers []*Provider, users Users, logger *slog.Logger) (*Authenticator, error) {
	a := &Authenticator{users: users, logger: logger, issuers: map[string]*issuer{}}
	for _, p := range providers {
		client, err := clientOf(p)
		if err != nil {
			return nil, err
		}
		a.issuers[p.Issuer] = &issuer{Provider: p, client: client}
	}
	return a, nil
}

func clientOf(p *Provider) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if p.CA != "" {
		pem, err := os.ReadFile(p.CA)
		if err != nil {
			return nil, fmt.Errorf("CA of issuer %s: %w", p.Issuer, err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA of issuer %s: %s has no certificate", p.Issuer, p.CA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Timeout: fetchTimeout, Transport: &paced{transport, rate.NewLimiter(rate.Every(fetchEvery), fetchBurst)}}, nil
}

// paced asks no more often than its limit lets it.
type paced struct {
	next  http.RoundTripper
	limit *rate.Limiter
}

// RoundTrip fails at once when it was called too often.
func (p *paced) RoundTrip(r *http.Request) (*http.Response, error) {
	if !p.limit.Allow() {
		return nil, errors.New("the identity provider was asked too often for keys that it does not have")
	}
	return p.next.RoundTrip(r)
}

// Authenticate is who a token is of. What is wrong with one is in the log, not in the
// answer.
func (a *Authenticator) Authenticate(ctx context.Context, header string) (access.Principal, error) {
	scheme, token, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "Bearer") || strings.Count(token, ".") != 2 || len(token) > maxTokenBytes {
		return access.Principal{}, access.ErrUnauthenticated
	}
	if err := a.users.Ready(); err != nil {
		return access.Principal{}, err
	}
	from := a.issuers[claimedIssuer(token)]
	if from == nil {
		return access.Principal{}, access.ErrUnauthenticated
	}
	c, err := from.verify(ctx, token)
	if err != nil {
		a.logger.Info("a token of an identity provider is not taken", "issuer", from.Issuer, "error", err)
		return access.Principal{}, access.ErrUnauthenticated
	}
	return a.principal(from, c), nil
}

// claimedIssuer is what an unverified token says, to know whom to ask.
func claimedIssuer(token string) string {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

// claims are what counts of a token.
type claims struct {
	Subject       string `json:"sub"`
	Object        string `json:"oid"`
	Directory     string `json:"tid"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
	groups        []string
}

// verify checks signature, issuer, audience and times.
func (i *issuer) verify(ctx context.Context, token string) (*claims, error) {
	verifier, err := i.known(ctx)
	if err != nil {
		return nil, err
	}
	verified, err := verifier.Verify(oidc.ClientContext(ctx, i.client), token)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(verified.Audience, func(aud string) bool { return slices.Contains(i.Audience, aud) }) {
		return nil, fmt.Errorf("it is for %.200q, not for us", verified.Audience)
	}
	// What a provider calls a directory is the operator's to say, so that none speaks for
	// another one's people.
	c, all := &claims{}, map[string]json.RawMessage{}
	if err := errors.Join(verified.Claims(c), verified.Claims(&all)); err != nil {
		return nil, fmt.Errorf("read its claims: %w", err)
	}
	if c.Directory != "" && c.Directory != i.Directory {
		return nil, fmt.Errorf("it is of directory %.100q, not of %s", c.Directory, i.Directory)
	}
	if raw, there := all[i.Groups]; there {
		if err := json.Unmarshal(raw, &c.groups); err != nil {
			return nil, fmt.Errorf("its claim %s is no list of texts: %w", i.Groups, err)
		}
	}
	if len(c.groups) > maxGroups {
		return nil, fmt.Errorf("it names %d groups: at most %d are looked at; have the provider name those of this application alone", len(c.groups), maxGroups)
	}
	return c, nil
}

// known is the provider's verifier. It is asked for its keys when it is first needed, and
// by the next caller again if that failed.
func (i *issuer) known(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verifier != nil {
		return i.verifier, nil
	}
	// Not the caller's context: the key set lives on.
	asked, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), i.client), i.Issuer)
	if err != nil {
		return nil, fmt.Errorf("ask the provider about itself: %w", err)
	}
	i.verifier = asked.Verifier(&oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: algorithms})
	return i.verifier, nil
}

// principal gathers the roles of all users that the token is of.
func (a *Authenticator) principal(from *issuer, c *claims) access.Principal {
	directory, object := from.Directory, c.Object
	if object == "" {
		object = c.Subject
	}
	users := a.users.ByObject(from.Tenant, directory, object)
	if c.Email != "" && (c.EmailVerified || from.TrustEmail) {
		users = slices.Concat(users, a.users.ByEmail(from.Tenant, c.Email))
	}
	name := "oidc:" + directory + "/" + object
	if len(users) > 0 {
		name = "user:" + users[0]
	}
	return a.users.Principal(from.Tenant, name, slices.Concat(users, a.users.ByGroup(from.Tenant, directory, c.groups...))...)
}
