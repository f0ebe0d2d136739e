package device

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

func provisioned(group string, autoApprove bool) *eventsv1.DeviceEvent {
	ev := event(nil, nil)
	ev.Change = &eventsv1.DeviceEvent_Provisioned{Provisioned: &eventsv1.DeviceProvisioned{
		EnrollmentGroup: group, ModelId: "dtmi:contoso:Thermostat;1", Template: "dtmi:contoso:Thermostat;1", Creates: group != "", AutoApprove: autoApprove,
	}}
	return ev
}

func enables(yes bool) *eventsv1.DeviceEvent {
	return event(&eventsv1.DeviceUpdated{Enabled: &yes}, nil)
}

func approved() *eventsv1.DeviceEvent {
	ev := event(nil, nil)
	ev.Change = &eventsv1.DeviceEvent_Approved{Approved: &eventsv1.DeviceApproved{}}
	return ev
}

func attestationSet(a *eventsv1.Attestation) *eventsv1.DeviceEvent {
	ev := event(nil, nil)
	ev.Change = &eventsv1.DeviceEvent_AttestationSet{AttestationSet: &eventsv1.AttestationSet{Attestation: a}}
	return ev
}

func attestationRemoved() *eventsv1.DeviceEvent {
	ev := event(nil, nil)
	ev.Change = &eventsv1.DeviceEvent_AttestationRemoved{AttestationRemoved: &eventsv1.AttestationRemoved{}}
	return ev
}

// TestStatesOfADevice walks the transitions of FEATURES.md DEV-10..DEV-14.
func TestStatesOfADevice(t *testing.T) {
	const (
		registered  = "registered"
		isWaiting   = "waiting"
		isProvision = "provisioned"
		blocked     = "blocked"
		none        = "none"
	)
	status := func(s *eventsv1.DeviceState) string {
		switch {
		case !Exists(s):
			return none
		case s.GetWaiting() && !s.GetBlockedWhileWaiting():
			return isWaiting
		case !s.GetEnabled():
			return blocked
		case s.GetProvisioned():
			return isProvision
		}
		return registered
	}
	type step struct {
		event *eventsv1.DeviceEvent
		want  string
	}
	register := func() *eventsv1.DeviceEvent { return event(&eventsv1.DeviceRegistered{Enabled: true}, nil) }
	for name, steps := range map[string][]step{
		"made by a person, registers, is blocked and unblocked": {
			{register(), registered}, {enables(false), blocked}, {provisioned("g", true), blocked}, {enables(true), registered},
			{provisioned("g", false), isProvision}, {enables(false), blocked}, {enables(true), isProvision},
		},
		"registers itself": {{provisioned("g", true), isProvision}, {provisioned("g", true), isProvision}},
		"waits and is approved": {
			{provisioned("g", false), isWaiting}, {provisioned("g", true), isWaiting}, {approved(), registered}, {provisioned("g", false), isProvision},
		},
		"waits and is enabled, which approves it":       {{provisioned("g", false), isWaiting}, {enables(true), registered}},
		"waits and a person registers it":               {{provisioned("g", false), isWaiting}, {register(), registered}},
		"blocked while it waits, unblocked: waits":      {{provisioned("g", false), isWaiting}, {enables(false), blocked}, {enables(true), isWaiting}, {approved(), registered}},
		"blocked while it waits, approved: blocked":     {{provisioned("g", false), isWaiting}, {enables(false), blocked}, {approved(), blocked}, {enables(true), registered}},
		"by its own credential it does not make itself": {{provisioned("", true), none}},
		"deleted, it is a new one when it comes again": {
			{provisioned("g", true), isProvision}, {event(&eventsv1.DeviceDeleted{}, nil), none}, {provisioned("g", false), isWaiting},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var state *eventsv1.DeviceState
			for i, s := range steps {
				before := proto.CloneOf(state)
				next, outcome := Apply(state, s.event)
				require.True(t, proto.Equal(before, state), "the state passed in is never changed")
				require.Equal(t, s.want, status(next), "step %d: %s", i, outcome)
				require.Equal(t, next.GetWaiting() || !next.GetEnabled(), !next.GetEnabled(), "one that waits is not enabled")
				state = next
			}
		})
	}
}

