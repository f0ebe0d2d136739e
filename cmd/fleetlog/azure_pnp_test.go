package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// moment is what the API said of a device's properties at a time.
type moment struct {
	at         time.Time
	properties map[string]any
}

// controller is a temperature controller under test, with what its properties have
// been along the way.
type controller struct {
	*process
	t      *testing.T
	path   string
	device *azureDevice
	past   []moment
}

// remember takes down what the properties are now, at a time of their own.
func (c *controller) remember() map[string]any {
	c.t.Helper()
	status, properties := c.json(http.MethodGet, c.path+"/properties?unmodeled=true", nil)
	require.Equal(c.t, http.StatusOK, status, properties)
	c.past = append(c.past, moment{time.Now(), properties})
	return properties
}

// about is the metadata of a component's property, once f holds for it.
func (c *controller) about(component, name string, f func(about map[string]any) bool) map[string]any {
	c.t.Helper()
	var about map[string]any
	require.Eventually(c.t, func() bool {
		_, properties := c.json(http.MethodGet, c.path+"/components/"+component+"/properties", nil)
		metadata, _ := properties["$metadata"].(map[string]any)
		about, _ = metadata[name].(map[string]any)
		return f(about)
	}, 20*time.Second, 20*time.Millisecond, "%s of %s: %v", name, component, printed{&about})
	return about
}

// synced waits until the device's answer to a desired property is there.
func (c *controller) synced(component, name, sync string, value float64) map[string]any {
	c.t.Helper()
	return c.about(component, name, func(about map[string]any) bool {
		return about["syncStatus"] == sync && about["desiredValue"] == value
	})
}

// want sets a component's property.
func (c *controller) want(component, name string, value any) (status int, answer map[string]any) {
	return c.json(http.MethodPatch, c.path+"/components/"+component+"/properties", map[string]any{name: value})
}

// TestAzureSDKsPlugAndPlay has Azure's SDKs be the temperature controller with two
// thermostats of their Plug and Play samples, managed by its device template.
func TestAzureSDKsPlugAndPlay(t *testing.T) {
	p := startProcess(t, t.TempDir())
	template, err := os.ReadFile("testdata/templates/temperature-controller.json")
	require.NoError(t, err)
	const templateID = "dtmi:contoso:TemperatureControllerTemplate;1"
	status, answer := p.json(http.MethodPut, "/api/deviceTemplates/"+templateID, json.RawMessage(template))
	require.Equal(t, http.StatusOK, status, answer)
	eachAzureSDK(t, func(t *testing.T, s sdk, config map[string]any) {
		s.command[1] = filepath.Join(filepath.Dir(s.command[1]), "controller"+filepath.Ext(s.command[1]))
		id := fmt.Sprintf("%s-%v", s.name, config["websockets"])
		config["device"], config["key"], config["model"] = id, p.deviceKey(id), "dtmi:com:example:TemperatureController;2"
		c := &controller{process: p, t: t, path: "/api/devices/" + id}
		c.remember()

		// It is wanted before the device has ever been here, and taken over when it comes.
		status, answer := c.want("thermostat1", "targetTemperature", 42.5)
		require.Equal(t, http.StatusAccepted, status, answer)
		c.remember()
		c.device = startAzureDevice(t, p, s, config)
		c.synced("thermostat1", "targetTemperature", "accepted", 42.5)
		_, device := p.json(http.MethodGet, c.path, nil)
		require.Equal(t, templateID, device["template"], "the model it announced gave it its template")
		properties := c.remember()
		require.Equal(t, "alwinexlepaho8329", properties["serialNumber"])
		require.Equal(t, "10.89", properties["deviceInformation"].(map[string]any)["swVersion"])
		require.InDelta(t, 20, properties["thermostat1"].(map[string]any)["maxTempSinceLastReboot"], 0)

		c.setProperties()
		c.runCommands()
		c.sendTelemetry()
		c.device.quit()
		c.checkThePast()
	})
}

