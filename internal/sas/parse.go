package sas

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	scheme = "SharedAccessSignature "

	// maxTokenBytes is many times what any resource name needs.
	maxTokenBytes = 4096

	// maxExpiry is the end of the year 9999, the last one RFC 3339 can write.
	maxExpiry = 253402300799
)

func malformed(reason string) (Token, error) {
	return Token{}, fmt.Errorf("%w (%s)", ErrMalformed, reason)
}

// Parse reads a token of at most 4 KiB (FEATURES.md AUTH-34). Its parameters come
// in any order, each once; `sr`, `sig` and `se` must be there. The error is
// ErrMalformed with the reason.
func Parse(token string) (Token, error) {
	if len(token) > maxTokenBytes {
		return malformed("longer than 4096 bytes")
	}
	rest, ok := strings.CutPrefix(token, scheme)
	if !ok {
		return malformed("doesn't begin with its scheme")
	}
	var sr, sig, se, skn string
	var seen struct{ sr, sig, se, skn bool }
	for more := true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, "&")
		name, value, _ := strings.Cut(pair, "=")
		var into *string
		var before *bool
		switch name {
		case "sr":
			into, before = &sr, &seen.sr
		case "sig":
			into, before = &sig, &seen.sig
		case "se":
			into, before = &se, &seen.se
		case "skn":
			into, before = &skn, &seen.skn
		default:
			return malformed("has a parameter other than sr, sig, se and skn")
		}
		if *before {
			return malformed("has " + name + " twice") // name is one of the four
		}
		*into, *before = value, true
	}
	switch {
	case sr == "":
		return malformed("lacks sr")
	case sig == "":
		return malformed("lacks sig")
	case se == "":
		return malformed("lacks se")
	}
	return assemble(sr, sig, se, skn)
}

// assemble decodes the four values, each percent-encoded at most once.
func assemble(sr, sig, se, skn string) (t Token, err error) {
	if t.Resource, err = url.PathUnescape(sr); err != nil {
		return malformed("sr is not percent-encoded properly")
	}
	if t.Policy, err = url.PathUnescape(skn); err != nil {
		return malformed("skn is not percent-encoded properly")
	}
	if !t.decodeSignature(sig) {
		return malformed("sig is not the base64 of an HMAC-SHA256")
	}
	expiry, err := strconv.ParseUint(se, 10, 64)
	if err != nil || expiry > maxExpiry {
		return malformed("se is not a time in Unix seconds")
	}
	t.Expiry = time.Unix(int64(expiry), 0).UTC()
	t.signed = make([]byte, 0, len(sr)+1+len(se))
	t.signed = append(append(append(t.signed, sr...), '\n'), se...)
	return t, nil
}

func (t *Token) decodeSignature(sig string) bool {
	plain, err := url.PathUnescape(sig) // keeps a bare `+`, as base64 needs it
	if err != nil || len(plain) != base64.StdEncoding.EncodedLen(len(t.signature)) {
		return false
	}
	var decoded [len(t.signature) + 1]byte // DecodedLen counts the padding
	n, err := base64.StdEncoding.Strict().Decode(decoded[:], []byte(plain))
	return err == nil && copy(t.signature[:], decoded[:n]) == len(t.signature)
}
