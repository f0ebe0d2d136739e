package bridge

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

// mosquitto is a real broker on a port of its own, which it keeps over restarts.
type mosquitto struct {
	tb     testing.TB
	dir    string
	addr   string
	cmd    *exec.Cmd
	output *bytes.Buffer
	secure *tls.Config // for publishers; nil without TLS
}

// startMosquitto starts the broker with further lines of configuration. Without
// an own `listener` among them it has a plain one.
func startMosquitto(tb testing.TB, lines ...string) *mosquitto {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	m := &mosquitto{tb: tb, dir: tb.TempDir(), addr: listener.Addr().String()}
	require.NoError(tb, listener.Close())
	_, port, _ := net.SplitHostPort(m.addr)
	config := append([]string{
		"listener " + port + " 127.0.0.1",
		"persistence true", "persistence_location " + m.dir + "/",
		"max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true",
		"user root", // or it looks for a user of its own when started by root
	}, lines...)
	require.NoError(tb, os.WriteFile(m.config(), []byte(strings.Join(config, "\n")+"\n"), 0o600))
	tb.Cleanup(func() { m.end(syscall.SIGKILL) })
	m.start()
	return m
}

const anyone = "allow_anonymous true"

func (m *mosquitto) config() string { return filepath.Join(m.dir, "mosquitto.conf") }

// start starts the broker, also again after an end, and waits until it listens.
func (m *mosquitto) start() {
	m.tb.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // Debian's package; users don't have the directory in PATH
	}
	m.output = new(bytes.Buffer)
	m.cmd = exec.Command(path, "-c", m.config())
	m.cmd.Stdout, m.cmd.Stderr = m.output, m.output
	require.NoError(m.tb, m.cmd.Start(), "this test needs Mosquitto: install it with `apt-get install mosquitto`")
	require.Eventually(m.tb, func() bool {
		conn, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 10*time.Second, 5*time.Millisecond, "mosquitto does not listen")
}

// end stops the broker; with SIGTERM it saves what it holds.
func (m *mosquitto) end(signal syscall.Signal) {
	if m.cmd != nil && m.cmd.ProcessState == nil {
		_ = m.cmd.Process.Signal(signal)
		_ = m.cmd.Wait()
	}
}

// client connects a publisher.
func (m *mosquitto) client(id string) (paho.Client, error) {
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{{Scheme: "tcp", Host: m.addr}}
	if m.secure != nil {
		o.Servers[0].Scheme = "ssl"
		o.SetTLSConfig(m.secure)
	}
	o.SetClientID(id)
	o.SetAutoReconnect(false)
	o.SetConnectTimeout(time.Second)
	c := paho.NewClient(o)
	token := c.Connect()
	token.Wait()
	return c, token.Error()
}

// publish sends messages with QoS 1 and returns when all are accepted.
func (m *mosquitto) publish(topic string, payloads ...string) {
	m.tb.Helper()
	c, err := m.client("publisher-" + fmt.Sprint(time.Now().UnixNano()))
	require.NoError(m.tb, err)
	defer c.Disconnect(50)
	for _, p := range payloads {
		token := c.Publish(topic, 1, false, p)
		require.True(m.tb, token.WaitTimeout(10*time.Second))
		require.NoError(m.tb, token.Error())
	}
}

// publishThroughAll sends payload after payload, each until the broker has
// accepted it, whatever becomes of the connection meanwhile.
func (m *mosquitto) publishThroughAll(ctx context.Context, topic string, payloads <-chan string, accepted func()) error {
	var c paho.Client
	defer func() {
		if c != nil {
			c.Disconnect(50)
		}
	}()
	for p := range payloads {
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			if c == nil || !c.IsConnectionOpen() {
				fresh, err := m.client("through-all")
				if err != nil {
					fresh.Disconnect(0)
					continue
				}
				c = fresh
			}
			token := c.Publish(topic, 1, false, p)
			if token.WaitTimeout(2*time.Second) && token.Error() == nil {
				accepted()
				break
			}
		}
	}
	return nil
}
