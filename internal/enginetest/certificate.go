package enginetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Identity is a certificate with its key, as a device or a CA has it.
type Identity struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Device makes a device's certificate, valid for an hour, signed by the CA or by
// itself when there is none.
func Device(t testing.TB, name string, ca *Identity) *Identity {
	t.Helper()
	now := time.Now()
	return IssueFor(t, name, ca, now.Add(-time.Hour), now.Add(time.Hour))
}

// IssueFor is Device with another time in which the certificate is valid.
func IssueFor(t testing.TB, name string, ca *Identity, from, to time.Time) *Identity {
	t.Helper()
	return issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature}, ca)
}

// Authority makes a CA, below the parent when there is one.
func Authority(t testing.TB, name string, parent *Identity) *Identity {
	t.Helper()
	now := time.Now()
	return issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, parent)
}

func issue(t testing.TB, template *x509.Certificate, by *Identity) *Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	if by == nil {
		by = &Identity{Cert: template, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Cert, &key.PublicKey, by.Key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &Identity{Cert: cert, Key: key}
}

// PEM is the certificate.
func (i *Identity) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Cert.Raw}))
}

// KeyPEM is the key.
func (i *Identity) KeyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// TLS is the identity as a TLS client shows it, with the CAs between it and the
// root.
func (i *Identity) TLS(between ...*Identity) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{i.Cert.Raw}, PrivateKey: i.Key}
	for _, ca := range between {
		c.Certificate = append(c.Certificate, ca.Cert.Raw)
	}
	return c
}