func TestProvisioningKeepsAndIsKept(t *testing.T) {
	state, _ := Apply(nil, provisioned("g", true))
	require.Equal(t, "g", state.GetEnrollmentGroup())
	require.Equal(t, "dtmi:contoso:Thermostat;1", state.GetTemplate(), "the model id picks the template")
	require.True(t, proto.Equal(noon, state.GetProvisionedAt()))
	state, _ = Apply(state, event(&eventsv1.DeviceRegistered{Enabled: true, Template: "dtmi:contoso:Other;1"}, nil))
	require.True(t, state.GetProvisioned())
	require.Equal(t, "g", state.GetEnrollmentGroup())
	state, _ = Apply(state, provisioned("", false))
	require.Equal(t, "dtmi:contoso:Other;1", state.GetTemplate(), "a person's template stays")
	require.Empty(t, state.GetEnrollmentGroup())
}

func leaf(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return der
}

func TestAttestationOfADevicesOwn(t *testing.T) {
	own := func(primary, secondary []byte) *eventsv1.Attestation {
		return &eventsv1.Attestation{Kind: &eventsv1.Attestation_X509{X509: &eventsv1.ClientCertificates{Primary: primary, Secondary: secondary}}}
	}
	keys := func(primary, secondary string) *eventsv1.Attestation {
		return &eventsv1.Attestation{Kind: &eventsv1.Attestation_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{Primary: []byte(primary), Secondary: []byte(secondary)}}}
	}
	there, _ := Apply(nil, event(&eventsv1.DeviceRegistered{Enabled: true}, nil))
	_, outcome := Apply(there, attestationRemoved())
	require.NotNil(t, outcome.GetRejection(), "there is none to remove")
	_, outcome = Apply(nil, attestationSet(keys("a", "b")))
	require.Equal(t, eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND, outcome.GetRejection().GetReason())
	for name, bad := range map[string]*eventsv1.Attestation{
		"none":               nil,
		"empty":              {},
		"one key":            keys("a", ""),
		"a key too long":     keys("a", strings.Repeat("x", 300)),
		"no primary":         own(nil, leaf(t, "d")),
		"not a certificate":  own([]byte("x"), nil),
		"of another device":  own(leaf(t, "e"), nil),
		"secondary of other": own(leaf(t, "d"), leaf(t, "e")),
		"too large":          own(make([]byte, maxDERBytes+1), nil),
	} {
		_, outcome := Apply(there, attestationSet(bad))
		require.Equal(t, eventsv1.RejectionReason_REJECTION_REASON_INVALID, outcome.GetRejection().GetReason(), name)
	}
	set, outcome := Apply(there, attestationSet(own(leaf(t, "d"), nil)))
	require.Nil(t, outcome.GetRejection(), outcome)
	replaced, _ := Apply(set, event(&eventsv1.DeviceRegistered{Enabled: true}, nil))
	require.True(t, proto.Equal(set.GetAttestation(), replaced.GetAttestation()), "replacing the settable fields leaves it alone")
	removed, _ := Apply(replaced, attestationRemoved())
	require.Nil(t, removed.GetAttestation())
}

func TestParseKey(t *testing.T) {
	k, err := ParseKey("MDEyMzQ1Njc4OWFiY2RlZg==")
	require.NoError(t, err)
	require.Len(t, k, 16)
	for _, bad := range []string{"", "!", "c2hvcnQ=", strings.Repeat("AAAA", 22), strings.Repeat("x", 1<<20)} {
		_, err := ParseKey(bad)
		require.Error(t, err)
	}
}

func TestSealedKeysOpenInTheirPlaceOnly(t *testing.T) {
	m, err := OpenMasterKey(t.TempDir() + "/master.key")
	require.NoError(t, err)
	keys := GenerateKeys()
	require.Len(t, keys.Primary, 64)
	sealed := m.SealKeys("default/enrollmentGroups/g", keys)
	opened, err := m.OpenKeys("default/enrollmentGroups/g", sealed)
	require.NoError(t, err)
	require.Equal(t, keys, opened)
	_, err = m.OpenKeys("default/enrollmentGroups/h", sealed)
	require.Error(t, err)
	_, err = m.OpenKeys("default/enrollmentGroups/g", &eventsv1.SealedKeys{Primary: sealed.GetSecondary(), Secondary: sealed.GetPrimary()})
	require.Error(t, err, "the slots are places, too")
}
