package provisioning

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const tenant = "default"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is DPS on a real log, over HTTPS.
type service struct {
	t       *testing.T
	log     *eventlog.Log
	keys    *device.MasterKey
	devices *registry.Registry
	catalog *catalog.Catalog
	server  *httptest.Server
	scope   string
}

func newService(t *testing.T) *service {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	keys, err := device.OpenMasterKey(t.TempDir() + "/master.key")
	require.NoError(t, err)
	s := &service{t: t, log: log, keys: keys, devices: registry.New(log, quiet), catalog: catalog.New(log, quiet, enrollment.Kind(), template.Kind()), scope: keys.IDScope(tenant)}
	gate := deviceauth.New(s.devices, enrollment.New(s.catalog, keys, quiet), keys)
	s.server = httptest.NewUnstartedServer(New(gate, s.devices, template.New(s.catalog, quiet), keys, quiet).Handler(""))
	s.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	status, body, header := s.call(http.MethodPut, "/"+s.scope+"/registrations/d/register", "", "")
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	require.NotEmpty(t, header.Get("Retry-After"))

	enginetest.FoldDevices(t, log)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 2)
	go func() { done <- s.devices.Run(ctx) }()
	go func() { done <- s.catalog.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return gate.Ready() == nil }, 10*time.Second, time.Millisecond)
	enginetest.PublishTemplate(t, s.catalog, "dtmi:contoso:ThermostatTemplate;1", "dtmi:contoso:Thermostat;1")
	return s
}

// call does a request with the token, and with the certificates of the handshake.
func (s *service) call(method, path, token, body string, certificates ...tls.Certificate) (int, map[string]any, http.Header) {
	s.t.Helper()
	client := s.server.Client()
	if len(certificates) > 0 {
		transport := client.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = certificates
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport}
	}
	req, err := http.NewRequest(method, s.server.URL+path+"?api-version=2019-03-31", strings.NewReader(body))
	require.NoError(s.t, err)
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := client.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	var answer map[string]any
	require.NoError(s.t, json.Unmarshal(content, &answer), "%s", content)
	return resp.StatusCode, answer, resp.Header
}

func (s *service) token(id string) string {
	return sas.Sign(s.scope+"/registrations/"+id, s.keys.DeviceKeys(tenant, id).Primary, time.Now().Add(time.Hour), "registration")
}

// register goes the whole way and returns the final answer.
func (s *service) register(id, token, body string, certificates ...tls.Certificate) map[string]any {
	s.t.Helper()
	path := "/" + s.scope + "/registrations/" + id
	status, answer, header := s.call(http.MethodPut, path+"/register", token, body, certificates...)
	require.Equal(s.t, http.StatusAccepted, status, answer)
	require.Equal(s.t, "assigning", answer["status"])
	require.Equal(s.t, "1", header.Get("Retry-After"))
	require.NotContains(s.t, answer, "registrationState")
	status, answer, _ = s.call(http.MethodGet, path+"/operations/"+answer["operationId"].(string), token, "", certificates...)
	require.Equal(s.t, http.StatusOK, status, answer)
	return answer
}

func (s *service) change(id string, ev *eventsv1.DeviceEvent) {
	s.t.Helper()
	ev.Id, ev.Tenant, ev.Device, ev.Time = eventlog.NewID(), tenant, id, timestamppb.Now()
	_, err := s.devices.Change(s.t.Context(), ev)
	require.NoError(s.t, err)
}

