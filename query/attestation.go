package query

import (
	"bytes"
	"encoding/base64"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Kinds of attestation, as IoT Central names them.
const (
	typeSymmetricKey = "symmetricKey"
	typeX509         = "x509"
	typeTPM          = "tpm"
)

func badType(given string) error {
	if given == typeTPM {
		return badField("type", "TPM attestation is not supported: use %s or %s", typeSymmetricKey, typeX509)
	}
	return badField("type", "the attestation's type is %q: use %s or %s", given, typeSymmetricKey, typeX509)
}

// attest gives a group the attestation that was asked for. What is not given of
// the present one's kind stays; keys that are neither given nor there are
// generated.
func (s *enrollmentGroupService) attest(tenant, id string, asked *apiv1.GroupAttestation, next *eventsv1.EnrollmentGroup) error {
	switch asked.GetType() {
	case typeSymmetricKey:
		return s.attestByKey(tenant, id, asked.GetSymmetricKey(), next)
	case typeX509:
		was := next.GetX509()
		signing := &eventsv1.SigningCertificates{Primary: was.GetPrimary(), Secondary: was.GetSecondary()}
		next.Attestation = &eventsv1.EnrollmentGroup_X509{X509: signing}
		given := asked.GetX509().GetSigningCertificates()
		var err error
		if signing.Primary, err = signingCertificate(signing.GetPrimary(), given.GetPrimary()); err != nil {
			return err
		}
		signing.Secondary, err = signingCertificate(signing.GetSecondary(), given.GetSecondary())
		return err
	}
	return badType(asked.GetType())
}

func (s *enrollmentGroupService) attestByKey(tenant, id string, given *apiv1.SymmetricKey, next *eventsv1.EnrollmentGroup) error {
	var had *device.Keys
	if next.GetSymmetricKey() != nil {
		had = s.groups.Of(tenant).KeysOf(id)
	}
	keys, err := symmetricKeys(had, given)
	if err != nil {
		return err
	}
	if had != nil && bytes.Equal(had.Primary, keys.Primary) && bytes.Equal(had.Secondary, keys.Secondary) {
		return nil // sealed as they are
	}
	next.Attestation = &eventsv1.EnrollmentGroup_SymmetricKey{SymmetricKey: s.keys.SealKeys(enrollment.Place(tenant, id), keys)}
	return nil
}

// symmetricKeys are the keys that are given, else those that were there, else new
// ones.
func symmetricKeys(had *device.Keys, given *apiv1.SymmetricKey) (device.Keys, error) {
	keys := device.GenerateKeys()
	if had != nil {
		keys = *had
	}
	for _, slot := range []struct {
		name, given string
		key         *[]byte
	}{{"primaryKey", given.GetPrimaryKey(), &keys.Primary}, {"secondaryKey", given.GetSecondaryKey(), &keys.Secondary}} {
		if slot.given == "" {
			continue
		}
		key, err := device.ParseKey(slot.given)
		if err != nil {
			return device.Keys{}, badField(slot.name, "%s: %s", slot.name, err)
		}
		*slot.key = key
	}
	return keys, nil
}

func toSymmetricKey(k device.Keys) *apiv1.SymmetricKey {
	return &apiv1.SymmetricKey{
		PrimaryKey:   base64.StdEncoding.EncodeToString(k.Primary),
		SecondaryKey: base64.StdEncoding.EncodeToString(k.Secondary),
	}
}

// signingCertificate is the slot's new content. A certificate that is sent again
// stays verified.
func signingCertificate(had *eventsv1.SigningCertificate, given *apiv1.SigningX509Certificate) (*eventsv1.SigningCertificate, error) {
	if given.GetCertificate() == "" {
		return had, nil
	}
	der, err := enrollment.DecodeCertificate(given.GetCertificate())
	if err != nil {
		return nil, badField("certificate", "%s", err)
	}
	next := &eventsv1.SigningCertificate{Der: der, Verified: given.GetVerified()}
	if bytes.Equal(had.GetDer(), der) {
		next.Verified = next.GetVerified() || had.GetVerified()
		next.VerificationCode = had.GetVerificationCode()
	}
	return next, nil
}

func toSigning(c *eventsv1.SigningCertificate, version uint64) *apiv1.SigningX509Certificate {
	if c == nil {
		return nil
	}
	return &apiv1.SigningX509Certificate{
		Verified: c.GetVerified(), Certificate: enrollment.EncodeCertificate(c.GetDer()), Etag: device.ETag(version),
		Info: &apiv1.X509CertificateInfo{Sha1Thumbprint: enrollment.Thumbprint(c.GetDer())},
	}
}

// clientCertificate is the DER in a device's slot: what is given, else what was
// there.
func clientCertificate(had []byte, given *apiv1.X509Certificate) ([]byte, error) {
	if given.GetCertificate() == "" {
		return had, nil
	}
	der, err := enrollment.DecodeCertificate(given.GetCertificate())
	if err != nil {
		return nil, badField("certificate", "%s", err)
	}
	return der, nil
}

func toX509(c *eventsv1.ClientCertificates) *apiv1.X509 {
	slot := func(der []byte) *apiv1.X509Certificate {
		if len(der) == 0 {
			return nil
		}
		return &apiv1.X509Certificate{
			Certificate: enrollment.EncodeCertificate(der), Info: &apiv1.X509CertificateInfo{Sha1Thumbprint: enrollment.Thumbprint(der)},
		}
	}
	return &apiv1.X509{ClientCertificates: &apiv1.X509Certificates{Primary: slot(c.GetPrimary()), Secondary: slot(c.GetSecondary())}}
}
