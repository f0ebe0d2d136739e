package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

// startBroker starts Mosquitto on a free port.
func startBroker(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr = listener.Addr().String()
	require.NoError(t, listener.Close())
	_, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	require.NoError(t, os.WriteFile(config, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\nuser root\n"), 0o600))
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	cmd := exec.Command(path, "-c", config)
	require.NoError(t, cmd.Start(), "this test needs Mosquitto: install it with `apt-get install mosquitto`")
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return addr
}

// TestBridgedTelemetryIsQueryable goes from another broker to a ClickHouse row,
// through a device that the bridge registers, and again after a restart.
func TestBridgedTelemetryIsQueryable(t *testing.T) {
	addr := startBroker(t)
	config := filepath.Join(t.TempDir(), "bridges.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "bridges:\n- name: hall\n  broker: mqtt://%s\n  register: true\n  topics: [{template: 'site/{site}/{device}', properties: {site: captures.site}}]\n", addr), 0o600))
	dir := t.TempDir()
	p := startProcess(t, dir, "--bridge-config", config)
	options := paho.NewClientOptions()
	options.Servers = []*url.URL{{Scheme: "tcp", Host: addr}}
	publisher := paho.NewClient(options)
	token := publisher.Connect()
	require.True(t, token.WaitTimeout(10*time.Second))
	require.NoError(t, token.Error())
	defer publisher.Disconnect(50)
	publish := func(payload string) {
		token := publisher.Publish("site/7/pump-1", 1, false, payload)
		require.True(t, token.WaitTimeout(10*time.Second))
		require.NoError(t, token.Error())
	}
	rows := func() string {
		return p.sql("SELECT count(), any(device), any(properties['site']) FROM fleetlog.telemetry FORMAT TSV")
	}
	connected := func() bool {
		status, metrics, _ := p.call(http.MethodGet, "/metrics", nil)
		return status == http.StatusOK && bytes.Contains(metrics, []byte(`fleetlog_bridge_connected{bridge="hall"} 1`))
	}
	require.Eventually(t, connected, 20*time.Second, 10*time.Millisecond)
	publish(`{"temperature":21.5}`)
	require.Eventually(t, func() bool { return rows() == "1\tpump-1\t7" }, 20*time.Second, 20*time.Millisecond)
	status, answer, _ := p.call(http.MethodGet, "/api/devices/pump-1", nil)
	require.Equal(t, http.StatusOK, status, "the bridge registered the device: %s", answer)
	require.Less(t, p.terminate(), 10*time.Second)

	publish(`{"temperature":22.5}`) // the broker keeps it for the bridge
	p = startProcess(t, dir, "--bridge-config", config)
	require.Eventually(t, func() bool { return rows() == "2\tpump-1\t7" }, 20*time.Second, 20*time.Millisecond)
	p.terminate()
}

func TestBridgeConfigurationMistakesStopTheStart(t *testing.T) {
	config := filepath.Join(t.TempDir(), "bridges.yaml")
	require.NoError(t, os.WriteFile(config, []byte("bridges:\n- name: A B\n  brocker: x\n"), 0o600))
	err := execute(t.Context(), []string{"run", "--data-dir", t.TempDir(), "--bridge-config", config})
	require.ErrorContains(t, err, config+":2: `name`")
	require.ErrorContains(t, err, config+":3: there is no setting `brocker` here")
}
