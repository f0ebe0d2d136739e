// Package seal encrypts the secrets that have to be on the log: in goes a secret
// and the name of the place it stands in, out come bytes that only this
// installation can open, and only in that place.
//
// It is XChaCha20-Poly1305 under a key derived by HKDF-SHA256 from a secret that
// is not on the log. What is sealed can be neither read nor changed nor moved to
// another tenant or resource.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrOpen is returned for bytes that were not sealed here for this place. It
// says no more.
var ErrOpen = errors.New("a sealed secret cannot be opened: it was sealed under another master key, or for another resource")

// version is the first byte of what is sealed, so that a later form can be told
// from this one.
const version = 1

// Sealer seals and opens. It is safe for concurrent use.
type Sealer struct{ aead cipher.AEAD }

// New derives a sealer from a secret of at least 32 random bytes.
func New(secret []byte) (*Sealer, error) {
	if len(secret) < 32 {
		return nil, fmt.Errorf("seal: the secret has %d bytes, at least 32 are needed", len(secret))
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "fleetlog/seal/v1", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("seal: derive key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Sealer{aead: aead}, nil
}

// Seal encrypts a secret for the place it will stand in. Two seals of one secret
// differ.
func (s *Sealer) Seal(place string, secret []byte) []byte {
	sealed := make([]byte, 1+chacha20poly1305.NonceSizeX, 1+chacha20poly1305.NonceSizeX+len(secret)+chacha20poly1305.Overhead)
	sealed[0] = version
	nonce := sealed[1:]
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return s.aead.Seal(sealed, nonce, secret, []byte(place))
}

// Open decrypts what Seal made for the same place, else [ErrOpen].
func (s *Sealer) Open(place string, sealed []byte) ([]byte, error) {
	const head = 1 + chacha20poly1305.NonceSizeX
	if len(sealed) < head+chacha20poly1305.Overhead || sealed[0] != version {
		return nil, ErrOpen
	}
	secret, err := s.aead.Open(nil, sealed[1:head], sealed[head:], []byte(place))
	if err != nil {
		return nil, ErrOpen
	}
	return secret, nil
}
