package sas_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/sas"
)

var (
	key    = []byte("sixteen byte key")
	now    = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	expiry = now.Add(time.Hour)
)

func TestDeviceKeyIsAzures(t *testing.T) { // FEATURES.md AUTH-31
	group, err := base64.StdEncoding.DecodeString("8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==")
	require.NoError(t, err)
	got := sas.DeviceKey(group, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")
	require.Equal(t, "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=", base64.StdEncoding.EncodeToString(got))
}

func TestSignedTokenVerifies(t *testing.T) {
	token, err := sas.Parse(sas.Sign("hub.example.com/devices/pump 1", key, expiry, "reader"))
	require.NoError(t, err)
	require.Equal(t, "hub.example.com/devices/pump 1", token.Resource)
	require.Equal(t, "reader", token.Policy)
	require.Equal(t, expiry, token.Expiry)
	require.NoError(t, token.Verify(key, now))
	require.ErrorIs(t, token.Verify([]byte("another"), now), sas.ErrBadSignature)
	require.ErrorIs(t, token.Verify([]byte("another"), expiry), sas.ErrBadSignature, "an expired forgery is a forgery")
	require.ErrorIs(t, token.Verify(key, expiry), sas.ErrExpired)
	require.NoError(t, token.Verify(key, expiry.Add(-time.Nanosecond)))
}

// The token was computed with Python's hmac, hashlib and urllib, as Azure's
// documentation shows, not with this package.
func TestTokenOfAnotherHand(t *testing.T) {
	const want = "SharedAccessSignature sr=hub.example.com%2Fdevices%2Fpump-1&sig=A24EvJEOWriQ0YaQFEqsWdNWsvocZUCu7NHWlj7zh1A%3D&se=1777866000"
	require.Equal(t, want, sas.Sign("hub.example.com/devices/pump-1", key, time.Unix(1777866000, 0), ""))
}

func TestParseTakesWhatDevicesSend(t *testing.T) {
	signed := sas.Sign("h/devices/d", key, expiry, "")
	parts := strings.Split(strings.TrimPrefix(signed, "SharedAccessSignature "), "&")
	sr, sig, se := parts[0], parts[1], parts[2]
	bare := strings.NewReplacer("%2F", "/", "%2B", "+", "%3D", "=").Replace(sig)
	for name, token := range map[string]string{
		"as signed":       signed,
		"another order":   "SharedAccessSignature " + se + "&" + sr + "&" + sig,
		"bare base64":     "SharedAccessSignature " + sr + "&" + bare + "&" + se,
		"an empty policy": "SharedAccessSignature " + sr + "&" + sig + "&" + se + "&skn=",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sas.Parse(token)
			require.NoError(t, err)
			require.NoError(t, got.Verify(key, now))
			require.True(t, got.Covers("h", "d"))
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const good = "SharedAccessSignature sr=h%2Fdevices%2Fd&sig=47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D&se=1777866000"
	_, err := sas.Parse(good)
	require.NoError(t, err)
	replace := func(old, by string) string { return strings.Replace(good, old, by, 1) }
	for name, token := range map[string]string{
		"nothing":            "",
		"another scheme":     replace("SharedAccessSignature ", "Bearer "),
		"only the scheme":    "SharedAccessSignature ",
		"too long":           good + "&skn=" + strings.Repeat("x", 4096),
		"no sr":              replace("sr=h%2Fdevices%2Fd&", ""),
		"empty sr":           replace("sr=h%2Fdevices%2Fd", "sr="),
		"sr twice":           good + "&sr=h",
		"empty sr twice":     replace("sr=h%2Fdevices%2Fd", "sr=&sr=h"),
		"empty skn twice":    good + "&skn=&skn=x",
		"no sig":             replace("sig=47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D&", ""),
		"no se":              replace("&se=1777866000", ""),
		"unknown parameter":  good + "&x=1",
		"empty parameter":    good + "&",
		"capital parameter":  replace("sr=", "SR="),
		"sr cut short":       replace("%2Fd&", "%2&"),
		"skn cut short":      good + "&skn=%",
		"sig cut short":      replace("%3D&", "&"),
		"sig not base64":     replace("47DE", "*7DE"),
		"sig with line feed": replace("47DE", "%0A7DE"),
		"sig with loose end": replace("SuFU%3D", "SuFV%3D"),
		"sig of other size":  replace("47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D", "47DEQpj8"),
		"se negative":        replace("se=1", "se=-1"),
		"se with sign":       replace("se=1", "se=%2B1"),
		"se a fraction":      good + ".5",
		"se beyond time":     good + "000000000",
		"se not a number":    replace("se=1777866000", "se=tomorrow"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sas.Parse(token)
			require.ErrorIs(t, err, sas.ErrMalformed)
			require.NotContains(t, err.Error(), "47DE")
		})
	}
}

func TestCoversBySegment(t *testing.T) {
	for _, c := range []struct {
		resource string
		want     bool
	}{
		{"hub/devices/pump-1", true},
		{"HUB/devices/pump-1", true},
		{"hub/devices", true},
		{"hub", true},
		{"hub/devices/pump", false},
		{"hub/devices/pump-10", false},
		{"hub/devices/Pump-1", false},
		{"hub/devices/pump-1/modules/m", false},
		{"hub/devices/pump-1/", false},
		{"hub/Devices/pump-1", false},
		{"hub/messages", false},
		{"hub/", false},
		{"hub.evil/devices/pump-1", false},
		{"other/devices/pump-1", false},
		{"/devices/pump-1", false},
		{"hub/devices%2Fpump-1", false}, // encoded twice
	} {
		t.Run(c.resource, func(t *testing.T) {
			token, err := sas.Parse(sas.Sign(c.resource, key, expiry, ""))
			require.NoError(t, err)
			require.Equal(t, c.want, token.Covers("hub", "pump-1"))
		})
	}
	var zero sas.Token
	require.False(t, zero.Covers("", ""), "nothing covers nothing")
}

func TestTokenPrintsNoSignature(t *testing.T) {
	token, err := sas.Parse(sas.Sign("h/devices/d", key, expiry, ""))
	require.NoError(t, err)
	require.Equal(t, "token for h/devices/d until 2026-05-04T04:02:01Z", fmt.Sprintf("%+v", token))
}

func FuzzParse(f *testing.F) {
	f.Add(sas.Sign("hub.example.com/devices/pump-1", key, expiry, ""))
	f.Add(sas.Sign("0ne000/registrations/pump-1", key, expiry, "registration"))
	f.Add("SharedAccessSignature sr=%&sig=&se=-1&skn")
	f.Add("SharedAccessSignature &&==%%%")
	f.Add("SharedAccessSignature se=1&sr=a&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := sas.Parse(s)
		if err != nil {
			require.ErrorIs(t, err, sas.ErrMalformed)
			return
		}
		require.ErrorIs(t, token.Verify([]byte("a key no fuzzer guesses"), token.Expiry), sas.ErrBadSignature)
		token.Covers("hub.example.com", "pump-1")
		again, err := sas.Parse(sas.Sign(token.Resource, key, token.Expiry, token.Policy))
		if err == nil { // else the decoded form is too long when encoded again
			require.Equal(t, token.Resource, again.Resource)
			require.Equal(t, token.Policy, again.Policy)
			require.True(t, token.Expiry.Equal(again.Expiry))
			require.NoError(t, again.Verify(key, token.Expiry.Add(-1)))
		}
	})
}

func BenchmarkParseVerify(b *testing.B) {
	s := sas.Sign("hub.example.com/devices/pump-1", key, expiry, "")
	b.ReportAllocs()
	for b.Loop() {
		token, err := sas.Parse(s)
		if err != nil || token.Verify(key, now) != nil {
			b.Fatal(err)
		}
	}
}
