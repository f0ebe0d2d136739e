// Package sas makes and checks Azure IoT Hub shared access signatures, the
// tokens that devices and tools authenticate with.
//
// In go a key and a resource, or a token and a key; out comes a token, or nil
// or the reason it is not valid. The package holds no keys and never says in an
// error what a token or key contains.
package sas

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxTokenBytes bounds a token before it is looked at.
const MaxTokenBytes = 4 << 10

const scheme = "SharedAccessSignature "

var (
	// ErrMalformed is returned for what is not a token at all.
	ErrMalformed = errors.New("not a SAS token: it reads SharedAccessSignature sr=…&sig=…&se=…")
	// ErrExpired is returned for a well-signed token whose time is over.
	ErrExpired = errors.New("SAS token has expired")
	// ErrBadSignature is returned for a token that another key signed.
	ErrBadSignature = errors.New("SAS token is not signed with this key")
)

// DeviceKey derives a device's key from the key of its enrollment group:
// HMAC-SHA256 of the registration id (DPS, symmetric key attestation).
func DeviceKey(groupKey []byte, registrationID string) []byte {
	mac := hmac.New(sha256.New, groupKey)
	mac.Write([]byte(registrationID))
	return mac.Sum(nil)
}

// Sign makes a token for the resource, such as `{host}/devices/{deviceId}`, that
// is valid until expiry. The policy is left out when empty, as it is for device
// keys.
func Sign(resource string, key []byte, expiry time.Time, policy string) string {
	sr, se := url.QueryEscape(resource), strconv.FormatInt(expiry.Unix(), 10)
	sig := base64.StdEncoding.EncodeToString(signature(sr, se, key))
	token := scheme + "sr=" + sr + "&sig=" + url.QueryEscape(sig) + "&se=" + se
	if policy != "" {
		token += "&skn=" + url.QueryEscape(policy)
	}
	return token
}

func signature(sr, se string, key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(sr))
	mac.Write([]byte{'\n'})
	mac.Write([]byte(se))
	return mac.Sum(nil)
}

// Token is a parsed shared access signature. Nothing in it is to be trusted
// until Verify says so.
type Token struct {
	// Resource is what the token is for, decoded.
	Resource string
	// Expiry is when it ends, to the second.
	Expiry time.Time
	// Policy is the name of the key that signed it, empty for device keys.
	Policy string

	sr, se string // as signed
	sig    []byte
}

// Parse reads a token; its parameters may come in any order. The error is
// always ErrMalformed, with the reason.
func Parse(token string) (Token, error) {
	rest, ok := strings.CutPrefix(token, scheme)
	if !ok || len(token) > MaxTokenBytes {
		return Token{}, ErrMalformed
	}
	var t Token
	seen := map[string]bool{}
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok || seen[name] {
			return Token{}, fmt.Errorf("%w (a parameter is doubled or has no value)", ErrMalformed)
		}
		seen[name] = true
		if err := t.take(name, value); err != nil {
			return Token{}, err
		}
	}
	if t.Resource == "" || t.sig == nil || t.se == "" {
		return Token{}, fmt.Errorf("%w (sr, sig or se is missing)", ErrMalformed)
	}
	return t, nil
}

func (t *Token) take(name, value string) error {
	decoded, err := url.PathUnescape(value)
	if err != nil {
		return fmt.Errorf("%w (%s is not percent-encoded)", ErrMalformed, name)
	}
	switch name {
	case "sr":
		t.sr, t.Resource = value, decoded
	case "sig":
		if t.sig, err = base64.StdEncoding.DecodeString(decoded); err != nil || len(t.sig) != sha256.Size {
			return fmt.Errorf("%w (sig is not the base64 of a signature)", ErrMalformed)
		}
	case "se":
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds < 0 || seconds > maxExpiry {
			return fmt.Errorf("%w (se is not a time in Unix seconds)", ErrMalformed)
		}
		t.se, t.Expiry = value, time.Unix(seconds, 0)
	case "skn":
		t.Policy = decoded
	default:
		return fmt.Errorf("%w (a parameter is unknown)", ErrMalformed)
	}
	return nil
}

// maxExpiry is the last second of the year 9999.
const maxExpiry = 253402300799

// Verify checks the signature in constant time, then the expiry.
func (t Token) Verify(key []byte, now time.Time) error {
	if !hmac.Equal(t.sig, signature(t.sr, t.se, key)) {
		return ErrBadSignature
	}
	if !now.Before(t.Expiry) {
		return ErrExpired
	}
	return nil
}

// Covers reports whether the token is for the device on the host: its resource
// is `{host}/devices/{deviceId}` or a whole-segment prefix of that. Hosts are
// compared without regard to case.
func (t Token) Covers(host, deviceID string) bool {
	gotHost, path, _ := strings.Cut(t.Resource, "/")
	if !strings.EqualFold(gotHost, host) {
		return false
	}
	want := "devices/" + deviceID
	return path == "" || path == want || strings.HasPrefix(want, path+"/")
}
