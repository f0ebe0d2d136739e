package deviceauth_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const tenant, host = "default", "gateway.test"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a node's views on a real log.
type place struct {
	t       *testing.T
	keys    *device.MasterKey
	devices *registry.Registry
	catalog *catalog.Catalog
	gate    *deviceauth.Gate
}

func newPlace(t *testing.T) *place {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	keys, err := device.OpenMasterKey(t.TempDir() + "/master.key")
	require.NoError(t, err)
	p := &place{t: t, keys: keys, devices: registry.New(log, quiet), catalog: catalog.New(log, quiet, enrollment.Kind())}
	p.gate = deviceauth.New(p.devices, enrollment.New(p.catalog, keys, quiet), keys)
	require.Error(t, p.gate.Ready(), "nobody is let in before the log is read")
	enginetest.FoldDevices(t, log)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 2)
	go func() { done <- p.devices.Run(ctx) }()
	go func() { done <- p.catalog.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return p.gate.Ready() == nil }, 10*time.Second, time.Millisecond)
	return p
}

func (p *place) device(id string, ev *eventsv1.DeviceEvent) {
	p.t.Helper()
	ev.Id, ev.Tenant, ev.Device, ev.Time = eventlog.NewID(), tenant, id, timestamppb.Now()
	_, err := p.devices.Change(p.t.Context(), ev)
	require.NoError(p.t, err)
}

func (p *place) register(id string, enabled bool) {
	p.t.Helper()
	p.device(id, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{Enabled: enabled}}})
}

func (p *place) attest(id string, a *eventsv1.Attestation) {
	p.t.Helper()
	p.device(id, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_AttestationSet{AttestationSet: &eventsv1.AttestationSet{Attestation: a}}})
}

func (p *place) provisioned(id, group string, autoApprove bool) {
	p.t.Helper()
	p.device(id, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Provisioned{Provisioned: &eventsv1.DeviceProvisioned{EnrollmentGroup: group, Creates: true, AutoApprove: autoApprove}}})
}

func (p *place) group(id string, g *eventsv1.EnrollmentGroup) {
	p.t.Helper()
	g.DisplayName, g.Type = id, eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT
	_, err := p.catalog.Change(p.t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: tenant, Kind: enrollment.KindName, Resource: id, Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_EnrollmentGroup{EnrollmentGroup: g},
	})
	require.NoError(p.t, err)
}

// keyGroup makes a group with keys of its own and returns them.
func (p *place) keyGroup(id string, enabled bool) device.Keys {
	p.t.Helper()
	keys := device.GenerateKeys()
	p.group(id, &eventsv1.EnrollmentGroup{Enabled: enabled, Attestation: &eventsv1.EnrollmentGroup_SymmetricKey{
		SymmetricKey: p.keys.SealKeys(enrollment.Place(tenant, id), keys),
	}})
	return keys
}

func (p *place) caGroup(id string, verified bool, cas ...*enginetest.Identity) {
	p.t.Helper()
	x := &eventsv1.SigningCertificates{Primary: &eventsv1.SigningCertificate{Der: cas[0].Cert.Raw, Verified: verified}}
	if len(cas) > 1 {
		x.Secondary = &eventsv1.SigningCertificate{Der: cas[1].Cert.Raw, Verified: verified}
	}
	p.group(id, &eventsv1.EnrollmentGroup{Enabled: true, Attestation: &eventsv1.EnrollmentGroup_X509{X509: x}})
}

func hubToken(id string, key []byte, life time.Duration) deviceauth.Credential {
	return deviceauth.Credential{Token: sas.Sign(host+"/devices/"+id, key, time.Now().Add(life), "")}
}

func chain(ids ...*enginetest.Identity) deviceauth.Credential {
	var c deviceauth.Credential
	for _, id := range ids {
		c.Chain = append(c.Chain, id.Cert)
	}
	return c
}

func own(certificates ...*enginetest.Identity) *eventsv1.Attestation {
	x := &eventsv1.ClientCertificates{Primary: certificates[0].Cert.Raw}
	if len(certificates) > 1 {
		x.Secondary = certificates[1].Cert.Raw
	}
	return &eventsv1.Attestation{Kind: &eventsv1.Attestation_X509{X509: x}}
}

