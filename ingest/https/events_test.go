package https

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

const eventsPath = "/messages/events?api-version=2021-04-12"

// TestTheSameRecordByEveryDoor sends one message by MQTT over WebSocket, by HTTPS
// and in a batch: three records that differ in nothing but id and time.
func TestTheSameRecordByEveryDoor(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("thermostat-1", true)
	const payload = `{"temperature":21.5}`
	client := s.paho("thermostat-1")
	publish := client.Publish("devices/thermostat-1/messages/events/$.ce=utf-8&$.cid=c%201&$.ct=application%2Fjson&$.mid=m1&$.sub=thermostat1&room=b%202", 1, false, payload)
	require.True(t, publish.WaitTimeout(10*time.Second))
	require.NoError(t, publish.Error())
	client.Disconnect(100)

	a := s.call("thermostat-1", http.MethodPost, "/devices/thermostat-1"+eventsPath, payload, "iothub-to", "/devices/thermostat-1/messages/events",
		"IoTHub-MessageId", "m1", "IoTHub-CorrelationId", "c 1", "iothub-contenttype", "application/json", "iothub-contentencoding", "utf-8",
		"dt-subject", "thermostat1", "iothub-app-room", "b 2", "X-Other", "not a property")
	require.Equal(t, http.StatusNoContent, a.status, a.body)
	require.Empty(t, a.body)

	batch := fmt.Sprintf(`[{"body":%q,"properties":{"iothub-messageid":"m1","iothub-correlationid":"c 1","iothub-contenttype":"application/json","iothub-contentencoding":"utf-8","dt-subject":"thermostat1","iothub-app-room":"b 2"}}]`,
		base64.StdEncoding.EncodeToString([]byte(payload)))
	a = s.call("thermostat-1", http.MethodPost, "/devices/thermostat-1"+eventsPath, batch, "Content-Type", batchType)
	require.Equal(t, http.StatusNoContent, a.status, a.body)

	records := s.records(eventlog.Telemetry, 3)
	want := headers(records[0])
	ids := map[string]bool{}
	for _, r := range records {
		h := headers(r)
		ids[h["ce_id"]] = true
		at, err := time.Parse("2006-01-02T15:04:05.000Z", h["ce_time"])
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, time.Minute)
		require.Equal(t, at.UnixMilli(), r.Timestamp.UnixMilli())
		h["ce_id"], h["ce_time"] = want["ce_id"], want["ce_time"]
		require.Equal(t, want, h)
		require.Equal(t, string(records[0].Key), string(r.Key))
		require.Equal(t, payload, string(r.Value))
	}
	require.Len(t, ids, 3)
}

// TestABatchIsTheSameRecordsByEveryDoor sends one batch by MQTT over WebSocket and,
// named in each way there is, by HTTPS.
func TestABatchIsTheSameRecordsByEveryDoor(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	const batch = `[{"ts":"2026-01-02T03:04:05Z","body":{"n":0}},{"iothub-creation-time-utc":"2026-01-02T03:04:06.5Z","body":1},{"body":[ 2 ]}]`
	const created = "2026-01-02T03:04:07Z" // of those without a time of their own
	client := s.paho("d")
	publish := client.Publish("devices/d/messages/events/$.ct=application%2Fvnd.fleetlog.batch%2Bjson&$.sub=c&"+telemetry.CreationTime+"=2026-01-02T03%3A04%3A07Z&room=b%202", 1, false, batch)
	require.True(t, publish.WaitTimeout(10*time.Second))
	require.NoError(t, publish.Error())
	client.Disconnect(100)
	post := func(body string, header ...string) {
		a := s.call("d", http.MethodPost, "/devices/d"+eventsPath, body, header...)
		require.Equal(t, http.StatusNoContent, a.status, a.body)
		require.Empty(t, a.body)
	}
	properties := []string{"dt-subject", "c", "iothub-app-" + telemetry.CreationTime, created, "iothub-app-room", "b 2"}
	post(batch, append(properties, "Content-Type", telemetry.BatchType)...)
	post(batch, append(properties, "iothub-contenttype", telemetry.BatchType)...)
	post(fmt.Sprintf(`[{"body":%q,"base64Encoded":false,"properties":{"iothub-contenttype":%q,"dt-subject":"c","iothub-app-%s":%q,"iothub-app-room":"b 2"}}]`,
		batch, telemetry.BatchType, telemetry.CreationTime, created), "Content-Type", batchType)

	records := s.records(eventlog.Telemetry, 12)
	require.Len(t, records, 12)
	ids := map[string]bool{}
	for i, r := range records {
		like := records[i%3]
		require.Equal(t, []string{`{"n":0}`, "1", "[ 2 ]"}[i%3], string(r.Value))
		require.Equal(t, string(like.Key), string(r.Key))
		h, want := headers(r), headers(like)
		require.Equal(t, []string{"2026-01-02T03:04:05.000Z", "2026-01-02T03:04:06.500Z", "2026-01-02T03:04:07.000Z"}[i%3], h["ce_time"])
		require.Equal(t, eventlog.ContentTypeJSON, h["content-type"])
		ids[h["ce_id"]] = true
		h["ce_id"] = want["ce_id"]
		require.Equal(t, want, h)
	}
	require.Len(t, ids, 12)
}

