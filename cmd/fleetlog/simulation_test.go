package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/template"
	"github.com/stretchr/testify/require"
)

const controllerTemplate = "dtmi:contoso:TemperatureControllerTemplate;1"

// putController publishes the template of the temperature controller.
func (p *process) putController() *template.Template {
	p.t.Helper()
	document, err := os.ReadFile("testdata/templates/temperature-controller.json")
	require.NoError(p.t, err)
	p.ok(http.MethodPut, "/api/deviceTemplates/"+controllerTemplate, json.RawMessage(document))
	parsed, err := template.Parse(document)
	require.NoError(p.t, err)
	return parsed
}

func (p *process) simulate(id string) {
	p.t.Helper()
	p.ok(http.MethodPut, "/api/devices/"+id, map[string]any{"template": controllerTemplate, "simulated": true})
}

// metric is the value of one of the node's metrics, by its name with its labels; -1
// when there is none.
func (p *process) metric(name string) float64 {
	p.t.Helper()
	address := p.at.Operations
	if address == "" {
		address = p.at.API
	}
	resp, err := http.Get(address + "/metrics")
	require.NoError(p.t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 1<<20))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			require.NoError(p.t, err)
			return f
		}
	}
	return -1
}

const connectedDevices = "fleetlog_simulated_devices_connected"

// waitMetric waits until the metric has the value.
func (p *process) waitMetric(name string, want float64) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return p.metric(name) == want }, 30*time.Second, 20*time.Millisecond, "%s is not %v", name, want)
}

// reported waits until the device's property, `component/name` or `name`, has a value
// that f likes, and gives its metadata.
func (p *process) reported(id, component, name string, f func(value any, about map[string]any) bool) {
	p.t.Helper()
	path := "/api/devices/" + id
	if component != "" {
		path += "/components/" + component
	}
	require.Eventually(p.t, func() bool {
		_, properties := p.json(http.MethodGet, path+"/properties", nil)
		metadata, _ := properties["$metadata"].(map[string]any)
		about, _ := metadata[name].(map[string]any)
		return f(properties[name], about)
	}, 30*time.Second, 20*time.Millisecond, "%s of %q of %s", name, component, id)
}

// TestASimulatedDeviceLivesByItsTemplate has a simulated device do all that its
// template says, and end when it is no longer one.
func TestASimulatedDeviceLivesByItsTemplate(t *testing.T) {
	p := startProcess(t, t.TempDir(), "--simulated-interval", "200ms")
	controller := p.putController()
	p.simulate("sim-1")
	p.waitMetric(connectedDevices, 1)

	count := func(id string) (n int) {
		_, err := fmt.Sscan(p.sql("SELECT count() FROM fleetlog.telemetry WHERE device = '"+id+"'"), &n)
		require.NoError(t, err)
		return n
	}
	require.Eventually(t, func() bool { return count("sim-1") >= 9 }, 30*time.Second, 50*time.Millisecond)
	p.requireConforming("sim-1", controller, "", "thermostat1", "thermostat2")

	// What it is, and what was wished of it before and while it is connected.
	p.reported("sim-1", "", "serialNumber", func(value any, _ map[string]any) bool { _, ok := value.(string); return ok })
	p.reported("sim-1", "thermostat2", "maxTempSinceLastReboot", func(value any, _ map[string]any) bool { _, ok := value.(float64); return ok })
	p.ok(http.MethodPatch, "/api/devices/sim-1/components/thermostat1/properties", map[string]any{"targetTemperature": 23.5})
	p.reported("sim-1", "thermostat1", "targetTemperature", func(value any, about map[string]any) bool {
		return value == 23.5 && about["syncStatus"] == "accepted" && about["ackDescription"] == "simulated"
	})

	answer := p.ok(http.MethodPost, "/api/devices/sim-1/components/thermostat1/commands/getMaxMinReport", map[string]any{"request": "2026-01-02T03:04:05Z"})
	require.InDelta(t, 200, answer["responseCode"], 0)
	report := controller.Interface("thermostat1").Find(dtdl.Command, "getMaxMinReport").Response.Schema
	require.Empty(t, report.Check(answer["response"]), "%v", answer["response"])
	answer = p.ok(http.MethodPost, "/api/devices/sim-1/commands/reboot", map[string]any{"request": 3})
	require.InDelta(t, 200, answer["responseCode"], 0)

	// Another template, other values.
	p.ok(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:Lamp;1", map[string]any{
		"@type": []string{"ModelDefinition", "DeviceModel"}, "capabilityModel": map[string]any{"@id": "dtmi:contoso:LampModel;1", "@type": "Interface", "contents": []any{
			map[string]any{"@type": "Telemetry", "name": "burning", "schema": "boolean"},
		}},
	})
	p.ok(http.MethodPatch, "/api/devices/sim-1", map[string]any{"template": "dtmi:contoso:Lamp;1"})
	require.Eventually(t, func() bool {
		return p.sql("SELECT count() > 0 FROM fleetlog.telemetry WHERE device = 'sim-1' AND NOT isNull(body.burning)") != "0"
	}, 30*time.Second, 50*time.Millisecond)

	// Blocked, back again, wished for while away, and real at last.
	p.ok(http.MethodPatch, "/api/devices/sim-1", map[string]any{"enabled": false})
	p.waitMetric(connectedDevices, 0)
	p.ok(http.MethodPatch, "/api/devices/sim-1", map[string]any{"template": controllerTemplate})
	p.ok(http.MethodPatch, "/api/devices/sim-1/components/thermostat2/properties", map[string]any{"targetTemperature": 19})
	p.ok(http.MethodPatch, "/api/devices/sim-1", map[string]any{"enabled": true})
	p.reported("sim-1", "thermostat2", "targetTemperature", func(value any, about map[string]any) bool {
		return value == 19.0 && about["syncStatus"] == "accepted"
	})
	p.ok(http.MethodPatch, "/api/devices/sim-1", map[string]any{"simulated": false})
	p.waitMetric(connectedDevices, 0)
	p.waitMetric("fleetlog_mqtt_connections", 0)
	p.simulate("sim-2")
	p.waitMetric(connectedDevices, 1)
	p.ok(http.MethodDelete, "/api/devices/sim-2", nil)
	p.waitMetric(connectedDevices, 0)
}

