package bridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/localca"
	"github.com/stretchr/testify/require"
)

// passwords makes Mosquitto's password file with the user of the tests.
func passwords(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passwords")
	out, err := exec.Command("mosquitto_passwd", "-c", "-b", file, "fleetlog", "correct horse").CombinedOutput()
	require.NoError(t, err, "this test needs Mosquitto: install it with `apt-get install mosquitto`; %s", out)
	return file
}

// clientCertificate makes a certificate that vouches for itself.
func clientCertificate(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleetlog"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return certFile, keyFile
}

func TestTLSWithClientCertificate(t *testing.T) {
	dir := t.TempDir()
	_, err := localca.ServerConfig(dir, []string{"127.0.0.1"}, time.Now())
	require.NoError(t, err)
	cert, key := clientCertificate(t, dir)
	m := startMosquitto(t, "cafile "+cert, "certfile "+filepath.Join(dir, "server.pem"), "keyfile "+filepath.Join(dir, "server.key"),
		"require_certificate true", "use_identity_as_username true", anyone)
	s := newSite(t, enginetest.EmbeddedLog(t))
	s.put("d", true)
	config := func(tls string) string {
		return fmt.Sprintf("bridges:\n- name: hall\n  broker: mqtts://%s\n  topics: [{template: '{device}'}]\n%s", m.addr, tls)
	}

	stranger := s.attach("n1", config(""))
	require.Eventually(t, func() bool { return strings.Contains(stranger.said.String(), "unknown authority") }, 10*time.Second, time.Millisecond)
	stranger.stop()
	nameless := s.attach("n1", config(fmt.Sprintf("  tls: {ca-file: %s}\n", localca.CAFile(dir))))
	require.Eventually(t, func() bool { return strings.Contains(nameless.said.String(), "trying again") }, 10*time.Second, time.Millisecond)
	nameless.stop()

	config1 := config(fmt.Sprintf("  tls: {ca-file: %s, cert-file: %s, key-file: %s}\n", localca.CAFile(dir), cert, key))
	s.attach("n1", config1).connected(t)
	m.secure, err = tlsFiles{ca: localca.CAFile(dir), cert: cert, key: key}.config()
	require.NoError(t, err)
	m.publish("d", `{"n":1}`)
	require.Equal(t, `{"n":1}`, string(s.read(eventlog.Telemetry, count(1))[0].Value))
}
