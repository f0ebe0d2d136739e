package enrollment

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

func byKey(primary, secondary string) *eventsv1.EnrollmentGroup {
	return &eventsv1.EnrollmentGroup{
		DisplayName: "G", Enabled: true, Type: eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT,
		Attestation: &eventsv1.EnrollmentGroup_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{Primary: []byte(primary), Secondary: []byte(secondary)}},
	}
}

func signing(ca *enginetest.Identity, verified bool) *eventsv1.SigningCertificate {
	return &eventsv1.SigningCertificate{Der: ca.Cert.Raw, Verified: verified}
}

func byCA(primary, secondary *eventsv1.SigningCertificate) *eventsv1.EnrollmentGroup {
	g := byKey("", "")
	g.Attestation = &eventsv1.EnrollmentGroup_X509{X509: &eventsv1.SigningCertificates{Primary: primary, Secondary: secondary}}
	return g
}

func TestGroupRules(t *testing.T) {
	ca, other := enginetest.Authority(t, "root", nil), enginetest.Authority(t, "other", nil)
	leaf := enginetest.Device(t, "d", ca)
	with := func(g *eventsv1.EnrollmentGroup, change func(*eventsv1.EnrollmentGroup)) *eventsv1.EnrollmentGroup {
		change(g)
		return g
	}
	for _, tc := range []struct {
		name, id, says string
		group          *eventsv1.EnrollmentGroup
	}{
		{"keys", "g", "", byKey("p", "s")},
		{"the default group's derived keys", "SAS-IoT-Devices", "", byKey("", "")},
		{"certificate", "g", "", byCA(signing(ca, false), nil)},
		{"no certificate yet", "g", "", byCA(nil, nil)},
		{"no keys", "g", "primaryKey", byKey("", "")},
		{"the default group by X.509", "SAS-IoT-Devices", "symmetric keys", byCA(nil, nil)},
		{"id", "a_b", "id is not valid", byKey("p", "s")},
		{"no name", "g", "displayName", with(byKey("p", "s"), func(g *eventsv1.EnrollmentGroup) { g.DisplayName = "" })},
		{"name too long", "g", "displayName", with(byKey("p", "s"), func(g *eventsv1.EnrollmentGroup) { g.DisplayName = strings.Repeat("x", 149) })},
		{"no type", "g", "type", with(byKey("p", "s"), func(g *eventsv1.EnrollmentGroup) { g.Type = 0 })},
		{"no attestation", "g", "attestation", with(byKey("p", "s"), func(g *eventsv1.EnrollmentGroup) { g.Attestation = nil })},
		{"a device's certificate", "g", "not a CA", byCA(signing(leaf, true), nil)},
		{"no certificate at all", "g", "cannot be read", byCA(&eventsv1.SigningCertificate{Der: []byte("x")}, nil)},
		{"one certificate twice", "g", "same certificate", byCA(signing(ca, true), signing(ca, true))},
	} {
		err := validate(tc.id, tc.group)
		if tc.says == "" {
			require.NoError(t, err, tc.name)
			continue
		}
		require.ErrorContains(t, err, tc.says, tc.name)
	}
	resources := []*catalog.Resource{{ID: "one", Body: byCA(signing(ca, true), nil)}}
	require.NoError(t, admit(resources, "two", byCA(signing(other, true), nil)))
	require.NoError(t, admit(resources, "one", byCA(signing(ca, true), nil)), "itself")
	require.ErrorContains(t, admit(resources, "two", byCA(nil, signing(ca, false))), `"one"`, "one CA certificate is in one group only")
	for i := range maxGroups {
		resources = append(resources, &catalog.Resource{ID: string(rune('a'+i%26)) + string(rune('a'+i/26)), Body: byKey("p", "s")})
	}
	require.ErrorContains(t, admit(resources, "more", byKey("p", "s")), "100")
	require.NoError(t, admit(resources, "two", byCA(signing(other, true), nil)), "the other attestation has its own count")
}

func TestRevokes(t *testing.T) {
	ca, other := enginetest.Authority(t, "root", nil), enginetest.Authority(t, "other", nil)
	off := byKey("p", "s")
	off.Enabled = false
	for _, tc := range []struct {
		name          string
		before, after *eventsv1.EnrollmentGroup
		want          bool
	}{
		{"made", nil, byKey("p", "s"), false},
		{"deleted", byKey("p", "s"), nil, true},
		{"disabled", byKey("p", "s"), off, true},
		{"enabled", off, byKey("p", "s"), false},
		{"a key rolled", byKey("p", "s"), byKey("p", "t"), true},
		{"nothing of that", byKey("p", "s"), byKey("p", "s"), false},
		{"a certificate added", byCA(signing(ca, true), nil), byCA(signing(ca, true), signing(other, true)), false},
		{"certificates swapped", byCA(signing(ca, true), signing(other, true)), byCA(signing(other, true), signing(ca, true)), false},
		{"a certificate removed", byCA(signing(ca, true), signing(other, true)), byCA(signing(other, true), nil), true},
		{"one that never counted removed", byCA(signing(ca, false), nil), byCA(nil, nil), false},
		{"keys instead of certificates", byCA(signing(ca, true), nil), byKey("p", "s"), true},
	} {
		require.Equal(t, tc.want, Revokes(tc.before, tc.after), tc.name)
	}
}