func TestABrokenBatchIsRefusedWhole(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	for body, reason := range map[string]string{
		``: "no JSON array", `{}`: "no JSON array", `[]`: "empty", `[1]`: "event 1",
		`[{"body":1},{"ts":"2026-01-02T03:04:05Z"}]`:              "event 2: it has no body",
		`[{"ts":"yesterday","body":1}]`:                           `time "yesterday" is not RFC 3339`,
		`[{"body":1}`:                                             "not JSON",
		`[{"body":1}] 2`:                                          "something follows",
		"[" + strings.Repeat(`{"body":1},`, 1000) + `{"body":1}]`: "more than 1000 events",
	} {
		a := s.call("d", http.MethodPost, "/devices/d"+eventsPath, body, "Content-Type", telemetry.BatchType+"; charset=utf-8")
		require.Equal(t, http.StatusBadRequest, a.status, "%.100s: %s", body, a.body)
		require.Equal(t, "ArgumentInvalid", a.failure(t))
		require.Contains(t, strings.ReplaceAll(a.body, `\"`, `"`), reason)
	}
	a := s.call("d", http.MethodPost, "/devices/d"+eventsPath, `{"last":1}`)
	require.Equal(t, http.StatusNoContent, a.status, a.body)
	require.JSONEq(t, `{"last":1}`, string(s.records(eventlog.Telemetry, 1)[0].Value), "nothing of a broken batch is kept")
}

func TestEventTimeIsTheDevices(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	s.change("d", "camera", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_ModuleRegistered{ModuleRegistered: &eventsv1.ModuleRegistered{}}})
	a := s.call("", http.MethodPost, "/devices/d/modules/camera"+eventsPath, "not json", "Authorization", s.moduleToken("d", "camera"), "iothub-app-iothub-creation-time-utc", "2026-01-02T03:04:05.678Z")
	require.Equal(t, http.StatusNoContent, a.status, a.body)
	h := headers(s.records(eventlog.Telemetry, 1)[0])
	require.Equal(t, "2026-01-02T03:04:05.678Z", h["ce_time"])
	require.Equal(t, "/devices/d/modules/camera", h["ce_source"])
	require.Equal(t, "ModuleNotFound", s.call("", http.MethodPost, "/devices/d/modules/other"+eventsPath, "{}", "Authorization", s.moduleToken("d", "other")).failure(t))
}