// events is how many device events there are.
func (s *service) events() (n int64) {
	s.t.Helper()
	ends, err := s.log.Admin().ListEndOffsets(s.t.Context(), s.log.Name(eventlog.Devices))
	require.NoError(s.t, err)
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

func TestADeviceRegistersItself(t *testing.T) {
	s := newService(t)
	const body = `{"registrationId":"d","payload":{"modelId":"dtmi:contoso:Thermostat;1"}}`
	answer := s.register("d", s.token("d"), body)
	require.Equal(t, "assigned", answer["status"])
	state := answer["registrationState"].(map[string]any)
	for field, want := range map[string]any{
		"registrationId": "d", "deviceId": "d", "assignedHub": "127.0.0.1", "status": "assigned", "substatus": "initialAssignment", "payload": nil,
	} {
		require.Equal(t, want, state[field], field)
	}
	for _, field := range []string{"createdDateTimeUtc", "lastUpdatedDateTimeUtc"} {
		at, err := time.Parse(time.RFC3339Nano, state[field].(string))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, time.Minute, field)
	}
	require.Equal(t, "SAS-IoT-Devices", state["symmetricKey"].(map[string]any)["enrollmentGroupId"])
	d := s.devices.Get(tenant, "d")
	require.True(t, d.GetProvisioned())
	require.Equal(t, "dtmi:contoso:ThermostatTemplate;1", d.GetTemplate())
	require.JSONEq(t, `{"targetTemperature":21}`, string(d.GetSelf().GetTwin().GetDesired()))

	before := s.events()
	require.Equal(t, "assigned", s.register("d", s.token("d"), body)["status"])
	require.Equal(t, before, s.events(), "registering again at each boot leaves no event")
	require.Equal(t, "assigned", s.register("d", s.token("d"), `{"payload":{"iotcModelId":"dtmi:contoso:Thermostat;2"}}`)["status"])
	require.Equal(t, "dtmi:contoso:Thermostat;2", s.devices.Get(tenant, "d").GetModelId())
	require.Equal(t, "dtmi:contoso:ThermostatTemplate;1", s.devices.Get(tenant, "d").GetTemplate(), "the template it has stays")

	status, registration, _ := s.call(http.MethodPost, "/"+s.scope+"/registrations/d", s.token("d"), "{}")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "assigned", registration["status"])

	s.change("d", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Deleted{Deleted: &eventsv1.DeviceDeleted{}}})
	status, _, _ = s.call(http.MethodPost, "/"+s.scope+"/registrations/d", s.token("d"), "{}")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "assigned", s.register("d", s.token("d"), "")["status"], "a deleted device that comes again is a new one")
	require.Empty(t, s.devices.Get(tenant, "d").GetTemplate())
}

// TestAzureNodeSDKOverHTTPS has Azure's own SDK register over HTTPS.
func TestAzureNodeSDKOverHTTPS(t *testing.T) {
	const sdk = "../../cmd/fleetlog/testdata/azure-node"
	_, err := os.Stat(filepath.Join(sdk, "node_modules", "azure-iot-provisioning-device-http"))
	require.NoError(t, err, "Azure's SDK is not installed: run `make sdks`, or `make test`, which does")
	s := newService(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw}), 0o600))
	addr := s.server.Listener.Addr().(*net.TCPAddr)
	config, err := json.Marshal(map[string]any{
		"transport": "http", "host": "127.0.0.1", "port": addr.Port, "idScope": s.scope, "registrationId": "d", "modelId": "dtmi:contoso:Thermostat;1",
		"key": base64.StdEncoding.EncodeToString(s.keys.DeviceKeys(tenant, "d").Primary),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join(sdk, "provision.js"), string(config))
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), `"assignedHub":"127.0.0.1"`)
	require.True(t, s.devices.Get(tenant, "d").GetProvisioned())
}

func TestABlockedDeviceIsToldSo(t *testing.T) {
	s := newService(t)
	s.register("d", s.token("d"), "")
	s.change("d", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Updated{Updated: &eventsv1.DeviceUpdated{Enabled: proto.Bool(false)}}})
	answer := s.register("d", s.token("d"), `{"payload":{"modelId":"dtmi:contoso:New;1"}}`)
	require.Equal(t, "failed", answer["status"])
	state := answer["registrationState"].(map[string]any)
	require.InDelta(t, 400209, state["errorCode"], 0)
	require.Equal(t, "failed", state["status"])
	require.NotContains(t, state, "assignedHub")
	require.Empty(t, s.devices.Get(tenant, "d").GetModelId())
}

func TestACertificateRegisters(t *testing.T) {
	s := newService(t)
	root := enginetest.Authority(t, "root", nil)
	_, err := s.catalog.Change(t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: tenant, Kind: enrollment.KindName, Resource: "x", Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_EnrollmentGroup{EnrollmentGroup: &eventsv1.EnrollmentGroup{
			DisplayName: "X", Enabled: true, AutoApprove: true, Type: eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT,
			Attestation: &eventsv1.EnrollmentGroup_X509{X509: &eventsv1.SigningCertificates{Primary: &eventsv1.SigningCertificate{Der: root.Cert.Raw, Verified: true}}},
		}},
	})
	require.NoError(t, err)
	middle := enginetest.Authority(t, "middle", root)
	answer := s.register("d", "", `{"registrationId":"d"}`, enginetest.Device(t, "d", middle).TLS(middle))
	require.Equal(t, "assigned", answer["status"])
	require.Equal(t, "x", answer["registrationState"].(map[string]any)["x509"].(map[string]any)["enrollmentGroupId"])
	require.Equal(t, "x", s.devices.Get(tenant, "d").GetEnrollmentGroup())
	status, _, _ := s.call(http.MethodPut, "/"+s.scope+"/registrations/e/register", "", "{}", enginetest.Device(t, "d", root).TLS())
	require.Equal(t, http.StatusUnauthorized, status, "the common name is the registration id")
}

