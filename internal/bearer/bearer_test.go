package bearer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"golang.org/x/oauth2"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var quiet = slog.New(slog.DiscardHandler)

// people is a directory with one user of each kind.
func people(t *testing.T, tenantID string) *access.Directory {
	t.Helper()
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(t, err)
	c := catalog.New(log, quiet, access.Kinds()...)
	d := access.NewDirectory(c)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended); log.Close() })
	require.Eventually(t, func() bool { return c.Ready() == nil }, 20*time.Second, time.Millisecond)
	for id, u := range map[string]*eventsv1.User{
		"anna":  {Subject: &eventsv1.User_Email{Email: "Anna@Contoso.com"}},
		"robot": {Subject: &eventsv1.User_ServicePrincipal{ServicePrincipal: &eventsv1.DirectoryObject{TenantId: tenantID, ObjectId: "robot-1"}}},
		"crew":  {Subject: &eventsv1.User_AdGroup{AdGroup: &eventsv1.DirectoryObject{TenantId: tenantID, ObjectId: "group-1"}}},
		"id1":   {Subject: &eventsv1.User_ServicePrincipal{ServicePrincipal: &eventsv1.DirectoryObject{TenantId: tenantID, ObjectId: "id1"}}},
	} {
		role := map[string]string{"anna": access.Operator, "robot": access.Builder, "crew": access.Administrator, "id1": access.Operator}[id]
		u.Roles = []*eventsv1.RoleAssignment{{Role: role}}
		_, err := c.Change(t.Context(), &eventsv1.CatalogEvent{
			Id: eventlog.NewID(), Tenant: access.DefaultTenant, Kind: access.UserKind, Resource: id, Time: timestamppb.Now(), Change: &eventsv1.CatalogEvent_User{User: u},
		})
		require.NoError(t, err)
	}
	return d
}

// idp is a provider that signs whatever it is told to.
type idp struct {
	*httptest.Server

	key     *rsa.PrivateKey
	fetched atomic.Int32 // of its keys
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p := &idp{key: key}
	mux := http.NewServeMux()
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/a", "token_endpoint": p.URL + "/t",
			"id_token_signing_alg_values_supported": []string{"none", "HS256", "RS256"}}) // what a provider offers is not what is taken
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.fetched.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	})
	return p
}

// caFile is the provider's certificate.
func caFile(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return path
}

// signed is a token by any key and algorithm.
func signed(t *testing.T, algorithm jose.SignatureAlgorithm, key any, headers map[jose.HeaderKey]any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, &jose.SignerOptions{ExtraHeaders: headers})
	require.NoError(t, err)
	payload, err := json.Marshal(claims)
	require.NoError(t, err)
	object, err := signer.Sign(payload)
	require.NoError(t, err)
	token, err := object.CompactSerialize()
	require.NoError(t, err)
	return token
}

func newAuthenticator(t *testing.T, d *access.Directory, providers ...*Provider) *Authenticator {
	t.Helper()
	for _, p := range providers {
		require.NoError(t, p.check())
	}
	a, err := New(providers, d, quiet)
	require.NoError(t, err)
	return a
}