func TestTelemetryRefusals(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("good", true)
	s.register("off", false)
	key := s.keys.DeviceKeys(access.DefaultTenant, "good").Primary
	sign := func(resource string, key []byte, life time.Duration) string {
		return sas.Sign(resource, key, time.Now().Add(life), "")
	}
	for _, tc := range []struct {
		name, device, token, body string
		header                    []string
		status                    int
		code                      string
	}{
		{name: "no token", device: "good", status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "nonsense", device: "good", token: "Bearer x", status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "wrong key", device: "good", token: sign("localhost/devices/good", []byte("x"), time.Hour), status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "expired", device: "good", token: sign("localhost/devices/good", key, -time.Minute), status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "another host", device: "good", token: sign("other/devices/good", key, time.Hour), status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "another device", device: "off", token: s.token("good"), status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "disabled", device: "off", token: s.token("off"), status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "unknown device", device: "none", token: s.token("none"), status: 404, code: "DeviceNotFound"},
		{name: "unknown device, wrong key", device: "none", token: sign("localhost/devices/none", key, time.Hour), status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "invalid id", device: "a%2Fb", token: s.token("good"), status: 401, code: "IotHubUnauthorizedAccess"},
		{name: "too large", device: "good", token: s.token("good"), body: strings.Repeat("x", 256<<10+1), status: 413, code: "MessageTooLarge"},
		{name: "too large with properties", device: "good", token: s.token("good"), body: strings.Repeat("x", 256<<10-2), header: []string{"iothub-app-a", "bc"}, status: 413, code: "MessageTooLarge"},
		{name: "component too long", device: "good", token: s.token("good"), header: []string{"dt-subject", strings.Repeat("x", 65)}, status: 400, code: "ArgumentInvalid"},
		{name: "no batch", device: "good", token: s.token("good"), body: "{}", header: []string{"Content-Type", batchType}, status: 400, code: "ArgumentInvalid"},
		{name: "batch too large", device: "good", token: s.token("good"), body: `[{"body":"` + strings.Repeat("A", 400<<10) + `"}]`, header: []string{"Content-Type", batchType}, status: 413, code: "MessageTooLarge"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header := tc.header
			if tc.token != "" {
				header = append(header, "Authorization", tc.token)
			}
			a := s.call("", http.MethodPost, "/devices/"+tc.device+eventsPath, tc.body, header...)
			require.Equal(t, tc.status, a.status, a.body)
			require.Equal(t, tc.code, a.failure(t))
		})
	}
	require.Equal(t, "InvalidPath", s.call("good", http.MethodGet, "/devices/good/twin", "").failure(t))
	require.InDelta(t, 1, s.counted("fleetlog_https_requests_total", "DeviceNotFound"), 0, "refusals are counted")
	require.Zero(t, s.counted("fleetlog_https_requests_total", "ok"))
}

func TestRatesAndPlacesAreBounded(t *testing.T) {
	s := newSite(t, Config{DeviceRate: 1, MaxRequests: 2}, nil)
	s.register("fast", true)
	s.register("slow", true)
	last := answer{status: http.StatusNoContent}
	for range 4 {
		last = s.call("fast", http.MethodPost, "/devices/fast"+eventsPath, "{}")
	}
	require.Equal(t, http.StatusTooManyRequests, last.status)
	require.Equal(t, "ThrottlingException", last.failure(t))
	require.Equal(t, "1", last.header.Get("Retry-After"))
	require.Equal(t, http.StatusNoContent, s.call("slow", http.MethodPost, "/devices/slow"+eventsPath, "{}").status, "others have their own rate")
	require.True(t, s.door.bodies.TryAcquire(maxBodiesBytes-1))
	require.Equal(t, http.StatusServiceUnavailable, s.call("slow", http.MethodPost, "/devices/slow"+eventsPath, "{}").status)
	s.door.bodies.Release(maxBodiesBytes - 1)
	for range maxDeviceRequests {
		require.True(t, s.door.underway.begin("default/other"))
	}
	s.register("other", true)
	require.Equal(t, http.StatusTooManyRequests, s.call("other", http.MethodPost, "/devices/other"+eventsPath, "{}").status)
	require.True(t, s.door.places.TryAcquire(2))
	busy := s.call("slow", http.MethodPost, "/devices/slow"+eventsPath, "{}")
	s.door.places.Release(2)
	require.Equal(t, "ServiceUnavailable", busy.failure(t))
}

func TestAnAddressThatConnectsTooOftenIsClosed(t *testing.T) {
	s := newSite(t, Config{AddressRate: 1}, nil)
	require.Eventually(t, func() bool {
		_, err := s.dialTLS()
		return err != nil
	}, 10*time.Second, time.Millisecond)
	families, err := s.metrics.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "fleetlog_https_connections_refused_total" {
			require.Positive(t, f.GetMetric()[0].GetCounter().GetValue())
		}
	}
}

func TestProvisioningHasItsPlace(t *testing.T) {
	s := newSite(t, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Method + " " + r.URL.Path))
	}))
	a := s.call("", http.MethodPut, "/0ne00000001/registrations/d/register?api-version=2021-06-01", "{}")
	require.Equal(t, "PUT /0ne00000001/registrations/d/register", a.body)
	a = s.call("", http.MethodGet, "/0ne00000001/registrations/d/operations/4.65", "")
	require.Equal(t, "GET /0ne00000001/registrations/d/operations/4.65", a.body)
}