func (c *controller) setProperties() {
	status, answer := c.want("thermostat2", "targetTemperature", 55)
	require.Equal(c.t, http.StatusAccepted, status, answer)
	c.device.wait("desired")
	about := c.synced("thermostat2", "targetTemperature", "accepted", 55)
	require.Equal(c.t, "completed", about["ackDescription"])
	c.remember()

	status, answer = c.want("thermostat2", "targetTemperature", 120)
	require.Equal(c.t, http.StatusAccepted, status, answer)
	about = c.synced("thermostat2", "targetTemperature", "rejected", 120)
	require.Equal(c.t, "too hot", about["ackDescription"])
	c.remember()

	status, answer = c.json(http.MethodPatch, c.path+"/properties", map[string]any{"owner": "Ann"})
	require.Equal(c.t, http.StatusAccepted, status, answer)
	require.Equal(c.t, "Ann", c.remember()["owner"], "a cloud property")

	for name, value := range map[string]any{"targetTemperature": "hot", "maxTempSinceLastReboot": 7, "colour": "red"} {
		status, answer = c.want("thermostat1", name, value)
		require.Equal(c.t, http.StatusBadRequest, status, answer)
		require.Contains(c.t, answer["error"].(map[string]any)["message"], name)
	}
}

func (c *controller) runCommands() {
	since := time.Now().UTC().Format(time.RFC3339)
	status, command := c.json(http.MethodPost, c.path+"/components/thermostat1/commands/getMaxMinReport", map[string]any{"request": since})
	require.Equal(c.t, http.StatusCreated, status, command)
	require.InDelta(c.t, 200, command["responseCode"], 0)
	require.InDelta(c.t, 19, command["response"].(map[string]any)["avgTemp"], 0)
	require.Equal(c.t, "thermostat1*getMaxMinReport", c.device.wait("method")["name"])
	status, command = c.json(http.MethodPost, c.path+"/commands/reboot", map[string]any{"request": 3})
	require.Equal(c.t, http.StatusCreated, status, command)
	require.InDelta(c.t, 3, c.device.wait("method")["payload"], 0)

	status, answer := c.json(http.MethodPost, c.path+"/commands/reboot", map[string]any{"request": "soon"})
	require.Equal(c.t, http.StatusBadRequest, status, answer)
	status, answer = c.json(http.MethodPost, c.path+"/commands/dance", map[string]any{})
	require.Equal(c.t, http.StatusNotFound, status, answer)

	require.Eventually(c.t, func() bool {
		_, history := c.json(http.MethodGet, c.path+"/components/thermostat1/commands/getMaxMinReport", nil)
		past, _ := history["value"].([]any)
		if len(past) != 1 {
			return false
		}
		only := past[0].(map[string]any)
		return only["request"] == since && only["responseCode"] == 200.0
	}, 20*time.Second, 50*time.Millisecond, "the command is in the history")
}

func (c *controller) sendTelemetry() {
	c.device.do(map[string]any{"do": "telemetry", "component": "thermostat2", "body": map[string]any{"temperature": 25.5}}, "sent")
	c.device.do(map[string]any{"do": "telemetry", "body": map[string]any{"workingSet": 512}}, "sent")
	for path, want := range map[string]float64{"/components/thermostat2/telemetry/temperature": 25.5, "/telemetry/workingSet": 512} {
		require.Eventually(c.t, func() bool {
			status, answer := c.json(http.MethodGet, c.path+path, nil)
			return status == http.StatusOK && answer["value"] == want
		}, 20*time.Second, 50*time.Millisecond, path)
	}
}

// checkThePast asks for the properties at each moment again.
func (c *controller) checkThePast() {
	for _, m := range c.past {
		at := url.QueryEscape(m.at.UTC().Format(time.RFC3339Nano))
		status, properties := c.json(http.MethodGet, c.path+"/properties?unmodeled=true&at="+at, nil)
		require.Equal(c.t, http.StatusOK, status, properties)
		require.Equal(c.t, m.properties, properties, "as it was at %s", m.at)
	}
	status, events := c.json(http.MethodGet, c.path+"/events?maxpagesize=100", nil)
	require.Equal(c.t, http.StatusOK, status, events)
	kinds := map[string]int{}
	for _, e := range events["value"].([]any) {
		kinds[e.(map[string]any)["kind"].(string)]++
	}
	require.Equal(c.t, 4, kinds["properties_desired"], "%v", kinds)
	require.Equal(c.t, 2, kinds["command_requested"], "%v", kinds)
	require.Equal(c.t, 2, kinds["command_answered"], "%v", kinds)
}

// printed shows what it points to when it is asked, not when it is passed on.
type printed struct{ about *map[string]any }

func (p printed) String() string { return fmt.Sprint(*p.about) }