func TestProofOfPossession(t *testing.T) {
	ca, other := enginetest.Authority(t, "root", nil), enginetest.Authority(t, "other", nil)
	code, now := NewVerificationCode(), time.Now()
	require.Len(t, code, 48)
	require.NoError(t, Verify(ca.Cert.Raw, code, enginetest.Device(t, code, ca).Cert.Raw, now))
	for says, proof := range map[string]*enginetest.Identity{
		"not signed by":     enginetest.Device(t, code, other),
		"common name":       enginetest.Device(t, "another code", ca),
		"not valid at this": enginetest.IssueFor(t, code, ca, now.Add(-2*time.Hour), now.Add(-time.Hour)),
	} {
		require.ErrorContains(t, Verify(ca.Cert.Raw, code, proof.Cert.Raw, now), says)
	}
	require.ErrorContains(t, Verify(ca.Cert.Raw, "", enginetest.Device(t, "", ca).Cert.Raw, now), "generateVerificationCode")
	require.Error(t, Verify(ca.Cert.Raw, code, []byte("x"), now))
}

// TestSignerIsTheNearest has chains of each kind lead to their group, and the
// rest to none.
func TestSignerIsTheNearest(t *testing.T) {
	root, stranger := enginetest.Authority(t, "root", nil), enginetest.Authority(t, "stranger", nil)
	middle := enginetest.Authority(t, "middle", root)
	line := enginetest.Authority(t, "line", root)
	far, near := &Group{ID: "far"}, &Group{ID: "near"}
	tenant := &Tenant{authorities: x509.NewCertPool(), bySigner: map[[32]byte]*Group{}}
	tenant.trust(root.Cert, far)
	tenant.trust(middle.Cert, near)
	now := time.Now()
	chain := func(ids ...*enginetest.Identity) []*x509.Certificate {
		var all []*x509.Certificate
		for _, id := range ids {
			all = append(all, id.Cert)
		}
		return all
	}
	for name, tc := range map[string]struct {
		chain []*x509.Certificate
		want  *Group
	}{
		"by the root":                      {chain(enginetest.Device(t, "d", root)), far},
		"by a CA below it":                 {chain(enginetest.Device(t, "d", line), line), far},
		"with the root sent along":         {chain(enginetest.Device(t, "d", line), line, root), far},
		"nearest of two":                   {chain(enginetest.Device(t, "d", middle), middle, root), near},
		"the CA between is missing":        {chain(enginetest.Device(t, "d", line)), nil},
		"of a stranger":                    {chain(enginetest.Device(t, "d", stranger), stranger), nil},
		"signed by a device":               {chain(enginetest.Device(t, "d", enginetest.Device(t, "e", root))), nil},
		"the CA itself":                    {chain(root), nil},
		"its time is over":                 {chain(enginetest.IssueFor(t, "d", root, now.Add(-2*time.Hour), now.Add(-time.Hour))), nil},
		"its time has not come":            {chain(enginetest.IssueFor(t, "d", root, now.Add(time.Hour), now.Add(2*time.Hour))), nil},
		"none":                             {nil, nil},
		"more than anybody has good for":   {make([]*x509.Certificate, maxChain+1), nil},
		"a device's own, signed by itself": {chain(enginetest.Device(t, "d", nil)), nil},
	} {
		got, err := tenant.Signer(tc.chain, now)
		require.Equal(t, tc.want, got, name)
		require.Equal(t, tc.want == nil, err != nil, name)
	}
}

// TestDecodeCertificateEndingLikeSpace: DER is no text, so its last byte stays
// whatever it is. One in some forty certificates ends so.
func TestDecodeCertificateEndingLikeSpace(t *testing.T) {
	for {
		ca := enginetest.Authority(t, "root", nil)
		if last := ca.Cert.Raw[len(ca.Cert.Raw)-1]; last != ' ' && last != '\n' && last != '\t' && last != '\r' {
			continue
		}
		der, err := DecodeCertificate(base64.StdEncoding.EncodeToString(ca.Cert.Raw))
		require.NoError(t, err)
		require.Equal(t, ca.Cert.Raw, der)
		return
	}
}

func TestDecodeCertificate(t *testing.T) {
	ca := enginetest.Authority(t, "root", nil)
	encoded := base64.StdEncoding.EncodeToString
	for name, text := range map[string]string{
		"PEM": ca.PEM(), "PEM with space around": "\n" + ca.PEM() + "\n", "base64 of PEM": encoded([]byte(ca.PEM())), "base64 of DER": encoded(ca.Cert.Raw),
	} {
		der, err := DecodeCertificate(text)
		require.NoError(t, err, name)
		require.Equal(t, ca.Cert.Raw, der, name)
	}
	for name, text := range map[string]string{
		"empty": "", "two": ca.PEM() + ca.PEM(), "a key": ca.KeyPEM(t), "cut": ca.PEM()[:200], "too long": strings.Repeat("A", MaxCertificateText+1),
		"no certificate inside": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})),
	} {
		_, err := DecodeCertificate(text)
		require.Error(t, err, name)
	}
	require.Regexp(t, "^[0-9A-F]{40}$", Thumbprint(ca.Cert.Raw))
}

func FuzzDecodeCertificate(f *testing.F) {
	ca := enginetest.Authority(f, "root", nil)
	f.Add(ca.PEM())
	f.Add(base64.StdEncoding.EncodeToString(ca.Cert.Raw))
	f.Add("-----BEGIN CERTIFICATE-----")
	f.Fuzz(func(t *testing.T, text string) {
		der, err := DecodeCertificate(text)
		if err != nil {
			return
		}
		again, err := DecodeCertificate(EncodeCertificate(der))
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		_, _ = ParseAuthority(der)
	})
}