// TestWhoMayActAsADevice has every credential there is at the hub's door.
func TestWhoMayActAsADevice(t *testing.T) {
	p := newPlace(t)
	now := time.Now()
	defaults := p.keys.GroupKeys(tenant)
	plant, off := p.keyGroup("plant", true), p.keyGroup("off", false)
	root, second, other := enginetest.Authority(t, "root", nil), enginetest.Authority(t, "second", nil), enginetest.Authority(t, "other", nil)
	line := enginetest.Authority(t, "line", root)
	p.caGroup("x", true, root, second)
	p.caGroup("y", true, other)
	unverified := enginetest.Authority(t, "unverified", nil)
	p.caGroup("z", false, unverified)

	p.register("plain", true)
	p.register("blocked", false)
	p.provisioned("in-plant", "plant", true)
	p.provisioned("in-off", "off", true)
	p.provisioned("in-gone", "gone", true)
	p.provisioned("in-x", "x", true)
	p.provisioned("waits", "plant", false)
	p.register("keyed", true)
	ownKeys := device.GenerateKeys()
	p.attest("keyed", &eventsv1.Attestation{Kind: &eventsv1.Attestation_SymmetricKey{SymmetricKey: p.keys.SealKeys(device.AttestationPlace(tenant, "keyed"), ownKeys)}})
	p.register("leafed", true)
	one, two := enginetest.Device(t, "leafed", nil), enginetest.Device(t, "leafed", nil)
	p.attest("leafed", own(one, two))
	p.register("old", true)
	old := enginetest.IssueFor(t, "old", nil, now.Add(-2*time.Hour), now.Add(-time.Hour))
	p.attest("old", own(old))

	for _, tc := range []struct {
		name, id string
		cred     deviceauth.Credential
		want     error
	}{
		{"the default group's primary", "plain", hubToken("plain", defaults.DeviceKeys("plain").Primary, time.Hour), nil},
		{"the default group's secondary", "plain", hubToken("plain", defaults.DeviceKeys("plain").Secondary, time.Hour), nil},
		{"a group's key itself", "plain", hubToken("plain", defaults.Primary, time.Hour), deviceauth.ErrWrongKey},
		{"another device's key", "plain", hubToken("plain", defaults.DeviceKeys("other").Primary, time.Hour), deviceauth.ErrWrongKey},
		{"another device's token", "plain", hubToken("other", defaults.DeviceKeys("plain").Primary, time.Hour), deviceauth.ErrWrongKey},
		{"another group's key", "plain", hubToken("plain", plant.DeviceKeys("plain").Primary, time.Hour), deviceauth.ErrWrongKey},
		{"expired", "plain", hubToken("plain", defaults.DeviceKeys("plain").Primary, -time.Minute), deviceauth.ErrExpired},
		{"a registration's token", "plain", deviceauth.Credential{Token: sas.Sign("scope/registrations/plain", defaults.DeviceKeys("plain").Primary, now.Add(time.Hour), "registration")}, deviceauth.ErrWrongKey},
		{"nothing", "plain", deviceauth.Credential{}, deviceauth.ErrNoCredential},
		{"no token", "plain", deviceauth.Credential{Token: "password"}, deviceauth.ErrNoCredential},
		{"unknown", "nobody", hubToken("nobody", defaults.DeviceKeys("nobody").Primary, time.Hour), deviceauth.ErrUnknownDevice},
		{"unknown, wrong key", "nobody", hubToken("nobody", plant.Primary, time.Hour), deviceauth.ErrUnknownDevice},
		{"unknown, chain", "nobody", chain(enginetest.Device(t, "nobody", root)), deviceauth.ErrUnknownDevice},
		{"blocked", "blocked", hubToken("blocked", defaults.DeviceKeys("blocked").Primary, time.Hour), deviceauth.ErrBlocked},
		{"a stranger learns nothing of a block", "blocked", hubToken("blocked", plant.Primary, time.Hour), deviceauth.ErrWrongKey},
		{"a group's device", "in-plant", hubToken("in-plant", plant.DeviceKeys("in-plant").Secondary, time.Hour), nil},
		{"a group's device by the default group", "in-plant", hubToken("in-plant", defaults.DeviceKeys("in-plant").Primary, time.Hour), deviceauth.ErrWrongKey},
		{"a disabled group's device", "in-off", hubToken("in-off", off.DeviceKeys("in-off").Primary, time.Hour), deviceauth.ErrGroupDisabled},
		{"a deleted group's device", "in-gone", hubToken("in-gone", defaults.DeviceKeys("in-gone").Primary, time.Hour), deviceauth.ErrGroupDisabled},
		{"waiting", "waits", hubToken("waits", plant.DeviceKeys("waits").Primary, time.Hour), deviceauth.ErrWaiting},
		{"a key of its own", "keyed", hubToken("keyed", ownKeys.Primary, time.Hour), nil},
		{"its other key", "keyed", hubToken("keyed", ownKeys.Secondary, time.Hour), nil},
		{"its group's key instead of its own", "keyed", hubToken("keyed", defaults.DeviceKeys("keyed").Primary, time.Hour), deviceauth.ErrWrongKey},
		{"its own certificate", "leafed", chain(one), nil},
		{"its own other certificate", "leafed", chain(two), nil},
		{"a certificate of the same name", "leafed", chain(enginetest.Device(t, "leafed", nil)), deviceauth.ErrWrongKey},
		{"a group's chain instead of its own certificate", "leafed", chain(enginetest.Device(t, "leafed", root)), deviceauth.ErrWrongKey},
		{"a key instead of its own certificate", "leafed", hubToken("leafed", defaults.DeviceKeys("leafed").Primary, time.Hour), deviceauth.ErrNoCredential},
		{"its own certificate, over", "old", chain(old), deviceauth.ErrExpired},
		{"a chain", "in-x", chain(enginetest.Device(t, "in-x", line), line), nil},
		{"a chain to the secondary", "in-x", chain(enginetest.Device(t, "in-x", second)), nil},
		{"a chain of another device", "in-x", chain(enginetest.Device(t, "other", line), line), deviceauth.ErrWrongKey},
		{"a chain to another group", "in-x", chain(enginetest.Device(t, "in-x", other)), deviceauth.ErrWrongKey},
		{"a chain that is over", "in-x", chain(enginetest.IssueFor(t, "in-x", root, now.Add(-2*time.Hour), now.Add(-time.Hour))), deviceauth.ErrExpired},
		{"a key for a chain's device", "in-x", hubToken("in-x", defaults.DeviceKeys("in-x").Primary, time.Hour), deviceauth.ErrNoCredential},
		{"a chain for one whose group nobody knows", "plain", chain(enginetest.Device(t, "plain", other)), nil},
		{"a chain to what is not verified", "plain", chain(enginetest.Device(t, "plain", unverified)), deviceauth.ErrWrongKey},
	} {
		_, err := p.gate.Admit(tenant, host, tc.id, tc.cred, now)
		require.ErrorIs(t, err, tc.want, tc.name)
		if err != nil {
			require.NotContains(t, err.Error(), base64.StdEncoding.EncodeToString(defaults.Primary))
		}
	}
}

