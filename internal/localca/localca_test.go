package localca

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dial connects to a server with the configuration, trusting only dir's ca.pem.
func dial(t *testing.T, dir string, server *tls.Config, name string) error {
	t.Helper()
	pem, err := os.ReadFile(CAFile(dir))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.(*tls.Conn).HandshakeContext(t.Context())
			_ = conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func TestServerIsTrustedThroughTheLocalCA(t *testing.T) {
	dir := t.TempDir()
	cfg, err := ServerConfig(dir, []string{"localhost", "127.0.0.1"}, time.Now())
	require.NoError(t, err)
	require.NoError(t, dial(t, dir, cfg, "localhost"))
	require.NoError(t, dial(t, dir, cfg, "127.0.0.1"))
	require.Error(t, dial(t, dir, cfg, "elsewhere.example"))
	for _, secret := range []string{"ca.key", "server.key"} {
		stat, err := os.Stat(dir + "/" + secret)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), stat.Mode().Perm(), secret)
	}
}

func TestCertificatesAreKeptUntilTheyNoLongerServe(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	serial := func(names []string, at time.Time) string {
		cfg, err := ServerConfig(dir, names, at)
		require.NoError(t, err)
		return cfg.Certificates[0].Leaf.SerialNumber.String()
	}
	first := serial([]string{"localhost"}, now)
	require.Equal(t, first, serial([]string{"localhost"}, now), "kept at the next start")
	second := serial([]string{"localhost", "gateway.example"}, now)
	require.NotEqual(t, first, second, "made anew for a name it lacks")
	require.NotEqual(t, second, serial([]string{"localhost"}, now.Add(serverLife-renewBefore+time.Hour)), "made anew before it ends")
}