// TestWhoATokenIsOf has tokens with every claim that counts.
func TestWhoATokenIsOf(t *testing.T) {
	provider := newIDP(t)
	d := people(t, "dir-1")
	a := newAuthenticator(t, d, &Provider{Issuer: provider.URL, Audience: []string{"fleetlog"}, Directory: "dir-1", CA: caFile(t, provider.Server)})
	ask := func(extra map[string]any) (access.Principal, error) {
		claims := map[string]any{"iss": provider.URL, "aud": "fleetlog", "sub": "somebody", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
		maps.Copy(claims, extra)
		return a.Authenticate(t.Context(), "Bearer "+signed(t, jose.RS256, provider.key, map[jose.HeaderKey]any{"kid": "k1"}, claims))
	}
	can := func(p access.Principal, name string) bool {
		permission, err := access.ParsePermission(name)
		require.NoError(t, err)
		return p.Scope(permission).Everywhere()
	}
	p, err := ask(map[string]any{"email": "anna@contoso.COM", "email_verified": true})
	require.NoError(t, err)
	require.Equal(t, "user:anna", p.ID)
	require.True(t, can(p, "devices.view") && !can(p, "deviceTemplates.manage"))

	p, err = ask(map[string]any{"email": "anna@contoso.com", "email_verified": false})
	require.NoError(t, err)
	require.False(t, can(p, "devices.view"), "whoever enters an address is not its owner")
	require.Equal(t, "oidc:dir-1/somebody", p.ID)

	p, err = ask(map[string]any{"oid": "robot-1", "tid": "dir-1"})
	require.NoError(t, err)
	require.Equal(t, "user:robot", p.ID)
	require.True(t, can(p, "deviceTemplates.manage") && !can(p, "apiTokens.create"))

	p, err = ask(map[string]any{"email": "anna@contoso.com", "email_verified": true, "groups": []string{"group-9", "group-1"}})
	require.NoError(t, err)
	require.Equal(t, "user:anna", p.ID)
	require.True(t, can(p, "apiTokens.create"), "the group's roles, too")

	_, err = ask(map[string]any{"oid": "robot-1", "tid": "dir-2"})
	require.ErrorIs(t, err, access.ErrUnauthenticated, "no provider speaks for another's people")
	_, err = ask(map[string]any{"groups": make([]string, maxGroups+1)})
	require.ErrorIs(t, err, access.ErrUnauthenticated)
	_, err = ask(map[string]any{"groups": "group-1"})
	require.ErrorIs(t, err, access.ErrUnauthenticated)
}

// TestTokensThatAreRefused are those of the books (RFC 8725).
func TestTokensThatAreRefused(t *testing.T) {
	provider, other := newIDP(t), newIDP(t)
	d := people(t, "dir-1")
	a := newAuthenticator(t, d, &Provider{Issuer: provider.URL, Audience: []string{"fleetlog"}, CA: caFile(t, provider.Server)}, &Provider{Issuer: other.URL, Audience: []string{"fleetlog"}, CA: caFile(t, other.Server)})
	good := func() map[string]any {
		return map[string]any{"iss": provider.URL, "aud": []string{"other", "fleetlog"}, "sub": "s", "email": "anna@contoso.com", "email_verified": true, "exp": time.Now().Add(time.Hour).Unix()}
	}
	with := func(change map[string]any) map[string]any { c := good(); maps.Copy(c, change); return c }
	kid := map[jose.HeaderKey]any{"kid": "k1"}
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	public, err := json.Marshal(jose.JSONWebKey{Key: &provider.key.PublicKey})
	require.NoError(t, err)
	payload, err := json.Marshal(good())
	require.NoError(t, err)
	part := base64.RawURLEncoding.EncodeToString
	valid := signed(t, jose.RS256, provider.key, kid, good())
	_, err = a.Authenticate(t.Context(), "Bearer "+valid)
	require.NoError(t, err)
	for name, token := range map[string]string{
		"no algorithm":               part([]byte(`{"alg":"none"}`)) + "." + part(payload) + ".",
		"no algorithm, in capitals":  part([]byte(`{"alg":"NoNe","kid":"k1"}`)) + "." + part(payload) + ".",
		"the public key as a secret": signed(t, jose.HS256, public, kid, good()),
		"another key":                signed(t, jose.RS256, other.key, kid, good()),
		"another kind of key":        signed(t, jose.ES256, elliptic, kid, good()),
		"a key that it brings":       signed(t, jose.RS256, other.key, map[jose.HeaderKey]any{"kid": "k1", "jwk": jose.JSONWebKey{Key: &other.key.PublicKey}}, good()),
		"a key from elsewhere":       signed(t, jose.RS256, other.key, map[jose.HeaderKey]any{"kid": "k1", "jku": other.URL + "/keys", "x5u": other.URL}, good()),
		"another issuer's name":      signed(t, jose.RS256, other.key, kid, good()),
		"an issuer nobody knows":     signed(t, jose.RS256, provider.key, kid, with(map[string]any{"iss": "https://evil.example"})),
		"the other issuer":           signed(t, jose.RS256, provider.key, kid, with(map[string]any{"iss": other.URL})),
		"for others":                 signed(t, jose.RS256, provider.key, kid, with(map[string]any{"aud": "other"})),
		"for nobody":                 signed(t, jose.RS256, provider.key, kid, with(map[string]any{"aud": []string{}})),
		"over":                       signed(t, jose.RS256, provider.key, kid, with(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})),
		"without an end":             signed(t, jose.RS256, provider.key, kid, with(map[string]any{"exp": nil})),
		"not yet":                    signed(t, jose.RS256, provider.key, kid, with(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})),
		"changed":                    strings.Replace(valid, part(payload)[:20], part([]byte(`{"iss":"x","aud":1}`))[:20], 1) + "x",
		"without a signature":        valid[:strings.LastIndex(valid, ".")+1],
		"no JSON":                    "a.b.c",
		"long":                       valid + strings.Repeat("x", maxTokenBytes),
		"in five parts":              valid + ".x.y",
	} {
		_, err := a.Authenticate(t.Context(), "Bearer "+token)
		require.ErrorIs(t, err, access.ErrUnauthenticated, name)
	}
	_, err = a.Authenticate(t.Context(), "Basic "+valid)
	require.ErrorIs(t, err, access.ErrUnauthenticated)

	// Keys that nobody has do not make us ask for ever.
	for i := range 50 {
		_, err := a.Authenticate(t.Context(), "Bearer "+signed(t, jose.RS256, other.key, map[jose.HeaderKey]any{"kid": fmt.Sprint(i)}, good()))
		require.ErrorIs(t, err, access.ErrUnauthenticated)
	}
	require.LessOrEqual(t, provider.fetched.Load(), int32(fetchBurst+1))
	_, err = a.Authenticate(t.Context(), "Bearer "+valid)
	require.NoError(t, err, "and those who have one are let in meanwhile")
}

