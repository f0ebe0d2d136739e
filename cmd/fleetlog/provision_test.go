package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/stretchr/testify/require"
)

// ok does a call that must succeed and reads its answer.
func (p *process) ok(method, path string, body any) map[string]any {
	p.t.Helper()
	status, answer, _ := p.call(method, path, body)
	require.Less(p.t, status, 300, "%s %s: %s", method, path, answer)
	var content map[string]any
	if len(answer) > 0 {
		require.NoError(p.t, json.Unmarshal(answer, &content))
	}
	return content
}

// in is the same process for a subtest.
func (p *process) in(t *testing.T) *process {
	own := *p
	own.t = t
	return &own
}

// provision runs a device that has Azure's SDK.
func (p *process) provision(config map[string]any) (registration map[string]any, out string, err error) {
	p.t.Helper()
	const sdk = "testdata/azure-node"
	_, err = os.Stat(filepath.Join(sdk, "node_modules", "azure-iot-provisioning-device"))
	require.NoError(p.t, err, "Azure's SDK is not installed: run `make sdks`, or `make test`, which does")
	_, port, err := net.SplitHostPort(p.at.MQTTS)
	require.NoError(p.t, err)
	config["host"] = "localhost"
	config["port"], err = strconv.Atoi(port)
	require.NoError(p.t, err)
	content, err := json.Marshal(config)
	require.NoError(p.t, err)
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join(sdk, "provision.js"), string(content))
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+filepath.Join(p.dir, "tls", "ca.pem"))
	printed, err := cmd.CombinedOutput()
	out = string(printed)
	if first, _, _ := strings.Cut(out, "\n"); err == nil {
		require.NoError(p.t, json.Unmarshal([]byte(first), &registration), out)
	}
	return registration, out, err
}