// requireConforming wants telemetry of just those components in ClickHouse, of the
// template's schemas.
func (p *process) requireConforming(id string, model *template.Template, components ...string) {
	p.t.Helper()
	seen := map[string]bool{}
	rows := json.NewDecoder(strings.NewReader(p.sql("SELECT component, body FROM fleetlog.telemetry WHERE device = '" + id + "' FORMAT JSONEachRow")))
	for rows.More() {
		var row struct {
			Component string
			Body      map[string]any
		}
		require.NoError(p.t, rows.Decode(&row))
		seen[row.Component] = true
		require.NotEmpty(p.t, row.Body)
		for name, value := range row.Body {
			c := model.Interface(row.Component).Find(dtdl.Telemetry, name)
			require.NotNil(p.t, c, "%s of %q", name, row.Component)
			require.Empty(p.t, c.Check(value), "%s: %v", name, value)
		}
	}
	require.Len(p.t, seen, len(components))
	for _, component := range components {
		require.True(p.t, seen[component], component)
	}
}

// TestAHundredDevicesAreSimulated has one more than may be, and some that cannot be;
// over TLS, as there is no other port.
func TestAHundredDevicesAreSimulated(t *testing.T) {
	p := startProcess(t, t.TempDir(), "--mqtt-addr", "")
	p.putController()
	const state = `fleetlog_simulated_devices{state=%q}`
	cert := enginetest.Device(t, "by-certificate", nil)
	p.ok(http.MethodPut, "/api/devices/by-certificate", map[string]any{"template": controllerTemplate})
	p.ok(http.MethodPut, "/api/devices/by-certificate/attestation", map[string]any{"type": "x509", "x509": map[string]any{
		"clientCertificates": map[string]any{"primary": map[string]any{"certificate": cert.PEM()}},
	}})
	p.simulate("by-certificate")
	p.waitMetric(fmt.Sprintf(state, "no_key"), 1)
	p.ok(http.MethodPut, "/api/devices/no-template", map[string]any{"simulated": true})
	p.waitMetric(fmt.Sprintf(state, "no_template"), 1)
	for n := range 99 {
		p.simulate(fmt.Sprintf("sim-%02d", n))
	}
	p.waitMetric(fmt.Sprintf(state, "over_limit"), 1)
	p.waitMetric(connectedDevices, 98)
	require.Equal(t, 1, strings.Count(p.stderr.String(), "reason=over_limit"), "it is said once")
	p.ok(http.MethodDelete, "/api/devices/by-certificate/attestation", nil)
	p.waitMetric(connectedDevices, 99)
	p.ok(http.MethodDelete, "/api/devices/sim-00", nil)
	p.waitMetric(fmt.Sprintf(state, "over_limit"), 0)
	p.waitMetric(connectedDevices, 99)
	require.Less(t, p.terminate(), 10*time.Second)
}

// TestNodesShareSimulatedDevices has two nodes run simulated devices together, each
// of them once, and one of them end in order and another by kill -9.
func TestNodesShareSimulatedDevices(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, log enginetest.Log) {
		c := startCluster(t, log)
		c.query.putController()
		const devices = 12
		for n := range devices {
			c.query.simulate(fmt.Sprintf("sim-%d", n))
		}
		simulator := func(gateway *process) *process {
			return c.start("process", t.TempDir(), []string{"--ops-addr", "127.0.0.1:0", "--simulation-gateway", "mqtt://" + gateway.at.MQTT, "--simulated-interval", "1s"})
		}
		first := simulator(c.gateways[0])
		first.waitMetric(connectedDevices, devices)
		second := simulator(c.gateways[1])
		shared := func(a, b *process) {
			require.Eventually(t, func() bool {
				one, two := a.metric(connectedDevices), b.metric(connectedDevices)
				return one+two == devices && one > 0 && two > 0
			}, 30*time.Second, 20*time.Millisecond)
		}
		shared(first, second)
		require.InDelta(t, second.metric(connectedDevices), c.gateways[1].metric("fleetlog_mqtt_connections"), 0)
		require.Less(t, first.terminate(), 10*time.Second)
		second.waitMetric(connectedDevices, devices)
		third := simulator(c.gateways[0])
		shared(second, third)
		second.kill()
		third.waitMetric(connectedDevices, devices)
		for _, gateway := range c.gateways {
			require.Negative(t, gateway.metric(`fleetlog_mqtt_connections_ended_total{reason="taken_over"}`), "no device was on two nodes at a time")
		}
	})
}
