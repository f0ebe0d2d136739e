package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// TestAProvidersTokenOpensTheAPI has a group of an identity provider let in, and somebody
// of it ask over REST and in SQL.
func TestAProvidersTokenOpensTheAPI(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	mux := http.NewServeMux()
	provider := httptest.NewServer(mux)
	defer provider.Close()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": provider.URL, "jwks_uri": provider.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256"}}})
	})
	config := filepath.Join(t.TempDir(), "oidc.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "providers: [{issuer: '%s', audience: [fleetlog], directory: factory}]", provider.URL), 0o600))
	p := startProcess(t, t.TempDir(), "--oidc-config", config)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	require.NoError(t, err)
	payload, err := json.Marshal(map[string]any{"iss": provider.URL, "aud": "fleetlog", "sub": "u-1", "groups": []string{"/operators"}, "exp": time.Now().Add(time.Hour).Unix()})
	require.NoError(t, err)
	signed, err := signer.Sign(payload)
	require.NoError(t, err)
	token, err := signed.CompactSerialize()
	require.NoError(t, err)

	admin := p.token
	p.token = "Bearer " + token
	status, answer := p.json(http.MethodGet, "/api/devices", nil)
	require.Equal(t, http.StatusForbidden, status, "%v", answer)
	p.token = admin
	p.ok(http.MethodPut, "/api/users/operators", map[string]any{"type": "adGroup", "tenantId": "factory", "objectId": "/operators", "roles": []any{map[string]any{"role": "ae2c9854-393b-4f97-8c42-479d70ce626e"}}})
	p.token = "Bearer " + token
	p.ok(http.MethodPut, "/api/devices/d", map[string]any{})
	status, answer = p.json(http.MethodPut, "/api/roles/x", map[string]any{"displayName": "X"})
	require.Equal(t, http.StatusForbidden, status, "%v", answer)
	p.token = "Bearer " + token + "x"
	status, _ = p.json(http.MethodGet, "/api/devices", nil)
	require.Equal(t, http.StatusUnauthorized, status)
	p.token = admin
	require.Eventually(t, func() bool { return len(p.audit("actor=oidc:factory/u-1&kind=devices")) == 1 }, 30*time.Second, 100*time.Millisecond)
}
