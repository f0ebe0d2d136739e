package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// TestPrecedence sets one flag in ever more ways: flag, environment, file and
// default, in this order.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleetlog.yaml")
	require.NoError(t, os.WriteFile(file, []byte("api-addr: from-file:1\ngrpc-addr: from-file:2\nmqtt-addr: from-file:3\ntls-name: [a, b]\nretention: 1h\ndemo: true\n"), 0o600))
	t.Setenv("FLEETLOG_API_ADDR", "from-env:1")
	t.Setenv("FLEETLOG_GRPC_ADDR", "from-env:2")
	var c cli
	parser, err := newParser(t.Context(), &c)
	require.NoError(t, err)
	_, err = parser.Parse([]string{"run", "--config", file, "--api-addr", "from-flag:1"})
	require.NoError(t, err)
	require.Equal(t, "from-flag:1", c.Run.APIAddr)
	require.Equal(t, "from-env:2", c.Run.GRPCAddr)
	require.Equal(t, "from-file:3", c.Run.MQTTAddr)
	require.Equal(t, "127.0.0.1:8883", c.Run.MQTTSAddr)
	require.Equal(t, []string{"a", "b"}, c.Run.TLSName)
	require.Equal(t, "1h0m0s", c.Run.Retention.String())
	require.True(t, c.Run.Demo)
}

func TestConfigurationMistakesAreNamed(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"unknown setting", "api-adr: x\n", "api-adr"},
		{"not YAML", "a: [\n", "fleetlog.yaml"},
		{"wrong type", "partitions: many\n", "partitions"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "fleetlog.yaml")
			require.NoError(t, os.WriteFile(file, []byte(tc.content), 0o600))
			var c cli
			parser, err := newParser(t.Context(), &c)
			require.NoError(t, err)
			_, err = parser.Parse([]string{"run", "--config", file})
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// TestEveryFlagTeaches wants a help text from every flag and command.
func TestEveryFlagTeaches(t *testing.T) {
	var c cli
	parser, err := newParser(t.Context(), &c)
	require.NoError(t, err)
	require.NoError(t, kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		switch n := node.(type) {
		case *kong.Flag:
			require.NotEmpty(t, n.Help, "--%s", n.Name)
		case *kong.Command:
			require.NotEmpty(t, n.Help, n.Name)
		}
		return next(nil)
	}))
}