// TestAzureNodeSDKProvisions has Azure's own SDK register devices in each way
// there is, connect to the hub that they are assigned to, and send.
func TestAzureNodeSDKProvisions(t *testing.T) {
	p := startProcess(t, t.TempDir())
	p.ok(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:ThermostatTemplate;2", map[string]any{
		"@type": []string{"ModelDefinition", "DeviceModel"}, "capabilityModel": map[string]any{"@id": "dtmi:contoso:Thermostat;2", "@type": "Interface"},
	})
	scope := p.ok(http.MethodGet, "/api/enrollmentGroups/SAS-IoT-Devices", nil)["idScope"]
	groupKey := func(t *testing.T, group string) []byte {
		t.Helper()
		g := p.in(t).ok(http.MethodGet, "/api/enrollmentGroups/"+group, nil)
		encoded := g["attestation"].(map[string]any)["symmetricKey"].(map[string]any)["primaryKey"].(string)
		key, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		return key
	}
	derived := func(t *testing.T, group, id string) string {
		t.Helper()
		return base64.StdEncoding.EncodeToString(sas.DeviceKey(groupKey(t, group), id))
	}
	succeeds := func(t *testing.T, id string, config map[string]any) map[string]any {
		t.Helper()
		p := p.in(t)
		config["idScope"], config["registrationId"] = scope, id
		registration, out, err := p.provision(config)
		require.NoError(t, err, out)
		require.Contains(t, out, "acknowledged")
		require.Equal(t, "localhost", registration["assignedHub"])
		require.Equal(t, id, registration["deviceId"])
		d := p.ok(http.MethodGet, "/api/devices/"+id, nil)
		require.Equal(t, true, d["provisioned"])
		require.Equal(t, true, d["enabled"])
		return d
	}

	t.Run("key of the default group, a device nobody knows", func(t *testing.T) {
		t.Parallel()
		d := succeeds(t, "by-key", map[string]any{"key": derived(t, "SAS-IoT-Devices", "by-key"), "modelId": "dtmi:contoso:Thermostat;2"})
		require.Equal(t, "dtmi:contoso:ThermostatTemplate;2", d["template"])
	})
	t.Run("key of a group of its own, then the group is disabled", func(t *testing.T) {
		t.Parallel()
		p := p.in(t)
		p.ok(http.MethodPut, "/api/enrollmentGroups/plant", map[string]any{"displayName": "Plant", "type": "iot", "attestation": map[string]any{"type": "symmetricKey"}})
		succeeds(t, "by-plant", map[string]any{"key": derived(t, "plant", "by-plant")})
		p.ok(http.MethodPatch, "/api/enrollmentGroups/plant", map[string]any{"enabled": false})
		_, out, err := p.provision(map[string]any{"idScope": scope, "registrationId": "by-plant", "key": derived(t, "plant", "by-plant")})
		require.Error(t, err, out)
		require.Contains(t, out, "Not authorized")
	})
	t.Run("X.509 group, proven by a verification certificate", func(t *testing.T) {
		t.Parallel()
		p := p.in(t)
		root := enginetest.Authority(t, "Plant root", nil)
		p.ok(http.MethodPut, "/api/enrollmentGroups/x", map[string]any{"displayName": "X", "type": "iot", "attestation": map[string]any{
			"type": "x509", "x509": map[string]any{"signingCertificates": map[string]any{"primary": map[string]any{"certificate": root.PEM()}}},
		}})
		middle := enginetest.Authority(t, "Plant line 1", root)
		leaf := enginetest.Device(t, "by-chain", middle)
		config := map[string]any{"idScope": scope, "registrationId": "by-chain", "cert": leaf.PEM() + middle.PEM(), "key": leaf.KeyPEM(t)}
		_, out, err := p.provision(config)
		require.Error(t, err, "a certificate that is not verified lets nobody in: %s", out)
		code := p.ok(http.MethodPost, "/api/enrollmentGroups/x/certificates/primary/generateVerificationCode", nil)["verificationCode"].(string)
		proof := enginetest.Device(t, code, root)
		p.ok(http.MethodPost, "/api/enrollmentGroups/x/certificates/primary/verify", map[string]any{"certificate": proof.PEM()})
		succeeds(t, "by-chain", config)
	})
	t.Run("certificate of the device's own, rolled", func(t *testing.T) {
		t.Parallel()
		p := p.in(t)
		one, two := enginetest.Device(t, "by-leaf", nil), enginetest.Device(t, "by-leaf", nil)
		p.ok(http.MethodPut, "/api/devices/by-leaf", map[string]any{})
		p.ok(http.MethodPut, "/api/devices/by-leaf/attestation", map[string]any{"type": "x509", "x509": map[string]any{
			"clientCertificates": map[string]any{"primary": map[string]any{"certificate": one.PEM()}, "secondary": map[string]any{"certificate": two.PEM()}},
		}})
		succeeds(t, "by-leaf", map[string]any{"cert": one.PEM(), "key": one.KeyPEM(t)})
		succeeds(t, "by-leaf", map[string]any{"cert": two.PEM(), "key": two.KeyPEM(t)})
		_, out, err := p.provision(map[string]any{"idScope": scope, "registrationId": "by-leaf", "key": derived(t, "SAS-IoT-Devices", "by-leaf")})
		require.Error(t, err, "the device's own attestation goes before the group's: %s", out)
	})
	t.Run("waits for approval, is approved, is blocked", func(t *testing.T) {
		t.Parallel()
		p := p.in(t)
		p.ok(http.MethodPut, "/api/enrollmentGroups/careful", map[string]any{
			"displayName": "Careful", "type": "iot", "autoApprove": false, "attestation": map[string]any{"type": "symmetricKey"},
		})
		config := map[string]any{"idScope": scope, "registrationId": "waits", "key": derived(t, "careful", "waits")}
		_, out, err := p.provision(config)
		require.Error(t, err, out)
		require.Contains(t, out, "400209")
		d := p.ok(http.MethodGet, "/api/devices/waits", nil)
		require.Equal(t, []any{false, false}, []any{d["enabled"], d["provisioned"]})
		p.ok(http.MethodPost, "/api/devices/waits/approve", nil)
		succeeds(t, "waits", config)
		p.ok(http.MethodPatch, "/api/devices/waits", map[string]any{"enabled": false})
		_, out, err = p.provision(config)
		require.Error(t, err, out)
		require.Contains(t, out, "400209")
	})
	t.Run("wrong key", func(t *testing.T) {
		t.Parallel()
		p := p.in(t)
		_, out, err := p.provision(map[string]any{"idScope": scope, "registrationId": "stranger", "key": "d3Jvbmcga2V5"})
		require.Error(t, err)
		require.Contains(t, out, "Not authorized", out)
	})
}
