package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestMQTT5Clients sends telemetry over TLS with clients that nobody here wrote:
// npm's mqtt package in MQTT 5 mode and Mosquitto's, in both versions.
func TestMQTT5Clients(t *testing.T) {
	const node = "testdata/mqtt-node"
	_, err := os.Stat(filepath.Join(node, "node_modules", "mqtt"))
	require.NoError(t, err, "npm's mqtt is not installed: run `make sdks`, or `make test`, which does")
	mosquitto, err := exec.LookPath("mosquitto_pub")
	require.NoError(t, err, "Mosquitto's clients are not installed: run `make sdks`, or `make test`, which does")
	p := startProcess(t, t.TempDir())
	_, port, err := net.SplitHostPort(p.at.MQTTS)
	require.NoError(t, err)
	ca := filepath.Join(p.dir, "tls", "ca.pem")
	run := func(program string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
		return string(out), err
	}

	t.Run("mqtt of npm", func(t *testing.T) {
		script := filepath.Join(node, "send.js")
		out, err := run("node", script, "node-1", p.deviceKey("node-1"), ca, port, `{"temperature":20.5}`, `{"temperature":21.5}`)
		require.NoError(t, err, out)
		events := strings.Split(strings.TrimSpace(out), "\n")
		require.Len(t, events, 5, out)
		var granted struct {
			SessionExpiryInterval, MaximumQoS, ServerKeepAlive, TopicAliasMaximum int
		}
		require.NoError(t, json.Unmarshal([]byte(events[0]), &granted), out)
		require.Equal(t, 86400, granted.SessionExpiryInterval)
		require.Equal(t, 1, granted.MaximumQoS)
		require.Equal(t, 1177, granted.ServerKeepAlive)
		require.Equal(t, 16, granted.TopicAliasMaximum)
		require.JSONEq(t, `{"event":"acknowledged","payload":"{\"temperature\":21.5}"}`, events[2])
		require.JSONEq(t, `{"event":"refused","code":144}`, events[3], "topic name invalid, and the connection goes on")
		require.JSONEq(t, `{"event":"acknowledged","payload":"{\"after\":true}"}`, events[4])

		out, err = run("node", script, "node-1", "d3Jvbmcga2V5", ca, port, "{}")
		require.Error(t, err, "a wrong key is refused")
		require.Contains(t, out, `"code":135`, "not authorized")
	})

	t.Run("mosquitto_pub", func(t *testing.T) {
		key, err := base64.StdEncoding.DecodeString(p.deviceKey("mosquitto-1"))
		require.NoError(t, err)
		publish := func(version string, key []byte, more ...string) (string, error) {
			password := sas.Sign("localhost/devices/mosquitto-1", key, time.Now().Add(time.Hour), "")
			args := []string{"-V", version, "-h", "localhost", "-p", port, "--cafile", ca, "-i", "mosquitto-1", "-q", "1", "-m", `{"version":"` + version + `"}`,
				"-u", "localhost/mosquitto-1/?api-version=2021-04-12", "-P", password, "-t", "devices/mosquitto-1/messages/events/"}
			return run(mosquitto, append(args, more...)...)
		}
		out, err := publish("311", key)
		require.NoError(t, err, out)
		out, err = publish("5", key, "-D", "PUBLISH", "user-property", "room", "hall 2", "-D", "PUBLISH", "content-type", "application/json", "-x", "3600")
		require.NoError(t, err, out)
		out, err = publish("5", []byte("wrong key"))
		require.Error(t, err, "a wrong key is refused")
		require.Contains(t, out, "Not authorized")
		out, _ = publish("5", key, "-t", "devices/another/messages/events/")
		require.Contains(t, out, "Topic Name invalid")
		require.Contains(t, out, "publish to devices/{deviceId}/messages/events/", "the reason string says what to do")
	})

	bags := telemetryBags(t, p.at.Kafka, 5)
	const sent = "$.ct=application%2Fjson&$.cid=c-1&room=lobby%201&$.sub=thermostat1"
	require.Equal(t, map[string]string{
		`{"temperature":20.5}`: sent, `{"temperature":21.5}`: sent, `{"after":true}`: "",
		`{"version":"311"}`: "", `{"version":"5"}`: "$.ct=application%2Fjson&room=hall%202",
	}, bags)

	t.Run("farewells through TLS", func(t *testing.T) {
		goodbyes := make(chan byte, 2)
		older := p.connectPaho(t, "paho-1", goodbyes)
		newer := p.connectPaho(t, "paho-1", goodbyes)
		require.EqualValues(t, 0x8E, <-goodbyes, "session taken over")
		<-older.Done()
		require.Less(t, p.terminate(), 10*time.Second)
		require.EqualValues(t, 0x8B, <-goodbyes, "server shutting down")
		<-newer.Done()
	})
}

// connectPaho lets a device in with Eclipse Paho for Go; the codes with which the
// gateway disconnects it go to goodbyes.
func (p *process) connectPaho(t *testing.T, id string, goodbyes chan<- byte) *paho.Client {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(p.dir, "tls", "ca.pem"))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	conn, err := tls.Dial("tcp", p.at.MQTTS, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	require.NoError(t, err)
	key, err := base64.StdEncoding.DecodeString(p.deviceKey(id))
	require.NoError(t, err)
	client := paho.NewClient(paho.ClientConfig{Conn: conn, ClientID: id, OnServerDisconnect: func(d *paho.Disconnect) { goodbyes <- d.ReasonCode }})
	_, err = client.Connect(t.Context(), &paho.Connect{
		ClientID: id, KeepAlive: 60, CleanStart: true, UsernameFlag: true, Username: "localhost/" + id + "/?api-version=2021-04-12",
		PasswordFlag: true, Password: []byte(sas.Sign("localhost/devices/"+id, key, time.Now().Add(time.Hour), "")),
	})
	require.NoError(t, err)
	return client
}

// telemetryBags reads n records: their property bags by payload.
func telemetryBags(t *testing.T, kafka string, n int) map[string]string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.ConsumeTopics("fleetlog.telemetry"))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bags := map[string]string{}
	for len(bags) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err(), "after %d of %d records", len(bags), n)
		fetches.EachRecord(func(r *kgo.Record) {
			bags[string(r.Value)] = ""
			for _, h := range r.Headers {
				if h.Key == "ce_properties" {
					bags[string(r.Value)] = string(h.Value)
				}
			}
		})
	}
	return bags
}
