package query

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ok does a call that must succeed.
func (a *api) ok(method, path, body string, header ...string) map[string]any {
	a.t.Helper()
	status, answer, _ := a.call(method, path, body, header...)
	require.Less(a.t, status, 300, "%s %s: %v", method, path, answer)
	return answer
}

// at walks into an answer.
func at(answer map[string]any, path ...string) any {
	var v any = answer
	for _, field := range path {
		m, _ := v.(map[string]any)
		v = m[field]
	}
	return v
}

func certificateJSON(pem string) string {
	return `"` + strings.ReplaceAll(pem, "\n", `\n`) + `"`
}

func TestEnrollmentGroupsOverREST(t *testing.T) {
	a := newAPI(t)
	g := a.ok(http.MethodGet, "/api/enrollmentGroups/SAS-IoT-Devices", "")
	require.Equal(t, "SAS-IoT-Devices", g["displayName"])
	require.Equal(t, []any{true, true, "iot", "symmetricKey", "v1"}, []any{g["enabled"], g["autoApprove"], g["type"], at(g, "attestation", "type"), g["etag"]})
	require.Regexp(t, "^0ne[0-9A-F]{8}$", g["idScope"])
	groupKey, err := base64.StdEncoding.DecodeString(at(g, "attestation", "symmetricKey", "primaryKey").(string))
	require.NoError(t, err)
	a.ok(http.MethodPut, "/api/devices/d", "{}")
	credentials := a.ok(http.MethodGet, "/api/devices/d/credentials", "")
	require.Equal(t, base64.StdEncoding.EncodeToString(sas.DeviceKey(groupKey, "d")), at(credentials, "symmetricKey", "primaryKey"))

	const supplied = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
	plant := a.ok(http.MethodPut, "/api/enrollmentGroups/plant", `{"displayName":"Plant","type":"iotEdge","autoApprove":false,"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"`+supplied+`"}}}`)
	require.Equal(t, []any{"plant", true, false, "iotEdge", supplied}, []any{plant["id"], plant["enabled"], plant["autoApprove"], plant["type"], at(plant, "attestation", "symmetricKey", "primaryKey")})
	generated := at(plant, "attestation", "symmetricKey", "secondaryKey")
	require.Len(t, generated, 88, "a key that is not given is made: 64 bytes")
	plant = a.ok(http.MethodPatch, "/api/enrollmentGroups/plant", `{"enabled":false,"etag":"v1"}`)
	require.Equal(t, []any{false, "Plant", "iotEdge", supplied, generated, "v2"}, []any{plant["enabled"], plant["displayName"], plant["type"],
		at(plant, "attestation", "symmetricKey", "primaryKey"), at(plant, "attestation", "symmetricKey", "secondaryKey"), plant["etag"]})
	plant = a.ok(http.MethodPut, "/api/enrollmentGroups/plant", `{"displayName":"Plant 2","type":"iot","attestation":{"type":"symmetricKey"}}`, "If-Match", `"v2"`)
	require.Equal(t, []any{supplied, generated}, []any{at(plant, "attestation", "symmetricKey", "primaryKey"), at(plant, "attestation", "symmetricKey", "secondaryKey")}, "keys not given stay")

	list := a.ok(http.MethodGet, "/api/enrollmentGroups?maxpagesize=1", "")
	require.Equal(t, "SAS-IoT-Devices", list["value"].([]any)[0].(map[string]any)["id"])
	list = a.ok(http.MethodGet, list["nextLink"].(string), "")
	require.Equal(t, "plant", list["value"].([]any)[0].(map[string]any)["id"])
	require.NotContains(t, list, "nextLink")

	leaf := enginetest.Device(t, "d", nil)
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"none", http.MethodGet, "/api/enrollmentGroups/none", "", 404, "does not exist"},
		{"patch of none", http.MethodPatch, "/api/enrollmentGroups/none", `{"enabled":true}`, 404, "does not exist"},
		{"delete of none", http.MethodDelete, "/api/enrollmentGroups/none", "", 404, "does not exist"},
		{"delete of the default", http.MethodDelete, "/api/enrollmentGroups/SAS-IoT-Devices", "", 409, "cannot be deleted"},
		{"old etag", http.MethodPatch, "/api/enrollmentGroups/plant", `{"enabled":true,"etag":"v1"}`, 412, "read it again"},
		{"type", http.MethodPut, "/api/enrollmentGroups/g", `{"displayName":"G","type":"x","attestation":{"type":"symmetricKey"}}`, 400, "iotEdge"},
		{"attestation", http.MethodPut, "/api/enrollmentGroups/g", `{"displayName":"G","type":"iot"}`, 400, "symmetricKey or x509"},
		{"TPM", http.MethodPut, "/api/enrollmentGroups/g", `{"displayName":"G","type":"iot","attestation":{"type":"tpm"}}`, 400, "TPM attestation is not supported"},
		{"name", http.MethodPut, "/api/enrollmentGroups/g", `{"type":"iot","attestation":{"type":"symmetricKey"}}`, 400, "displayName"},
		{"id", http.MethodPut, "/api/enrollmentGroups/a_b", `{"displayName":"G","type":"iot","attestation":{"type":"symmetricKey"}}`, 400, "id"},
		{"short key", http.MethodPut, "/api/enrollmentGroups/g", `{"displayName":"G","type":"iot","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"c2hvcnQ="}}}`, 400, "16 to 64 bytes"},
		{"a device's certificate", http.MethodPut, "/api/enrollmentGroups/g", `{"displayName":"G","type":"iot","attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":` + certificateJSON(leaf.PEM()) + `}}}}}`, 400, "not a CA"},
		{"certificate of a key group", http.MethodGet, "/api/enrollmentGroups/plant/certificates/primary", "", 400, "no certificates"},
		{"no token", http.MethodGet, "/api/enrollmentGroups", "", 401, "admin-token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var header []string
			if tc.status == 401 {
				header = []string{"Authorization", ""}
			}
			status, answer, _ := a.call(tc.method, tc.path, tc.body, header...)
			require.Equal(t, tc.status, status, answer)
			require.Contains(t, message(answer), tc.says)
		})
	}
	status, _, _ := a.call(http.MethodDelete, "/api/enrollmentGroups/plant", "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = a.call(http.MethodGet, "/api/enrollmentGroups/plant", "")
	require.Equal(t, http.StatusNotFound, status)
	require.NotContains(t, a.logText(eventlog.Catalog), supplied, "no key is on the log")
}