func TestFaults(t *testing.T) {
	s := newService(t)
	s.register("d", s.token("d"), "")
	d := "/" + s.scope + "/registrations/d"
	forgotten := operationID("0192f0c8-0000-7000-8000-000000000000")
	for _, tc := range []struct {
		name, method, path, token, body string
		status                          int
		code                            float64
	}{
		{"no token", http.MethodPut, d + "/register", "", "{}", 401, 401002},
		{"another's token", http.MethodPut, d + "/register", s.token("e"), "{}", 401, 401002},
		{"not a token", http.MethodPut, d + "/register", "Bearer x", "{}", 401, 401002},
		{"unknown scope", http.MethodPut, "/0neFFFFFFFF/registrations/d/register", s.token("d"), "{}", 404, 404201},
		{"an id that cannot be", http.MethodPut, "/" + s.scope + "/registrations/a%20b/register", s.token("d"), "{}", 400, 400004},
		{"not JSON", http.MethodPut, d + "/register", s.token("d"), "{", 400, 400004},
		{"another id in the body", http.MethodPut, d + "/register", s.token("d"), `{"registrationId":"e"}`, 400, 400004},
		{"a model id that is none", http.MethodPut, d + "/register", s.token("d"), `{"payload":{"modelId":"x"}}`, 400, 400004},
		{"TPM", http.MethodPut, d + "/register", s.token("d"), `{"tpm":{"endorsementKey":"AA=="}}`, 400, 400004},
		{"too large", http.MethodPut, d + "/register", s.token("d"), strings.Repeat(" ", MaxBodyBytes+1), 400, 400004},
		{"an operation that is none", http.MethodGet, d + "/operations/x", s.token("d"), "", 404, 404202},
		{"an operation of a device that is gone", http.MethodGet, "/" + s.scope + "/registrations/gone/operations/" + forgotten, s.token("gone"), "", 404, 404202},
		{"another path", http.MethodGet, "/", "", "", 404, 404000},
		{"another method", http.MethodDelete, d, s.token("d"), "", 404, 404000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, answer, header := s.call(tc.method, tc.path, tc.token, tc.body)
			require.Equal(t, tc.status, status, answer)
			require.InDelta(t, tc.code, answer["errorCode"], 0)
			for _, field := range []string{"trackingId", "message", "timestampUtc"} {
				require.NotEmpty(t, answer[field], field)
			}
			require.Equal(t, "application/json; charset=utf-8", header.Get("Content-Type"))
		})
	}
	status, answer, _ := s.call(http.MethodGet, "/"+s.scope+"/registrations/gone/operations/"+operationID(eventlog.NewID()), s.token("gone"), "")
	require.Equal(t, 202, status, "another node may have taken it a moment ago: %v", answer)
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"registrationId":"d","payload":{"modelId":"dtmi:contoso:Thermostat;1"}}`))
	f.Add([]byte(`{"payload":{"iotcModelId":"dtmi:contoso:Thermostat;1"}}`))
	f.Add([]byte(`{"payload":[1,2]}`))
	f.Add([]byte(`{"tpm":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseRequest("d", body)
		if err == nil && device.ValidateModelID(req.modelID) != nil {
			t.Fatalf("model id %q passed", req.modelID)
		}
		if err != nil && AsFault(err).Status != http.StatusBadRequest {
			t.Fatalf("fault %v", err)
		}
	})
}

func FuzzOperationID(f *testing.F) {
	f.Add(operationID(eventlog.NewID()))
	f.Add("4.0000000000000000.00000000-0000-0000-0000-000000000000")
	f.Fuzz(func(t *testing.T, id string) {
		if _, ok := begun(id); ok && (len(id) != 55 || strings.ContainsAny(id, "/?#& \n")) {
			t.Fatalf("operation id %q passed", id)
		}
	})
}
