// Package deviceauth decides whether a credential lets a device in: a SAS token,
// or the certificate chain of a TLS client that has proven to hold its key.
//
// In go what the device claims and shows, and the node's views of devices and
// enrollment groups; out comes a grant or one of the errors below. Nothing is
// read from elsewhere and nothing is changed. A device's own attestation goes
// before its group's (FEATURES.md AUTH-02); keys are compared in constant time,
// and for a device that does not exist the same work is done as for one that
// does.
package deviceauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Why a credential does not let a device in. The door tells the device less than
// this; a person who reads the log needs it.
var (
	ErrNoCredential  = errors.New("no credential: send a SAS token, or a client certificate in the TLS handshake")
	ErrUnknownDevice = errors.New("the device does not exist")
	ErrWrongKey      = errors.New("the credential is not the device's")
	ErrExpired       = errors.New("the credential's time is over, or has not come")
	ErrBlocked       = errors.New("the device is blocked")
	ErrWaiting       = errors.New("the device waits for approval")
	ErrGroupDisabled = errors.New("the device's enrollment group is disabled or deleted")
)

// errStranger is for a device there is not, with a credential that would not be
// its own: a door that tells the one from the other says the latter. It is made
// once, so that it costs what the other refusals do.
var errStranger = errors.Join(ErrUnknownDevice, ErrWrongKey)

// Credential is what a device shows. A token goes before a chain.
type Credential struct {
	// Token is a shared access signature as sent.
	Token string
	// Chain is the TLS client's certificates, leaf first. TLS has shown that the
	// client holds the leaf's key; who signed it is checked here.
	Chain []*x509.Certificate
}

// Gate checks credentials. It is safe for concurrent use.
type Gate struct {
	devices *registry.Registry
	groups  *enrollment.Groups
	keys    *device.MasterKey
	// stranger is the encoded state of a device, decoded where there is none: the
	// registry decodes the state of one there is.
	stranger []byte
}

// New makes a gate over the node's views.
func New(devices *registry.Registry, groups *enrollment.Groups, keys *device.MasterKey) *Gate {
	at := timestamppb.Now()
	stranger, err := proto.Marshal(&eventsv1.DeviceState{
		Tenant: "default", Device: "stranger", DisplayName: "stranger", Version: 1, Enabled: true, RegisteredAt: at, UpdatedAt: at, Revision: 1,
	})
	if err != nil {
		panic(fmt.Sprintf("a state that is always the same cannot be encoded: %v", err))
	}
	return &Gate{devices: devices, groups: groups, keys: keys, stranger: stranger}
}

// Ready is nil once the views have caught up with the log.
func (g *Gate) Ready() error {
	if err := g.devices.Ready(); err != nil {
		return err
	}
	return g.groups.Ready()
}

// Groups is the view of enrollment groups.
func (g *Gate) Groups() *enrollment.Groups { return g.groups }

// Grant is a device that has been let in.
type Grant struct {
	// Expires is when the credential does, and with it the grant.
	Expires time.Time
	// Group by whose credential the device is in; empty for one of its own.
	Group string

	module       string
	attestation  *eventsv1.Attestation
	groupVersion uint64
}

// Admit decides whether the credential may act as the device. The host is the
// name by which the device calls the gateway; a token is for one host.
func (g *Gate) Admit(tenant, host, deviceID string, cred Credential, at time.Time) (Grant, error) {
	state := g.devices.Get(tenant, deviceID)
	if state == nil {
		_, _ = device.DecodeState(g.stranger) // as for a device there is
	}
	grant, err := g.prove(tenant, deviceID, state, cred, at, func(t sas.Token) bool { return t.Covers(host, deviceID) })
	switch {
	case errors.Is(err, ErrNoCredential):
		return Grant{}, err
	case state == nil && err != nil:
		return Grant{}, errStranger
	case state == nil:
		return Grant{}, ErrUnknownDevice
	case err != nil:
		return Grant{}, err
	}
	return grant, enabled(state)
}