func TestSigningCertificatesOverREST(t *testing.T) {
	a := newAPI(t)
	one, two := enginetest.Authority(t, "one", nil), enginetest.Authority(t, "two", nil)
	a.ok(http.MethodPut, "/api/enrollmentGroups/x", `{"displayName":"X","type":"iot","attestation":{"type":"x509"}}`)
	const primary = "/api/enrollmentGroups/x/certificates/primary"
	status, _, _ := a.call(http.MethodGet, primary, "")
	require.Equal(t, http.StatusNotFound, status)
	c := a.ok(http.MethodPut, primary, `{"certificate":`+certificateJSON(one.PEM())+`}`)
	require.Equal(t, []any{false, one.PEM()}, []any{c["verified"], c["certificate"]})
	require.Regexp(t, "^[0-9A-F]{40}$", at(c, "info", "sha1Thumbprint"))
	require.Equal(t, "v2", c["etag"])

	status, answer, _ := a.call(http.MethodPost, primary+"/verify", `{"certificate":`+certificateJSON(enginetest.Device(t, "x", one).PEM())+`}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, message(answer), "generateVerificationCode")
	code := a.ok(http.MethodPost, primary+"/generateVerificationCode", "")["verificationCode"].(string)
	status, answer, _ = a.call(http.MethodPost, primary+"/verify", `{"certificate":`+certificateJSON(enginetest.Device(t, code, two).PEM())+`}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, message(answer), "not signed by")
	status, _, _ = a.call(http.MethodPost, primary+"/verify", `{"certificate":`+certificateJSON(enginetest.Device(t, code, one).PEM())+`}`)
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, true, a.ok(http.MethodGet, primary, "")["verified"])
	require.Equal(t, true, a.ok(http.MethodPut, primary, `{"certificate":`+certificateJSON(one.PEM())+`}`)["verified"], "sent again it stays verified")

	c = a.ok(http.MethodPut, "/api/enrollmentGroups/x/certificates/secondary", `{"verified":true,"certificate":`+certificateJSON(two.PEM())+`}`)
	require.Equal(t, true, c["verified"], "verified on upload")
	g := a.ok(http.MethodGet, "/api/enrollmentGroups/x", "")
	require.Equal(t, two.PEM(), at(g, "attestation", "x509", "signingCertificates", "secondary", "certificate"))
	status, answer, _ = a.call(http.MethodPut, "/api/enrollmentGroups/y", `{"displayName":"Y","type":"iot","attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":`+certificateJSON(two.PEM())+`}}}}}`)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, message(answer), `already in enrollment group "x"`)
	status, _, _ = a.call(http.MethodDelete, primary, "")
	require.Equal(t, http.StatusNoContent, status)
	status, _, _ = a.call(http.MethodDelete, primary, "")
	require.Equal(t, http.StatusNotFound, status)
	status, _, _ = a.call(http.MethodGet, "/api/enrollmentGroups/x/certificates/third", "")
	require.Equal(t, http.StatusBadRequest, status)
}

