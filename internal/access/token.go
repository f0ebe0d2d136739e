package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// maxTokenBytes bounds what is hashed for a caller nobody knows yet.
const maxTokenBytes = 4 << 10

// Tokens knows the API tokens by their hashes.
type Tokens struct {
	principals map[[sha256.Size]byte]Principal
}

// OpenAdminToken reads the administrator's token file, and makes one the first
// time; created says which. The file holds the token in IoT Central's form, so
// that it is the whole value of an Authorization header.
func OpenAdminToken(path string) (tokens *Tokens, created bool, err error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		created = true
		content, err = createAdminToken(path)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open administrator token: %w", err)
	}
	token, err := bareToken(string(content))
	if err != nil {
		return nil, false, fmt.Errorf("administrator token file %s: %w; delete it and start again to have a new one made", path, err)
	}
	admin := Principal{ID: "token:admin", Tenant: DefaultTenant}
	return &Tokens{principals: map[[sha256.Size]byte]Principal{sha256.Sum256([]byte(token)): admin}}, created, nil
}

func createAdminToken(path string) ([]byte, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	sig := url.QueryEscape(base64.StdEncoding.EncodeToString(secret))
	content := []byte(sasScheme + "sr=" + DefaultTenant + "&sig=" + sig + "&skn=admin")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return content, renameio.WriteFile(path, content, 0o600)
}

const sasScheme = "SharedAccessSignature "

// bareToken strips the schemes a token may come in: `Bearer`, and the
// `SharedAccessSignature` that IoT Central's tokens begin with.
func bareToken(header string) (string, error) {
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

// Authenticate finds the principal of an Authorization header's value. Tokens
// are looked up by hash, so the time it takes says nothing about how much of a
// guess was right.
func (t *Tokens) Authenticate(header string) (Principal, error) {
	token, err := bareToken(header)
	if err != nil {
		return Principal{}, ErrUnauthenticated
	}
	sum := sha256.Sum256([]byte(token))
	for known, p := range t.principals {
		if subtle.ConstantTimeCompare(known[:], sum[:]) == 1 {
			return p, nil
		}
	}
	return Principal{}, ErrUnauthenticated
}

// NewTokens knows the principals by their tokens.
func NewTokens(principals map[string]Principal) *Tokens {
	known := map[[sha256.Size]byte]Principal{}
	for token, p := range principals {
		known[sha256.Sum256([]byte(token))] = p
	}
	return &Tokens{principals: known}
}
