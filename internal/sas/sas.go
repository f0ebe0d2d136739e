// Package sas is Azure IoT Hub's shared access signatures: derived device keys
// and the signed, expiring tokens that devices give as their password.
//
// In go keys and resource names, or a token of unknown origin; out come a
// signature, or what the token claims and whether a key signed it. Comparing
// signatures takes the same time whatever they hold. No error and no String ever
// carries a key or a signature, and nothing here reads a clock.
package sas

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Errors of Parse (ErrMalformed, wrapped with the reason) and Verify.
var (
	ErrMalformed    = errors.New("not a shared access signature: write it like SharedAccessSignature sr={resource}&sig={signature}&se={expiry in Unix seconds}")
	ErrBadSignature = errors.New("token is signed with another key: sign it with one of the device's own keys")
	ErrExpired      = errors.New("token has expired: sign a new one and check the device's clock")
)

// DeviceKey derives a device's key from its enrollment group's (FEATURES.md
// AUTH-30). Both are raw bytes; people see them in base64.
func DeviceKey(groupKey []byte, registrationID string) []byte {
	mac := hmac.New(sha256.New, groupKey)
	mac.Write([]byte(registrationID))
	return mac.Sum(nil)
}

// Sign makes a token for a resource such as `{host}/devices/{deviceId}`, good
// until expiry, which is cut to whole seconds. The policy is empty for a device's
// own key (AUTH-34, AUTH-36).
func Sign(resource string, key []byte, expiry time.Time, policy string) string {
	sr, se := escape(resource), strconv.FormatInt(expiry.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(sr + "\n" + se))
	token := scheme + "sr=" + sr + "&sig=" + escape(base64.StdEncoding.EncodeToString(mac.Sum(nil))) + "&se=" + se
	if policy != "" {
		token += "&skn=" + escape(policy)
	}
	return token
}

// escape is what encodeURIComponent does: QueryEscape, but %20 for a space.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// Token is what a shared access signature claims. Believe it only after Verify.
type Token struct {
	Resource string    // what it gives access to, percent-decoded once
	Policy   string    // the name of the key that signed it; empty for a device's own
	Expiry   time.Time // when it ends, UTC

	signed    []byte // what the signature covers: sr and se exactly as sent
	signature [sha256.Size]byte
}

// String names the resource and the expiry, never the signature.
func (t Token) String() string {
	return "token for " + t.Resource + " until " + t.Expiry.Format(time.RFC3339)
}

// Verify checks that the key signed the token and that it hasn't expired at now.
// It returns ErrBadSignature or ErrExpired; a token that was never valid is a bad
// signature, whenever it claims to end.
func (t Token) Verify(key []byte, now time.Time) error {
	mac := hmac.New(sha256.New, key)
	mac.Write(t.signed)
	var sum [sha256.Size]byte
	if !hmac.Equal(mac.Sum(sum[:0]), t.signature[:]) {
		return ErrBadSignature
	}
	if !now.Before(t.Expiry) {
		return ErrExpired
	}
	return nil
}

// Covers reports whether the token's resource is the device or something that
// holds it: `{host}`, `{host}/devices` or `{host}/devices/{deviceId}`. For a module
// the id is `{deviceId}/modules/{moduleId}`. It compares by segment, so a token for
// device `a` says nothing about `ab` (AUTH-36). Host names have no case; device
// ids do.
func (t Token) Covers(host, deviceID string) bool {
	given, rest, more := strings.Cut(t.Resource, "/")
	if host == "" || !strings.EqualFold(given, host) {
		return false
	}
	for segment := range strings.SplitSeq("devices/"+deviceID, "/") {
		if !more {
			return true
		}
		given, rest, more = strings.Cut(rest, "/")
		if given != segment {
			return false
		}
	}
	return !more
}