// TestSignInWithARealProvider goes the way of a person: the provider's page, a code, a
// token, which is good for the API.
func TestSignInWithARealProvider(t *testing.T) {
	var handler http.Handler
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer server.Close()
	const redirect = "http://localhost:1234/callback"
	client := storage.NativeClient("fleetlog", redirect)
	store := storage.NewStorageWithClients(storage.NewUserStore(server.URL), map[string]*storage.Client{"fleetlog": client})
	handler = exampleop.SetupServer(server.URL, store, quiet, false)

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := server.Client()
	browser.Jar = jar
	browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirect) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(t.Context(), browser), server.URL)
	require.NoError(t, err)
	flow := &oauth2.Config{ClientID: "fleetlog", RedirectURL: redirect, Scopes: []string{"openid", "email", "profile"}, Endpoint: provider.Endpoint()}
	verifier := oauth2.GenerateVerifier()
	page, err := browser.Get(flow.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)))
	require.NoError(t, err)
	html, err := io.ReadAll(page.Body)
	require.NoError(t, err)
	require.NoError(t, page.Body.Close())
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindSubmatch(html)
	require.NotNil(t, id, "%s: %s", page.Request.URL, html)
	answer, err := browser.PostForm(server.URL+"/login/username", url.Values{"id": {string(id[1])}, "username": {"test-user@" + strings.Split(strings.TrimPrefix(server.URL, "https://"), ":")[0]}, "password": {"verysecure"}})
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	back, err := answer.Location()
	require.NoError(t, err)
	require.Equal(t, "state", back.Query().Get("state"))
	tokens, err := flow.Exchange(context.WithValue(t.Context(), oauth2.HTTPClient, browser), back.Query().Get("code"), oauth2.VerifierOption(verifier))
	require.NoError(t, err)

	a := newAuthenticator(t, people(t, "dir-1"), &Provider{Issuer: server.URL, Audience: []string{"fleetlog"}, Directory: "dir-1", CA: caFile(t, server)})
	p, err := a.Authenticate(t.Context(), "Bearer "+tokens.Extra("id_token").(string))
	require.NoError(t, err)
	require.Equal(t, "user:id1", p.ID)
	require.NotEmpty(t, p.Grants)
}

func TestProvidersThatCannotBe(t *testing.T) {
	for _, tc := range []struct{ name, file, says string }{
		{"good", "providers: [{issuer: 'https://login.microsoftonline.com/abc/v2.0', audience: ['x']}]", ""},
		{"loopback", "providers: [{issuer: 'http://127.0.0.1:8080/realms/r', audience: ['x']}]", ""},
		{"none", "", "0 providers"},
		{"plain", "providers: [{issuer: 'http://idp.example', audience: ['x']}]", "must be https"},
		{"no URL", "providers: [{issuer: 'idp', audience: ['x']}]", "is no URL"},
		{"no audience", "providers: [{issuer: 'https://idp.example'}]", "has no audience"},
		{"twice", "providers: [{issuer: 'https://idp.example', audience: ['x']}, {issuer: 'https://idp.example', audience: ['y']}]", "twice"},
		{"unknown field", "providers: [{issuer: 'https://idp.example', audience: ['x'], secret: y}]", "secret"},
		{"empty one", "providers: [null]", "empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			providers, err := parse([]byte(tc.file))
			if tc.says != "" {
				require.ErrorContains(t, err, tc.says)
				return
			}
			require.NoError(t, err)
			require.Equal(t, access.DefaultTenant, providers[0].Tenant)
			require.Contains(t, []string{"abc", "127.0.0.1"}, providers[0].Directory)
		})
	}
}

func FuzzProviders(f *testing.F) {
	f.Add([]byte("providers: [{issuer: 'https://idp.example', audience: ['x']}]"))
	f.Add([]byte("providers: [null]"))
	f.Fuzz(func(_ *testing.T, content []byte) { _, _ = parse(content) })
}

func FuzzClaimedIssuer(f *testing.F) {
	f.Add("a.eyJpc3MiOiJ4In0.c")
	f.Fuzz(func(_ *testing.T, token string) {
		if strings.Count(token, ".") == 2 {
			claimedIssuer(token)
		}
	})
}
