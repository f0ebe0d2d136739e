package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// azureDevice is a device that runs one of Azure's own SDKs, in a process of its
// own. It is told what to do, and says what happens, by lines of JSON.
type azureDevice struct {
	t     *testing.T
	says  chan map[string]any
	tell  io.WriteCloser
	ended chan error
}

// sdk is one of Azure's device SDKs.
type sdk struct {
	name      string
	command   []string
	installed string
	succeed   string // a method that its device script answers with 200
}

func azureSDKs() []sdk {
	const node, python = "testdata/azure-node", "testdata/azure-python"
	return []sdk{
		{"node", []string{"node", filepath.Join(node, "device.js")}, filepath.Join(node, "node_modules", "azure-iot-device"), "succeed"},
		{"python", []string{"python3", filepath.Join(python, "device.py")}, filepath.Join(python, "site", "azure", "iot"), "succeed"},
	}
}

// eachAzureSDK runs a test with every SDK, over MQTT and over MQTT on WebSocket.
func eachAzureSDK(t *testing.T, run func(t *testing.T, s sdk, config map[string]any)) {
	for _, s := range azureSDKs() {
		_, err := os.Stat(s.installed)
		require.NoError(t, err, "Azure's SDK is not installed: run `make sdks`, or `make test`, which does")
		for _, websockets := range []bool{false, true} {
			name := s.name + " mqtt"
			if websockets {
				name = s.name + " websocket"
			}
			t.Run(name, func(t *testing.T) { run(t, s, map[string]any{"websockets": websockets}) })
		}
	}
}

// startAzureDevice starts a device against the platform and waits until it is
// connected.
func startAzureDevice(t *testing.T, p *process, s sdk, config map[string]any) *azureDevice {
	t.Helper()
	d := runAzureDevice(t, p, s, config)
	d.wait("ready")
	return d
}

func runAzureDevice(t *testing.T, p *process, s sdk, config map[string]any) *azureDevice {
	t.Helper()
	web, err := url.Parse(p.at.HTTPS)
	require.NoError(t, err)
	_, mqtts, err := net.SplitHostPort(p.at.MQTTS)
	require.NoError(t, err)
	all := map[string]any{"host": "localhost", "ca": filepath.Join(p.dir, "tls", "ca.pem")}
	for flag, port := range map[string]string{"mqttsPort": mqtts, "httpsPort": web.Port()} {
		all[flag], err = strconv.Atoi(port)
		require.NoError(t, err)
	}
	for key, value := range config {
		all[key] = value
	}
	encoded, err := json.Marshal(all)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	c := exec.CommandContext(ctx, s.command[0], append(s.command[1:], string(encoded))...)
	errs, err := os.CreateTemp(t.TempDir(), "stderr")
	require.NoError(t, err)
	c.Stderr = errs
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	d := &azureDevice{t: t, says: make(chan map[string]any, 1000), tell: in, ended: make(chan error, 1)}
	go func() {
		defer close(d.says)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said := map[string]any{}
			if json.Unmarshal(lines.Bytes(), &said) == nil {
				d.says <- said
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = c.Wait()
		if text, _ := os.ReadFile(errs.Name()); t.Failed() && len(text) > 0 {
			t.Logf("the device's errors (their end):\n%s", text[max(0, len(text)-4000):])
		}
		_ = errs.Close()
	})
	return d
}

// wait is the next thing of a kind that the device says; other things are passed
// over.
func (d *azureDevice) wait(event string) map[string]any {
	d.t.Helper()
	limit := time.NewTimer(45 * time.Second)
	defer limit.Stop()
	for {
		select {
		case said, alive := <-d.says:
			require.True(d.t, alive, "the device has ended without %q", event)
			require.NotEqual(d.t, "failed", said["event"], said)
			if said["event"] == event {
				return said
			}
		case <-limit.C:
			require.FailNow(d.t, "the device does not say it", event)
		}
	}
}

// do tells the device to do something and waits until it says what.
func (d *azureDevice) do(order map[string]any, event string) map[string]any {
	d.t.Helper()
	encoded, err := json.Marshal(order)
	require.NoError(d.t, err)
	_, err = fmt.Fprintf(d.tell, "%s\n", encoded)
	require.NoError(d.t, err)
	return d.wait(event)
}

// quit has the device close its connection and end.
func (d *azureDevice) quit() {
	d.t.Helper()
	d.do(map[string]any{"do": "quit"}, "closed")
}

func (p *process) json(method, path string, body any) (status int, answer map[string]any) {
	p.t.Helper()
	status, content, _ := p.call(method, path, body)
	if len(content) > 0 {
		require.NoError(p.t, json.Unmarshal(content, &answer), "%s", content)
	}
	return status, answer
}

