package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/google/renameio/v2"
)

const (
	// maxTokenBytes bounds what is hashed for a caller nobody knows yet.
	maxTokenBytes = 4 << 10
	hashBytes     = sha256.Size
	sasScheme     = "SharedAccessSignature "
)

// AdminToken is the administrator's token, which is in a file beside the log.
type AdminToken struct {
	hash      [sha256.Size]byte
	principal Principal
}

// OpenAdminToken reads the administrator's token file, and makes one the first
// time; created says which. The file holds the token in IoT Central's form, so
// that it is the whole value of an Authorization header.
func OpenAdminToken(path string) (admin *AdminToken, created bool, err error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		created = true
		content, err = createAdminToken(path)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open administrator token: %w", err)
	}
	token, err := BareToken(string(content))
	if err != nil {
		return nil, false, fmt.Errorf("administrator token file %s: %w; delete it and start again to have a new one made", path, err)
	}
	return &AdminToken{sha256.Sum256([]byte(token)), Principal{ID: "token:admin", Tenant: DefaultTenant, Grants: Everything()}}, created, nil
}

func createAdminToken(path string) ([]byte, error) {
	content := []byte(newToken(DefaultTenant, "admin", time.Time{}))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return content, renameio.WriteFile(path, content, 0o600)
}

// newToken makes a token in IoT Central's form (FEATURES.md TOK-02). The signature is
// random: nothing can be derived from any of its parts.
func newToken(tenant, id string, expiry time.Time) string {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	token := sasScheme + "sr=" + tenant + "&sig=" + url.QueryEscape(base64.StdEncoding.EncodeToString(secret)) + "&skn=" + id
	if !expiry.IsZero() {
		token += "&se=" + strconv.FormatInt(expiry.UnixMilli(), 10)
	}
	return token
}

// NewToken makes an API token, and what is kept of it.
func NewToken(tenant, id string, expiry time.Time) (token string, hash []byte) {
	token = newToken(tenant, id, expiry)
	sum := sha256.Sum256([]byte(strings.TrimPrefix(token, sasScheme)))
	return token, sum[:]
}

// BareToken strips the schemes a token may come in: `Bearer`, and the
// `SharedAccessSignature` that IoT Central's tokens begin with.
func BareToken(header string) (string, error) {
	token := strings.TrimSpace(header)
	for _, scheme := range []string{"Bearer ", sasScheme} {
		if len(token) >= len(scheme) && strings.EqualFold(token[:len(scheme)], scheme) {
			token = strings.TrimSpace(token[len(scheme):])
		}
	}
	if token == "" || len(token) > maxTokenBytes {
		return "", errors.New("no token, or one that is too long")
	}
	return token, nil
}

// Authenticate knows the administrator's token.
func (t *AdminToken) Authenticate(_ context.Context, header string) (Principal, error) {
	token, err := BareToken(header)
	if err != nil {
		return Principal{}, ErrUnauthenticated
	}
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(t.hash[:], sum[:]) != 1 {
		return Principal{}, ErrUnauthenticated
	}
	return t.principal, nil
}

// NewAdminToken is an administrator of the tenant by this token.
func NewAdminToken(token, tenant string) *AdminToken {
	return &AdminToken{sha256.Sum256([]byte(token)), Principal{ID: "token:admin", Tenant: tenant, Grants: Everything()}}
}

// Tokens knows the API tokens of the directory's tenants.
type Tokens struct{ directory *Directory }

// NewTokens knows the directory's tokens.
func NewTokens(d *Directory) *Tokens { return &Tokens{d} }

// Authenticate knows a token that its tenant has, until it expires. It finds it by the
// names that it carries, which are no secret, and compares hashes in constant time.
func (t *Tokens) Authenticate(_ context.Context, header string) (Principal, error) {
	bare, err := BareToken(header)
	if err != nil || !strings.HasPrefix(bare, "sr=") {
		return Principal{}, ErrUnauthenticated
	}
	fields, err := url.ParseQuery(bare)
	if err != nil {
		return Principal{}, ErrUnauthenticated
	}
	if err := t.directory.catalog.Ready(); err != nil {
		return Principal{}, err
	}
	tenant, id := fields.Get("sr"), fields.Get("skn")
	known := &eventsv1.ApiToken{Hash: make([]byte, hashBytes)} // what nobody's token hashes to
	if r := t.directory.catalog.Get(tenant, TokenKind, id); r != nil {
		known = r.Body.(*eventsv1.ApiToken)
	}
	sum := sha256.Sum256([]byte(bare))
	if subtle.ConstantTimeCompare(known.GetHash(), sum[:]) != 1 || !time.Now().Before(known.GetExpiry().AsTime()) {
		return Principal{}, ErrUnauthenticated
	}
	return t.directory.tokenPrincipal(tenant, id), nil
}
