package query

import (
	"net/http"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/stretchr/testify/require"
)

func TestCommandsFollowTheTemplate(t *testing.T) {
	a := newAPI(t)
	machineDevice(a)
	for name, tc := range map[string]struct {
		path, body string
		status     int
		says       string
	}{
		"unknown":              {"commands/fly", `{}`, 404, "it has reboot, say, wake"},
		"unknown of component": {"components/part/commands/reboot", `{"request":5}`, 404, "it has reset"},
		"unknown component":    {"components/wing/commands/reset", `{}`, 404, "it has part"},
		"wrong request":        {"commands/reboot", `{"request":"soon"}`, 400, `request: "soon" is no number`},
		"wrong field":          {"components/part/commands/reset", `{"request":{"deep":1}}`, 400, "request.deep: 1 is no boolean"},
		"no request":           {"commands/reboot", `{}`, 400, `send "delay", as integer`},
		"request too many":     {"commands/wake", `{"request":1}`, 400, "takes no request"},
		"good, but not there":  {"commands/reboot", `{"request":5}`, 404, "not connected"},
	} {
		status, answer, _ := a.call(http.MethodPost, "/api/devices/d/"+tc.path, tc.body)
		require.Equal(t, tc.status, status, "%s: %v", name, answer)
		require.Contains(t, message(answer), tc.says, name)
	}
}

// TestDurableCommandsWaitForTheDevice has commands for a device that is offline.
func TestDurableCommandsWaitForTheDevice(t *testing.T) {
	a := newAPI(t)
	machineDevice(a)
	bodies := map[string]string{}
	for _, tc := range []struct{ path, body, method, message string }{
		{"commands/wake", `{}`, "wake", "@"},
		{"commands/say", `{"request":"sample string"}`, "say", "sample string"},
		{"components/part/commands/reset", `{"request":{"deep":true}}`, "part*reset", `{"deep":true}`},
	} {
		status, answer, _ := a.call(http.MethodPost, "/api/devices/d/"+tc.path, tc.body)
		require.Equal(t, http.StatusCreated, status, answer)
		require.NotEmpty(t, answer["id"])
		require.NotContains(t, answer, "responseCode")
		bodies[tc.method] = tc.message
	}
	queue := device.IdentityOf(a.devices.Get(access.DefaultTenant, "d"), "").GetMessages()
	require.Len(t, queue, len(bodies))
	for _, m := range queue {
		require.Equal(t, "method-name", m.GetMessage().GetProperties()[0].GetKey())
		method := m.GetMessage().GetProperties()[0].GetValue()
		require.Equal(t, bodies[method], string(m.GetMessage().GetBody()), method)
		require.Equal(t, "none", m.GetMessage().GetAck())
		require.InDelta(t, 24*time.Hour, m.GetMessage().GetExpires().AsTime().Sub(m.GetEnqueuedAt().AsTime()), float64(time.Minute))
	}
}