// TestAzureSDKsDoWhatDevicesDo has devices with Azure's SDKs for Node and Python
// do all a device does with IoT Hub, the other side by our API.
func TestAzureSDKsDoWhatDevicesDo(t *testing.T) {
	p := startProcess(t, t.TempDir())
	eachAzureSDK(t, func(t *testing.T, s sdk, config map[string]any) {
		id := fmt.Sprintf("%s-%v", s.name, config["websockets"])
		device := "/api/devices/" + id
		config["device"], config["key"] = id, p.deviceKey(id)
		status, _ := p.json(http.MethodPatch, device+"/properties", map[string]any{"targetTemperature": 57})
		require.Equal(t, http.StatusAccepted, status)
		d := startAzureDevice(t, p, s, config)

		// Telemetry.
		d.do(map[string]any{"do": "telemetry", "body": map[string]any{"temperature": 21.5}, "properties": map[string]any{"room": "lobby 1"}}, "sent")
		require.Eventually(t, func() bool {
			status, answer := p.json(http.MethodGet, device+"/telemetry/temperature", nil)
			return status == http.StatusOK && answer["value"] == 21.5
		}, 20*time.Second, 50*time.Millisecond)

		// Twin, both ways.
		twin := d.do(map[string]any{"do": "twin"}, "twin")["twin"].(map[string]any)
		require.InDelta(t, 57, twin["desired"].(map[string]any)["targetTemperature"], 0)
		version := twin["desired"].(map[string]any)["$version"].(float64)
		d.do(map[string]any{"do": "report", "patch": map[string]any{
			"firmware": "1.2", "targetTemperature": map[string]any{"value": 57, "ac": 200, "av": version},
		}}, "reported")
		_, properties := p.json(http.MethodGet, device+"/properties", nil)
		require.Equal(t, "1.2", properties["firmware"])
		require.InDelta(t, 200, properties["$metadata"].(map[string]any)["targetTemperature"].(map[string]any)["ackCode"], 0)
		status, _ = p.json(http.MethodPatch, device+"/properties", map[string]any{"targetTemperature": 60})
		require.Equal(t, http.StatusAccepted, status)
		patch := d.wait("desired")["patch"].(map[string]any)
		require.InDelta(t, 60, patch["targetTemperature"], 0)
		require.InDelta(t, version+1, patch["$version"], 0)

		// Methods: success, failure, no answer.
		status, command := p.json(http.MethodPost, device+"/commands/succeed", map[string]any{"request": map[string]any{"since": 5}})
		require.Equal(t, http.StatusCreated, status, command)
		require.InDelta(t, 200, command["responseCode"], 0)
		require.Equal(t, map[string]any{"did": "succeed"}, command["response"])
		require.Equal(t, map[string]any{"since": 5.0}, d.wait("method")["payload"])
		status, command = p.json(http.MethodPost, device+"/commands/fail", map[string]any{})
		require.Equal(t, http.StatusCreated, status, command)
		require.InDelta(t, 500, command["responseCode"], 0)
		status, command = p.json(http.MethodPost, device+"/commands/slow", map[string]any{"responseTimeout": 5})
		require.Equal(t, http.StatusGatewayTimeout, status, command)

		// Cloud-to-device messages.
		status, _ = p.json(http.MethodPost, device+"/c2d", map[string]any{"payload": "hello", "messageId": "m-1", "properties": map[string]any{"room": "lobby 1"}})
		require.Equal(t, http.StatusAccepted, status)
		message := d.wait("message")
		require.Equal(t, "hello", message["data"])
		require.Equal(t, "m-1", message["id"])
		require.Equal(t, map[string]any{"room": "lobby 1"}, message["properties"])
		require.Eventually(t, func() bool {
			_, queue := p.json(http.MethodGet, device+"/c2d", nil)
			return len(queue["value"].([]any)) == 0
		}, 10*time.Second, 20*time.Millisecond, "the device has settled it")

		d.quit()
		require.Eventually(t, func() bool { // a command may overtake the news that the device has gone
			status, _ := p.json(http.MethodPost, device+"/commands/succeed", map[string]any{"responseTimeout": 5})
			return status == http.StatusNotFound
		}, 20*time.Second, 10*time.Millisecond, "the device is not connected")
	})
}

// TestAzureSDKsComeBackByThemselves kills the gateway under connected devices and
// starts it again: they reconnect, and get what was meant for them meanwhile.
func TestAzureSDKsComeBackByThemselves(t *testing.T) {
	eachAzureSDK(t, func(t *testing.T, s sdk, config map[string]any) {
		dir := t.TempDir()
		p := startProcess(t, dir)
		config["device"], config["key"] = "d", p.deviceKey("d")
		d := startAzureDevice(t, p, s, config)
		d.do(map[string]any{"do": "telemetry", "body": map[string]any{"n": 1}}, "sent")
		p.kill()
		_, mqtts, err := net.SplitHostPort(p.at.MQTTS)
		require.NoError(t, err)
		web, err := url.Parse(p.at.HTTPS)
		require.NoError(t, err)
		p = startProcess(t, dir, "--mqtts-addr", "127.0.0.1:"+mqtts, "--https-addr", web.Host)
		status, answer := p.json(http.MethodPost, "/api/devices/d/commands/"+s.succeed, map[string]any{"connectionTimeout": 30})
		require.Equal(t, http.StatusCreated, status, answer)
		d.do(map[string]any{"do": "telemetry", "body": map[string]any{"n": 2}}, "sent")
		require.Eventually(t, func() bool {
			status, answer := p.json(http.MethodGet, "/api/devices/d/telemetry/n", nil)
			return status == http.StatusOK && answer["value"] == 2.0
		}, 20*time.Second, 50*time.Millisecond)
		d.quit()
	})
}
