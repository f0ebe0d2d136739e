package https

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/files"
)

// upload is one upload of a device: what the platform hands out signed, so that
// any node knows it again, after a restart too.
type upload struct {
	id      files.Upload
	name    files.Name
	expires time.Time
}

// signer signs what devices get and give back.
type signer struct{ key []byte }

// errSignature is returned for what this platform has not signed, or that is over.
var errSignature = errors.New("the signature is not ours, is for another file, or has expired")

func (s signer) sum(purpose string, fields ...string) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(purpose))
	var length [8]byte
	for _, field := range fields { // with lengths, so that no two lists are alike
		binary.BigEndian.PutUint64(length[:], uint64(len(field)))
		mac.Write(length[:])
		mac.Write([]byte(field))
	}
	return mac.Sum(nil)
}

const (
	uploadPermissions = "cw" // create and write, as Azure writes it
	tokenVersion      = "2021-04-12"
)

// token is the query of the address that takes the upload, in the shape of an
// Azure service SAS; Azure's clients pass on its parameters and no others.
func (s signer) token(u upload) string {
	expiry, id := u.expires.UTC().Format(time.RFC3339), hex.EncodeToString(u.id[:])
	query := url.Values{"sv": {tokenVersion}, "sr": {"b"}, "sp": {uploadPermissions}, "se": {expiry}, "scid": {id}}
	query.Set("sig", base64.StdEncoding.EncodeToString(s.sum("blob", u.name.Tenant(), u.name.Blob(), expiry, id)))
	return "?" + query.Encode()
}

// parseToken is the upload of a token for the file of that name.
func (s signer) parseToken(query url.Values, container, blob string, now time.Time) (upload, error) {
	expiry, id := query.Get("se"), query.Get("scid")
	sig, err := base64.StdEncoding.DecodeString(query.Get("sig"))
	if err != nil || !hmac.Equal(sig, s.sum("blob", container, blob, expiry, id)) {
		return upload{}, errSignature
	}
	return s.parseUpload(container, blob, expiry, id, now)
}

// parseUpload reads what has been signed.
func (signer) parseUpload(tenant, blob, expiry, id string, now time.Time) (upload, error) {
	var u upload
	var err error
	if u.expires, err = time.Parse(time.RFC3339, expiry); err != nil || !now.Before(u.expires) {
		return u, errSignature
	}
	if n, err := hex.Decode(u.id[:], []byte(id)); err != nil || n != len(u.id) {
		return u, errSignature
	}
	if u.name, err = files.ParseBlob(tenant, blob); err != nil {
		return u, fmt.Errorf("%w: %w", errSignature, err)
	}
	return u, nil
}

// correlation is the upload's id with the device: the upload itself, signed.
func (s signer) correlation(u upload) string {
	expiry, id := u.expires.UTC().Format(time.RFC3339), hex.EncodeToString(u.id[:])
	text := strings.Join([]string{expiry, id, u.name.Blob()}, "\n")
	return base64.RawURLEncoding.EncodeToString(append(s.sum("correlation", u.name.Tenant(), text), text...))
}

// maxCorrelationBytes has room for the longest name in base64.
const maxCorrelationBytes = 2048

// parseCorrelation is the upload of a device's correlation id.
func (s signer) parseCorrelation(correlation string, c caller, now time.Time) (upload, error) {
	if len(correlation) > maxCorrelationBytes {
		return upload{}, errSignature
	}
	decoded, err := base64.RawURLEncoding.DecodeString(correlation)
	if err != nil || len(decoded) < sha256.Size {
		return upload{}, errSignature
	}
	text := string(decoded[sha256.Size:])
	if !hmac.Equal(decoded[:sha256.Size], s.sum("correlation", c.tenant, text)) {
		return upload{}, errSignature
	}
	fields := strings.SplitN(text, "\n", 3)
	if len(fields) != 3 {
		return upload{}, errSignature
	}
	u, err := s.parseUpload(c.tenant, fields[2], fields[0], fields[1], now)
	if err == nil && u.name.Device() != c.device {
		err = errSignature
	}
	return u, err
}