func TestDeviceAttestationOverREST(t *testing.T) {
	a := newAPI(t)
	a.ok(http.MethodPut, "/api/devices/d", "{}")
	const path = "/api/devices/d/attestation"
	status, answer, _ := a.call(http.MethodGet, path, "")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, message(answer), "enrollment group's")
	own := a.ok(http.MethodPut, path, `{"type":"symmetricKey"}`)
	require.Len(t, at(own, "symmetricKey", "primaryKey"), 88)
	require.Equal(t, own, a.ok(http.MethodGet, path, ""))
	require.Equal(t, own["symmetricKey"], a.ok(http.MethodGet, "/api/devices/d/credentials", "")["symmetricKey"])
	patched := a.ok(http.MethodPatch, path, `{"type":"symmetricKey","symmetricKey":{"secondaryKey":"MDEyMzQ1Njc4OWFiY2RlZg=="}}`)
	require.Equal(t, []any{at(own, "symmetricKey", "primaryKey"), "MDEyMzQ1Njc4OWFiY2RlZg=="}, []any{at(patched, "symmetricKey", "primaryKey"), at(patched, "symmetricKey", "secondaryKey")})

	one, two := enginetest.Device(t, "d", nil), enginetest.Device(t, "d", nil)
	own = a.ok(http.MethodPut, path, `{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":`+certificateJSON(one.PEM())+`}}}}`)
	require.Equal(t, one.PEM(), at(own, "x509", "clientCertificates", "primary", "certificate"))
	own = a.ok(http.MethodPatch, path, `{"type":"x509","x509":{"clientCertificates":{"secondary":{"certificate":`+certificateJSON(two.PEM())+`}}}}`)
	require.Equal(t, []any{one.PEM(), two.PEM()}, []any{at(own, "x509", "clientCertificates", "primary", "certificate"), at(own, "x509", "clientCertificates", "secondary", "certificate")})
	credentials := a.ok(http.MethodGet, "/api/devices/d/credentials", "")
	require.NotContains(t, credentials, "symmetricKey")
	require.Equal(t, own["x509"], credentials["x509"])
	for says, body := range map[string]string{
		"common name":                      `{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":` + certificateJSON(enginetest.Device(t, "e", nil).PEM()) + `}}}}`,
		"needs a primary":                  `{"type":"x509"}`,
		"TPM attestation is not supported": `{"type":"tpm","tpm":{"endorsementKey":"AA=="}}`,
		"symmetricKey or x509":             `{}`,
	} {
		status, answer, _ := a.call(http.MethodPut, path, body)
		require.Equal(t, http.StatusBadRequest, status, answer)
		require.Contains(t, message(answer), says)
	}
	status, _, _ = a.call(http.MethodDelete, path, "")
	require.Equal(t, http.StatusNoContent, status)
	require.Contains(t, a.ok(http.MethodGet, "/api/devices/d/credentials", ""), "symmetricKey", "its group's again")
	require.NotContains(t, a.logText(eventlog.Devices), "MDEyMzQ1Njc4OWFiY2RlZg==", "no key is on the log")
	require.NotContains(t, a.logText(eventlog.Devices), "0123456789abcdef", "nor its bytes")
}

func TestApprovalOverREST(t *testing.T) {
	a := newAPI(t)
	waits := func(id string) {
		t.Helper()
		_, err := a.devices.Change(t.Context(), &eventsv1.DeviceEvent{
			Id: eventlog.NewID(), Tenant: "default", Device: id, Time: timestamppb.Now(),
			Change: &eventsv1.DeviceEvent_Provisioned{Provisioned: &eventsv1.DeviceProvisioned{EnrollmentGroup: "SAS-IoT-Devices", Creates: true}},
		})
		require.NoError(t, err)
		require.Equal(t, false, a.ok(http.MethodGet, "/api/devices/"+id, "")["enabled"])
	}
	waits("one")
	require.Equal(t, true, a.ok(http.MethodPost, "/api/devices/one/approve", "")["enabled"])
	status, answer, _ := a.call(http.MethodPost, "/api/devices/one/approve", "")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, message(answer), "does not wait")
	waits("two")
	require.Equal(t, true, a.ok(http.MethodPatch, "/api/devices/two", `{"enabled":true}`)["enabled"])
	status, _, _ = a.call(http.MethodPost, "/api/devices/none/approve", "")
	require.Equal(t, http.StatusNotFound, status)
}
