// Package enrollment is the enrollment groups: by what credential devices get in
// that nobody has registered one by one (FEATURES.md AUTH-02..AUTH-25).
//
// It holds the rules of the resource, which the catalog's fold applies, and a
// node's view of a tenant's groups in the form in which credentials are checked
// against them: keys opened, signing certificates parsed. Keys never leave it in
// an error or a log line.
package enrollment

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// KindName is the catalog's name of enrollment groups.
const KindName = "enrollmentGroups"

const (
	maxNameLength = 148
	// maxGroups bounds a tenant's groups of either attestation (FEATURES.md §17.3),
	// and with them the work of finding a stranger's group.
	maxGroups = 100
	// maxSealedBytes is well beyond a sealed key of the largest size.
	maxSealedBytes = 256
	maxDERBytes    = 16 << 10
	maxCodeLength  = 64
)

var idPattern = regexp.MustCompile(`^[a-zA-Z0-9-]{1,255}$`)

// Kind is the enrollment group as the catalog needs to know it.
func Kind() catalog.Kind {
	return catalog.Kind{
		Name: KindName,
		Noun: "enrollment group",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if g := ev.GetEnrollmentGroup(); g != nil {
				return g
			}
			return nil
		},
		Builtin: map[string]proto.Message{device.DefaultGroup: &eventsv1.EnrollmentGroup{
			DisplayName: device.DefaultGroup, Enabled: true, AutoApprove: true, Type: eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT,
			Attestation: &eventsv1.EnrollmentGroup_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{}},
		}},
		Validate: func(_, id string, body proto.Message) error { return validate(id, body.(*eventsv1.EnrollmentGroup)) },
		Admit: func(others catalog.View, tenant, id string, body proto.Message) error {
			return admit(others.List(tenant, KindName, "", 2*maxGroups+1), id, body.(*eventsv1.EnrollmentGroup))
		},
	}
}

// Place is where a group's sealed keys stand.
func Place(tenant, id string) string { return tenant + "/" + KindName + "/" + id }

func validate(id string, g *eventsv1.EnrollmentGroup) error {
	switch {
	case !idPattern.MatchString(id):
		return errors.New("the enrollment group's id is not valid: use 1 to 255 letters, digits and '-'")
	case g.GetDisplayName() == "" || utf8.RuneCountInString(g.GetDisplayName()) > maxNameLength || !utf8.ValidString(g.GetDisplayName()):
		return fmt.Errorf("displayName is not valid: use 1 to %d characters", maxNameLength)
	case g.GetType() != eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT && g.GetType() != eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT_EDGE:
		return errors.New("type is not valid: use iot or iotEdge")
	}
	switch a := g.GetAttestation().(type) {
	case *eventsv1.EnrollmentGroup_SymmetricKey:
		return validateKeys(id, a.SymmetricKey)
	case *eventsv1.EnrollmentGroup_X509:
		if id == device.DefaultGroup {
			return fmt.Errorf("the group %s uses symmetric keys: make another group for X.509", device.DefaultGroup)
		}
		return validateSigning(a.X509)
	default:
		return errors.New("attestation is neither symmetricKey nor x509")
	}
}

func validateKeys(id string, k *eventsv1.SealedKeys) error {
	if id == device.DefaultGroup && len(k.GetPrimary()) == 0 && len(k.GetSecondary()) == 0 {
		return nil // derived from the master key
	}
	for _, sealed := range [][]byte{k.GetPrimary(), k.GetSecondary()} {
		if len(sealed) == 0 || len(sealed) > maxSealedBytes {
			return errors.New("symmetricKey needs a primaryKey and a secondaryKey")
		}
	}
	return nil
}

func validateSigning(s *eventsv1.SigningCertificates) error {
	for _, slot := range slots(s) {
		if len(slot.GetVerificationCode()) > maxCodeLength {
			return fmt.Errorf("verification code is longer than %d", maxCodeLength)
		}
		if _, err := ParseAuthority(slot.GetDer()); err != nil {
			return err
		}
	}
	if p, s := s.GetPrimary(), s.GetSecondary(); p != nil && s != nil && bytes.Equal(p.GetDer(), s.GetDer()) {
		return errors.New("primary and secondary are the same certificate: leave secondary out until there is a new one")
	}
	return nil
}

// slots are the certificates that are there.
func slots(s *eventsv1.SigningCertificates) []*eventsv1.SigningCertificate {
	var all []*eventsv1.SigningCertificate
	for _, slot := range []*eventsv1.SigningCertificate{s.GetPrimary(), s.GetSecondary()} {
		if slot != nil {
			all = append(all, slot)
		}
	}
	return all
}

// admit checks a group against the tenant's others: one CA certificate is in one
// group only (AUTH-20), so that a chain leads to one group.
func admit(others []*catalog.Resource, id string, g *eventsv1.EnrollmentGroup) error {
	same := 0
	for _, r := range others {
		other := r.Body.(*eventsv1.EnrollmentGroup)
		if r.ID == id {
			continue
		}
		if (other.GetX509() != nil) == (g.GetX509() != nil) {
			same++
		}
		for _, theirs := range slots(other.GetX509()) {
			for _, ours := range slots(g.GetX509()) {
				if bytes.Equal(theirs.GetDer(), ours.GetDer()) {
					return fmt.Errorf("the certificate is already in enrollment group %q: a CA certificate can be in one group only", r.ID)
				}
			}
		}
	}
	if same >= maxGroups {
		return fmt.Errorf("there are already %d enrollment groups of this attestation type: delete one first", maxGroups)
	}
	return nil
}

// Revokes reports whether a change of a group (after nil: its deletion) takes
// back what a device may have been let in by.
func Revokes(before, after *eventsv1.EnrollmentGroup) bool {
	if before == nil || !before.GetEnabled() {
		return false // nobody was let in
	}
	if after == nil || !after.GetEnabled() {
		return true
	}
	left := credentials(after)
	for _, had := range credentials(before) {
		if !contains(left, had) {
			return true
		}
	}
	return false
}

// credentials are the group's keys, sealed, or its verified certificates.
func credentials(g *eventsv1.EnrollmentGroup) [][]byte {
	if k := g.GetSymmetricKey(); k != nil {
		return [][]byte{append([]byte("primary"), k.GetPrimary()...), append([]byte("secondary"), k.GetSecondary()...)}
	}
	var all [][]byte
	for _, slot := range slots(g.GetX509()) {
		if slot.GetVerified() {
			all = append(all, slot.GetDer())
		}
	}
	return all
}

func contains(all [][]byte, one []byte) bool {
	for _, other := range all {
		if bytes.Equal(other, one) {
			return true
		}
	}
	return false
}

// ParseAuthority reads a CA certificate (DER) and checks that it can sign
// devices' certificates.
func ParseAuthority(der []byte) (*x509.Certificate, error) {
	if len(der) > maxDERBytes {
		return nil, fmt.Errorf("the certificate has %d bytes: use at most %d", len(der), maxDERBytes)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be read: send one X.509 certificate in PEM: %w", err)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("the certificate is not a CA's: send the root or intermediate certificate that signs the devices' certificates")
	}
	return cert, nil
}