// AdmitModule decides whether the credential may act as a module of the device: a
// token signed with one of the module's keys.
func (g *Gate) AdmitModule(tenant, host, deviceID, module string, cred Credential, at time.Time) (Grant, error) {
	token, err := parse(cred.Token)
	if err != nil {
		return Grant{}, err
	}
	err = verify(token, g.keys.ModuleKeys(tenant, deviceID, module), at, func(t sas.Token) bool { return t.Covers(host, deviceID+"/modules/"+module) })
	grant := Grant{Expires: token.Expiry, module: module}
	if err == nil {
		err = g.Holds(tenant, deviceID, grant)
	}
	return grant, err
}

// Holds reports whether a grant is still good: nil, or why not. It does not check
// credentials again; it sees that what they were checked against has changed.
func (g *Gate) Holds(tenant, deviceID string, grant Grant) error {
	state := g.devices.Get(tenant, deviceID)
	if state == nil {
		return ErrUnknownDevice
	}
	if err := enabled(state); err != nil {
		return err
	}
	if grant.module != "" {
		if device.IdentityOf(state, grant.module) == nil {
			return ErrUnknownDevice
		}
		return nil
	}
	if !proto.Equal(state.GetAttestation(), grant.attestation) {
		return ErrWrongKey
	}
	if grant.Group == "" {
		return nil
	}
	group := g.groups.Of(tenant).Get(grant.Group)
	if group == nil || !group.GetEnabled() {
		return ErrGroupDisabled
	}
	if group.Version != grant.groupVersion {
		return ErrWrongKey
	}
	return nil
}

func enabled(state *eventsv1.DeviceState) error {
	switch {
	case state.GetEnabled():
		return nil
	case state.GetWaiting() && !state.GetBlockedWhileWaiting():
		return ErrWaiting
	}
	return ErrBlocked
}

// prove checks the credential against the device's own attestation, else against
// its group's. The state is nil for a device there is not.
func (g *Gate) prove(tenant, id string, state *eventsv1.DeviceState, cred Credential, at time.Time, covers func(sas.Token) bool) (Grant, error) {
	if own := state.GetAttestation(); own != nil {
		expires, err := g.proveOwn(tenant, id, own, cred, at, covers)
		return Grant{Expires: expires, attestation: own}, err
	}
	name := state.GetEnrollmentGroup()
	groups := g.groups.Of(tenant)
	if name == "" && cred.Token == "" && len(cred.Chain) > 0 {
		// Nobody has told yet which group the device is of; its chain does.
		group, err := signer(groups, id, cred.Chain, at)
		if err != nil {
			return Grant{}, err
		}
		return grantBy(group, cred.Chain[0].NotAfter)
	}
	if name == "" {
		name = device.DefaultGroup
	}
	group := groups.Get(name)
	switch {
	case group == nil:
		return Grant{}, ErrGroupDisabled
	case group.GetX509() != nil:
		if cred.Token == "" && len(cred.Chain) == 0 {
			return Grant{}, ErrNoCredential
		}
		signed, err := signer(groups, id, cred.Chain, at)
		if err != nil {
			return Grant{}, err
		}
		if signed.ID != group.ID {
			return Grant{}, fmt.Errorf("%w: it is of enrollment group %s, the device is of %s; register again", ErrWrongKey, signed.ID, group.ID)
		}
		return grantBy(group, cred.Chain[0].NotAfter)
	}
	token, err := parse(cred.Token)
	if err != nil {
		return Grant{}, err
	}
	if err := byGroupKey(group, id, token, at, covers); err != nil {
		return Grant{}, err
	}
	return grantBy(group, token.Expiry)
}

func grantBy(group *enrollment.Group, expires time.Time) (Grant, error) {
	if !group.GetEnabled() {
		return Grant{}, ErrGroupDisabled
	}
	return Grant{Expires: expires, Group: group.ID, groupVersion: group.Version}, nil
}

