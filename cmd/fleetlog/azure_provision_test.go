package main

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/stretchr/testify/require"
)

// TestAzureSDKsProvision has devices nobody has registered come with Azure's SDKs
// for Node and Python, over MQTT and WebSocket, by the key of a group and by a
// certificate that leads to a group's CA; then they do what devices do.
func TestAzureSDKsProvision(t *testing.T) {
	p := startProcess(t, t.TempDir())
	_, group := p.json(http.MethodGet, "/api/enrollmentGroups/SAS-IoT-Devices", nil)
	keys := group["attestation"].(map[string]any)["symmetricKey"].(map[string]any)
	groupKey, err := base64.StdEncoding.DecodeString(keys["primaryKey"].(string))
	require.NoError(t, err)

	status, answer := p.json(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:ThermostatTemplate;1", map[string]any{
		"@type": []string{"ModelDefinition", "DeviceModel"}, "capabilityModel": map[string]any{"@id": "dtmi:contoso:Thermostat;1", "@type": "Interface"},
	})
	require.Equal(t, http.StatusOK, status, answer)
	root := enginetest.Authority(t, "Plant root", nil)
	status, answer = p.json(http.MethodPut, "/api/enrollmentGroups/plant", map[string]any{"displayName": "Plant", "type": "iot", "attestation": map[string]any{
		"type": "x509", "x509": map[string]any{"signingCertificates": map[string]any{"primary": map[string]any{"certificate": root.PEM(), "verified": true}}},
	}})
	require.Equal(t, http.StatusOK, status, answer)

	eachAzureSDK(t, func(t *testing.T, s sdk, config map[string]any) {
		config["idScope"], config["model"] = group["idScope"], "dtmi:contoso:Thermostat;1"
		by := func(kind string) {
			t.Helper()
			id := fmt.Sprintf("%s-%v-%s", s.name, config["websockets"], kind)
			all := map[string]any{"device": id}
			maps.Copy(all, config)
			if kind == "key" {
				all["key"] = base64.StdEncoding.EncodeToString(sas.DeviceKey(groupKey, id))
			} else {
				leaf := enginetest.Device(t, id, root)
				dir := t.TempDir()
				all["cert"], all["certKey"] = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
				require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte(leaf.PEM()), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "key.pem"), []byte(leaf.KeyPEM(t)), 0o600))
			}
			d := runAzureDevice(t, p, s, all)
			provisioned := d.wait("provisioned")
			require.Equal(t, id, provisioned["device"])
			require.Equal(t, "localhost", provisioned["hub"])
			d.wait("ready")
			d.do(map[string]any{"do": "telemetry", "body": map[string]any{"temperature": 19.5}}, "sent")
			require.Eventually(t, func() bool {
				status, answer := p.json(http.MethodGet, "/api/devices/"+id+"/telemetry/temperature", nil)
				return status == http.StatusOK && answer["value"] == 19.5
			}, 30*time.Second, 50*time.Millisecond)
			_, device := p.json(http.MethodGet, "/api/devices/"+id, nil)
			require.Equal(t, true, device["provisioned"])
			require.Equal(t, "dtmi:contoso:ThermostatTemplate;1", device["template"])
			d.quit()
		}
		by("key")
		by("certificate")
	})
}
