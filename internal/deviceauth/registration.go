package deviceauth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/sas"
)

// Kinds of attestation, as the provisioning service names them.
const (
	SymmetricKey = "symmetricKey"
	X509         = "x509"
)

// Registrant is who may register as a device with the provisioning service.
type Registrant struct {
	Tenant, ID string
	// Group whose credential was shown; nil for one of the device's own.
	Group *enrollment.Group
	// Attestation is SymmetricKey or X509.
	Attestation string
	// Expires is when the credential does.
	Expires time.Time
}

// Register decides whether the credential may register the id with the
// provisioning service: by the device's own attestation when it has one, else by
// that of any of the tenant's groups (FEATURES.md DEV-23). Whether the device is
// blocked is not asked here.
func (g *Gate) Register(tenant, idScope, id string, cred Credential, at time.Time) (Registrant, error) {
	covers := func(t sas.Token) bool { return coversRegistration(t, idScope, id) }
	r := Registrant{Tenant: tenant, ID: id, Attestation: SymmetricKey}
	if cred.Token == "" {
		r.Attestation = X509
	}
	var err error
	if own := g.devices.Get(tenant, id).GetAttestation(); own != nil {
		r.Expires, err = g.proveOwn(tenant, id, own, cred, at, covers)
		return r, err
	}
	groups := g.groups.Of(tenant)
	if cred.Token == "" {
		if r.Group, err = signer(groups, id, cred.Chain, at); err == nil {
			r.Expires = cred.Chain[0].NotAfter
		}
	} else {
		r.Group, r.Expires, err = byAnyGroupKey(groups, id, cred.Token, at, covers)
	}
	if err == nil && !r.Group.GetEnabled() {
		err = fmt.Errorf("%w: %s", ErrGroupDisabled, r.Group.ID)
	}
	return r, err
}

// byAnyGroupKey tries all groups, also after one that fits, so that the time it
// takes does not tell which.
func byAnyGroupKey(groups *enrollment.Tenant, id, given string, at time.Time, covers func(sas.Token) bool) (found *enrollment.Group, expires time.Time, err error) {
	token, err := parse(given)
	if err != nil {
		return nil, time.Time{}, err
	}
	err = ErrWrongKey
	for _, group := range groups.Symmetric() {
		switch why := byGroupKey(group, id, token, at, covers); {
		case why == nil && found == nil:
			found = group
		case why != nil && found == nil && !errors.Is(why, ErrWrongKey):
			err = why // signed by this group's key, but expired
		}
	}
	if found == nil {
		return nil, time.Time{}, err
	}
	return found, token.Expiry, nil
}

// coversRegistration compares a token's resource with
// `{idScope}/registrations/{registrationId}` (AUTH-35).
func coversRegistration(t sas.Token, idScope, id string) bool {
	scope, rest, _ := strings.Cut(t.Resource, "/")
	word, registration, _ := strings.Cut(rest, "/")
	return scope == idScope && word == "registrations" && registration == id
}