func (g *Gate) proveOwn(tenant, id string, own *eventsv1.Attestation, cred Credential, at time.Time, covers func(sas.Token) bool) (expires time.Time, err error) {
	if certificates := own.GetX509(); certificates != nil {
		return byThumbprint(certificates, cred.Chain, at)
	}
	token, err := parse(cred.Token)
	if err != nil {
		return time.Time{}, err
	}
	keys, err := g.keys.OpenKeys(device.AttestationPlace(tenant, id), own.GetSymmetricKey())
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrWrongKey, err)
	}
	return token.Expiry, verify(token, keys, at, covers)
}

// parse reads a token.
func parse(token string) (sas.Token, error) {
	if token == "" {
		return sas.Token{}, ErrNoCredential
	}
	t, err := sas.Parse(token)
	if err != nil {
		return sas.Token{}, fmt.Errorf("%w: %w", ErrNoCredential, err)
	}
	return t, nil
}

// verify checks a token against both keys, whichever signed it.
func verify(token sas.Token, keys device.Keys, at time.Time, covers func(sas.Token) bool) error {
	first, second := token.Verify(keys.Primary, at), token.Verify(keys.Secondary, at)
	if errors.Is(first, sas.ErrBadSignature) {
		first = second
	}
	switch {
	case errors.Is(first, sas.ErrExpired):
		return ErrExpired
	case first != nil:
		return fmt.Errorf("%w: %w", ErrWrongKey, first)
	case !covers(token):
		return fmt.Errorf("%w: the token is for another resource, %s", ErrWrongKey, token)
	}
	return nil
}

// byGroupKey checks a token against the device's keys by a group.
func byGroupKey(group *enrollment.Group, id string, token sas.Token, at time.Time, covers func(sas.Token) bool) error {
	if group.Keys == nil {
		return fmt.Errorf("%w: the keys of enrollment group %s cannot be opened", ErrWrongKey, group.ID)
	}
	return verify(token, group.Keys.DeviceKeys(id), at, covers)
}

// byThumbprint checks the leaf against the device's own certificates (AUTH-23).
func byThumbprint(own *eventsv1.ClientCertificates, chain []*x509.Certificate, at time.Time) (expires time.Time, err error) {
	if len(chain) == 0 {
		return time.Time{}, ErrNoCredential
	}
	leaf := chain[0]
	shown := sha256.Sum256(leaf.Raw)
	same := 0
	for _, der := range [][]byte{own.GetPrimary(), own.GetSecondary()} {
		known := sha256.Sum256(der)
		same |= subtle.ConstantTimeCompare(shown[:], known[:])
	}
	switch {
	case same == 0:
		return time.Time{}, fmt.Errorf("%w: the certificate is neither its primary nor its secondary", ErrWrongKey)
	case at.Before(leaf.NotBefore) || at.After(leaf.NotAfter):
		return time.Time{}, fmt.Errorf("%w: the certificate is valid from %s to %s", ErrExpired, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	return leaf.NotAfter, nil
}

// signer finds the group that a device's chain leads to (AUTH-20).
func signer(groups *enrollment.Tenant, id string, chain []*x509.Certificate, at time.Time) (*enrollment.Group, error) {
	if len(chain) == 0 {
		return nil, ErrNoCredential
	}
	leaf := chain[0]
	if subtle.ConstantTimeCompare([]byte(leaf.Subject.CommonName), []byte(id)) != 1 {
		return nil, fmt.Errorf("%w: the certificate's common name is not the device id", ErrWrongKey)
	}
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		return nil, fmt.Errorf("%w: the certificate is valid from %s to %s", ErrExpired, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	group, err := groups.Signer(chain, at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongKey, err)
	}
	if group == nil {
		return nil, ErrWrongKey
	}
	return group, nil
}
