package enrollment

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a thumbprint that names a certificate to people, nothing is secured by it
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxCertificateText bounds a certificate as a person sends it.
const MaxCertificateText = 32 << 10

var errNotPEM = errors.New("the certificate cannot be read: send one X.509 certificate in PEM, or the base64 of one")

// DecodeCertificate takes the DER out of a certificate as IoT Central's clients
// send it: PEM, or base64 of PEM or DER. What comes after the first certificate
// is refused.
func DecodeCertificate(text string) ([]byte, error) {
	if len(text) > MaxCertificateText {
		return nil, fmt.Errorf("the certificate has %d characters: use at most %d", len(text), MaxCertificateText)
	}
	content := []byte(strings.TrimSpace(text))
	if !bytes.HasPrefix(content, []byte("-----BEGIN")) {
		decoded, err := base64.StdEncoding.DecodeString(string(content))
		if err != nil {
			return nil, errNotPEM
		}
		content = decoded
		if text := bytes.TrimSpace(decoded); bytes.HasPrefix(text, []byte("-----BEGIN")) {
			content = text // of DER, the last byte may be one that is space in a text
		}
	}
	der := content
	if bytes.HasPrefix(content, []byte("-----BEGIN")) {
		block, rest := pem.Decode(content)
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, errNotPEM
		}
		der = block.Bytes
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return nil, errNotPEM
	}
	return der, nil
}

// EncodeCertificate is the PEM of a certificate.
func EncodeCertificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Thumbprint names a certificate as IoT Central does: SHA-1, upper-case hex.
func Thumbprint(der []byte) string {
	sum := sha1.Sum(der) //nolint:gosec // as above
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// NewVerificationCode makes what a CA's owner has to sign (AUTH-21).
func NewVerificationCode() string {
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return strings.ToUpper(hex.EncodeToString(random[:]))
}

// Verify checks that the proof is a certificate which the authority signed for
// the code. All are as the group and the caller have them; the error says what to
// do.
func Verify(authority []byte, code string, proof []byte, at time.Time) error {
	if code == "" {
		return errors.New("there is no verification code: ask for one with generateVerificationCode first")
	}
	ca, err := ParseAuthority(authority)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(proof)
	switch {
	case err != nil:
		return errNotPEM
	case cert.Subject.CommonName != code:
		return errors.New("the verification certificate's common name is not the verification code: sign a certificate for the code that was generated last")
	case at.Before(cert.NotBefore) || at.After(cert.NotAfter):
		return errors.New("the verification certificate is not valid at this time: sign a new one and check the clock")
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("the verification certificate is not signed by the certificate to verify: %w", err)
	}
	return nil
}