// TestAGrantHoldsUntilItsGroundsChange sees each change that takes a grant back.
func TestAGrantHoldsUntilItsGroundsChange(t *testing.T) {
	p := newPlace(t)
	keys := p.keyGroup("g", true)
	p.provisioned("d", "g", true)
	admit := func() deviceauth.Grant {
		t.Helper()
		grant, err := p.gate.Admit(tenant, host, "d", hubToken("d", keys.DeviceKeys("d").Primary, time.Hour), time.Now())
		require.NoError(t, err)
		require.Equal(t, "g", grant.Group)
		require.NoError(t, p.gate.Holds(tenant, "d", grant))
		return grant
	}
	grant := admit()
	newKeys := p.keyGroup("g", true)
	require.ErrorIs(t, p.gate.Holds(tenant, "d", grant), deviceauth.ErrWrongKey)
	keys = newKeys
	grant = admit()
	p.keyGroup("g", false)
	require.ErrorIs(t, p.gate.Holds(tenant, "d", grant), deviceauth.ErrGroupDisabled)
	keys = p.keyGroup("g", true)
	grant = admit()
	p.attest("d", own(enginetest.Device(t, "d", nil)))
	require.ErrorIs(t, p.gate.Holds(tenant, "d", grant), deviceauth.ErrWrongKey)
	p.register("d", false)
	require.ErrorIs(t, p.gate.Holds(tenant, "d", grant), deviceauth.ErrBlocked)
	p.device("d", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Deleted{Deleted: &eventsv1.DeviceDeleted{}}})
	require.ErrorIs(t, p.gate.Holds(tenant, "d", grant), deviceauth.ErrUnknownDevice)
}

