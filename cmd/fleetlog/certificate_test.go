package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/stretchr/testify/require"
)

// TestANewCertificateNeedsNoRestart renews the certificate of a listener: who connects
// then sees the new one, and a file that cannot be read changes nothing.
func TestANewCertificateNeedsNoRestart(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(name string, age time.Duration) {
		made := enginetest.Authority(t, name, nil)
		require.NoError(t, os.WriteFile(keyFile, []byte(made.KeyPEM(t)), 0o600))
		require.NoError(t, os.WriteFile(certFile, []byte(made.PEM()), 0o600))
		at := time.Now().Add(-age)
		require.NoError(t, os.Chtimes(certFile, at, at))
	}
	write("first", time.Hour)
	c, err := openCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	c.every = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-ended) }()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) { defer conn.Close(); _ = conn.(*tls.Conn).HandshakeContext(ctx) }(conn)
		}
	}()
	serves := func() string {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	require.Equal(t, "first", serves())
	require.NoError(t, os.WriteFile(certFile, []byte("half a fi"), 0o600))
	require.Equal(t, "first", serves())
	write("second", 0)
	require.Eventually(t, func() bool { return serves() == "second" }, 10*time.Second, 5*time.Millisecond)

	_, err = openCertificate(filepath.Join(dir, "none"), keyFile, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "--tls-cert")
}