func TestWhoMayRegister(t *testing.T) {
	p := newPlace(t)
	now, scope := time.Now(), p.keys.IDScope(tenant)
	defaults := p.keys.GroupKeys(tenant)
	plant, off := p.keyGroup("plant", true), p.keyGroup("off", false)
	root := enginetest.Authority(t, "root", nil)
	p.caGroup("x", true, root)
	leaf := enginetest.Device(t, "leafed", nil)
	p.register("leafed", true)
	p.attest("leafed", own(leaf))
	token := func(id string, key []byte, life time.Duration) deviceauth.Credential {
		return deviceauth.Credential{Token: sas.Sign(scope+"/registrations/"+id, key, time.Now().Add(life), "registration")}
	}
	for _, tc := range []struct {
		name, id, group string
		cred            deviceauth.Credential
		want            error
	}{
		{"default group", "d", "SAS-IoT-Devices", token("d", defaults.DeviceKeys("d").Primary, time.Hour), nil},
		{"another group", "d", "plant", token("d", plant.DeviceKeys("d").Secondary, time.Hour), nil},
		{"disabled group", "d", "", token("d", off.DeviceKeys("d").Primary, time.Hour), deviceauth.ErrGroupDisabled},
		{"expired", "d", "", token("d", plant.DeviceKeys("d").Primary, -time.Hour), deviceauth.ErrExpired},
		{"no group's", "d", "", token("d", []byte("0123456789abcdef"), time.Hour), deviceauth.ErrWrongKey},
		{"the group's key itself", "d", "", token("d", plant.Primary, time.Hour), deviceauth.ErrWrongKey},
		{"another id's token", "d", "", token("e", plant.DeviceKeys("d").Primary, time.Hour), deviceauth.ErrWrongKey},
		{"a hub's token", "d", "", hubToken("d", plant.DeviceKeys("d").Primary, time.Hour), deviceauth.ErrWrongKey},
		{"nothing", "d", "", deviceauth.Credential{}, deviceauth.ErrNoCredential},
		{"chain", "d", "x", chain(enginetest.Device(t, "d", root)), nil},
		{"chain of another", "d", "", chain(enginetest.Device(t, "e", root)), deviceauth.ErrWrongKey},
		{"its own", "leafed", "", chain(leaf), nil},
		{"a group's instead of its own", "leafed", "", token("leafed", defaults.DeviceKeys("leafed").Primary, time.Hour), deviceauth.ErrNoCredential},
	} {
		r, err := p.gate.Register(tenant, scope, tc.id, tc.cred, now)
		require.ErrorIs(t, err, tc.want, tc.name)
		if tc.want == nil && tc.group != "" {
			require.Equal(t, tc.group, r.Group.ID, tc.name)
		}
	}
	_, err := p.gate.Register("another tenant", scope, "d", token("d", plant.DeviceKeys("d").Primary, time.Hour), now)
	require.ErrorIs(t, err, deviceauth.ErrWrongKey, "a tenant's groups let in its own devices")
}

// TestWorkDoesNotTellWhetherADeviceExists compares allocations, which follow the
// work and do not shake as time does.
func TestWorkDoesNotTellWhetherADeviceExists(t *testing.T) {
	p := newPlace(t)
	p.register("there", true)
	wrong := []byte("0123456789abcdef")
	there, nobody := hubToken("there", wrong, time.Hour), hubToken("nobod", wrong, time.Hour)
	work := func(id string, cred deviceauth.Credential) float64 {
		return testing.AllocsPerRun(100, func() { _, _ = p.gate.Admit(tenant, host, id, cred, time.Now()) })
	}
	require.InDelta(t, work("there", there), work("nobod", nobody), 0)
}
