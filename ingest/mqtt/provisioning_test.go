package mqtt

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/ingest/provisioning"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// registrationToken is a valid password for a device that comes to register.
func (s *site) registrationToken(id string) string {
	return sas.Sign(s.keys.IDScope(access.DefaultTenant)+"/registrations/"+id, s.keys.DeviceKeys(access.DefaultTenant, id).Primary, time.Now().Add(time.Hour), "registration")
}

func (s *site) registrantName(id string) string {
	return s.keys.IDScope(access.DefaultTenant) + "/registrations/" + id + "/api-version=2019-03-31&ClientVersion=azure-iot-device%2F1.0"
}

// registering is a device that has connected to be provisioned, and subscribed.
func (s *site) registering(id string) *client {
	s.tb.Helper()
	c := s.dial()
	c.write(connectPacket(id, s.registrantName(id), s.registrationToken(id), 60))
	require.Equal(s.tb, []byte{0x20, 2, 0, 0}, c.read(4))
	c.write(subscribePacket(7, registrationFilter, 2))
	require.Equal(s.tb, []byte{0x90, 3, 0, 7, 1}, c.read(5), "QoS 2 is granted as QoS 1")
	return c
}

func subscribePacket(id uint16, filter string, qos byte) []byte {
	return packet(0x82, append(append([]byte{byte(id >> 8), byte(id)}, field(filter)...), qos))
}

// ask publishes a request with QoS 1 and returns what answers it.
func (c *client) ask(topic, body string) (answerTopic string, answer map[string]any) {
	c.tb.Helper()
	c.write(publishPacket(topic, 9, body))
	require.Equal(c.tb, []byte{0x40, 2, 0, 9}, c.read(4))
	require.Equal(c.tb, byte(0x30), c.read(1)[0])
	length, shift := 0, 0
	for {
		b := c.read(1)[0]
		length |= int(b&0x7f) << shift
		if shift += 7; b&0x80 == 0 {
			break
		}
	}
	content := c.read(length)
	n := int(binary.BigEndian.Uint16(content))
	require.NoError(c.tb, json.Unmarshal(content[2+n:], &answer))
	return string(content[2 : 2+n]), answer
}

func TestProvisioningOverMQTT(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{HubName: "hub.test"})
	enginetest.FoldDevices(t, s.log)
	c := s.registering("d")
	topic, answer := c.ask(registerTopic+"?$rid=1", `{"registrationId":"d","payload":{"modelId":"dtmi:contoso:Thermostat;1"}}`)
	require.Equal(t, "$dps/registrations/res/202/?$rid=1&retry-after=1", topic)
	require.Equal(t, "assigning", answer["status"])
	topic, answer = c.ask(operationTopic+"?$rid=2&operationId="+answer["operationId"].(string), " ")
	require.Equal(t, "$dps/registrations/res/200/?$rid=2", topic)
	require.Equal(t, "assigned", answer["status"])
	state := answer["registrationState"].(map[string]any)
	require.Equal(t, "hub.test", state["assignedHub"])
	require.Equal(t, "d", state["deviceId"])

	topic, answer = c.ask(operationTopic+"?$rid=3&operationId=none", "")
	require.Equal(t, "$dps/registrations/res/404/?$rid=3", topic)
	require.InDelta(t, 404202, answer["errorCode"], 0)
	topic, _ = c.ask(registerTopic+"?$rid=4", "{")
	require.Equal(t, "$dps/registrations/res/400/?$rid=4", topic)

	c.write([]byte{0xc0, 0})
	require.Equal(t, []byte{0xd0, 0}, c.read(2))
	hub := s.connected("d") // its registration goes on beside it
	throttled := false
	for range registrationBurst + 1 {
		topic, _ = c.ask(operationTopic+"?$rid=5&operationId=none", "")
		throttled = throttled || topic == "$dps/registrations/res/429/?$rid=5&retry-after=1"
	}
	require.True(t, throttled, "a device that asks without pause is told to wait")
	c.write([]byte{0xe0, 0})
	c.closed()
	hub.write([]byte{0xc0, 0})
	require.Equal(t, []byte{0xd0, 0}, hub.read(2))
}

func TestMisbehaviourWhileProvisioning(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	enginetest.FoldDevices(t, s.log)
	for _, tc := range []struct {
		name, reason string
		packets      [][]byte
	}{
		{"telemetry", "foreign_topic", [][]byte{publishPacket("devices/d/messages/events/", 1, "{}")}},
		{"no request id", "foreign_topic", [][]byte{publishPacket(registerTopic, 1, "{}")}},
		{"request id too long", "foreign_topic", [][]byte{publishPacket(registerTopic+"?$rid="+strings.Repeat("x", maxRequestID+1), 1, "{}")}},
		{"QoS 2", "qos_2", [][]byte{packet(0x34, append(field(registerTopic+"?$rid=1"), 0, 1))}},
		{"too large", "packet_too_large", [][]byte{publishPacket(registerTopic+"?$rid=1", 1, strings.Repeat(" ", provisioning.MaxBodyBytes+maxConnectBytes))}},
		{"CONNECT again", "malformed_packet", [][]byte{connectPacket("d", "x", "y", 1)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := s.ended(tc.reason)
			c := s.registering("d")
			for _, p := range tc.packets {
				c.write(p)
			}
			c.closed()
			require.Eventually(t, func() bool { return s.ended(tc.reason) == before+1 }, 5*time.Second, time.Millisecond)
		})
	}
	t.Run("another filter", func(t *testing.T) {
		c := s.registering("d")
		c.write(subscribePacket(8, "$dps/#", 1))
		require.Equal(t, []byte{0x90, 3, 0, 8, 0x80}, c.read(5))
	})
	for _, tc := range []struct {
		name, clientID, userName, password string
		code                               byte
	}{
		{"wrong key", "d", s.registrantName("d"), s.registrationToken("e"), refusedAuth},
		{"no password", "d", s.registrantName("d"), "", refusedAuth},
		{"hub's token", "d", s.registrantName("d"), s.token("d"), refusedAuth},
		{"another client id", "e", s.registrantName("d"), s.registrationToken("d"), refusedClientID},
		{"unknown scope", "d", "0neFFFFFFFF/registrations/d/api-version=2019-03-31", s.registrationToken("d"), refusedAuth},
		{"no api version", "d", s.keys.IDScope(access.DefaultTenant) + "/registrations/d/", s.registrationToken("d"), refusedUserName},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.dial()
			c.write(connectPacket(tc.clientID, tc.userName, tc.password, 60))
			require.Equal(t, []byte{0x20, 2, 0, tc.code}, c.read(4))
			c.closed()
		})
	}
}

// TestACredentialTakenBackEndsTheConnection disables a group, and gives a device
// a credential of its own, under connections that are open.
func TestACredentialTakenBackEndsTheConnection(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	enginetest.FoldDevices(t, s.log)
	put := func(enabled bool) {
		t.Helper()
		_, err := s.catalog.Change(t.Context(), &eventsv1.CatalogEvent{
			Id: eventlog.NewID(), Tenant: access.DefaultTenant, Kind: enrollment.KindName, Resource: "SAS-IoT-Devices", Time: timestamppb.Now(),
			Change: &eventsv1.CatalogEvent_EnrollmentGroup{EnrollmentGroup: &eventsv1.EnrollmentGroup{
				DisplayName: "Default", Enabled: enabled, AutoApprove: true, Type: eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT,
				Attestation: &eventsv1.EnrollmentGroup_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{}},
			}},
		})
		require.NoError(t, err)
	}
	change := func(ev *eventsv1.DeviceEvent) {
		t.Helper()
		ev.Id, ev.Tenant, ev.Device, ev.Time = eventlog.NewID(), access.DefaultTenant, "d", timestamppb.Now()
		_, err := s.devices.Change(t.Context(), ev)
		require.NoError(t, err)
	}
	change(&eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{Enabled: true}}})
	c := s.connected("d")
	put(false)
	c.closed()
	require.Eventually(t, func() bool { return s.ended("group_disabled") == 1 }, 5*time.Second, time.Millisecond)
	refused := s.dial()
	refused.write(connectPacket("d", host+"/d/?api-version=2021-04-12", s.token("d"), 60))
	require.Equal(t, []byte{0x20, 2, 0, refusedAuth}, refused.read(4))
	put(true)
	c = s.connected("d")
	certificate := enginetest.Device(t, "d", nil)
	change(&eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_AttestationSet{AttestationSet: &eventsv1.AttestationSet{
		Attestation: &eventsv1.Attestation{Kind: &eventsv1.Attestation_X509{X509: &eventsv1.ClientCertificates{Primary: certificate.Cert.Raw}}},
	}}})
	c.closed()
	require.Eventually(t, func() bool { return s.ended("credential_changed") == 1 }, 5*time.Second, time.Millisecond)
}

func FuzzParseRegistrant(f *testing.F) {
	f.Add("0ne00000000/registrations/d/api-version=2019-03-31&ClientVersion=x")
	f.Add("gateway.test/d/?api-version=2021-04-12")
	f.Add("a/registrations/b/?api-version=x")
	f.Fuzz(func(t *testing.T, name string) {
		scope, id, ok := parseRegistrant(name)
		if ok && (scope == "" || id == "" || strings.Contains(scope+id, "/")) {
			t.Fatalf("%q is %q %q", name, scope, id)
		}
		// Provisioning is looked for first: only modules of a device of this name
		// could be mistaken for it.
		if u, err := parseUserName(name); ok && err == nil && (u.device != "registrations" || u.module == "") {
			t.Fatalf("%q is a device's user name, too", name)
		}
	})
}

func FuzzParseRegistrationTopic(f *testing.F) {
	f.Add(registerTopic + "?$rid=1")
	f.Add(operationTopic + "?$rid=1&operationId=4.x")
	f.Fuzz(func(t *testing.T, topic string) {
		req, ok := parseRegistrationTopic(topic)
		if !ok {
			return
		}
		if req.rid == "" || len(req.rid) > maxRequestID || !req.register && req.operation == "" {
			t.Fatalf("%q is %+v", topic, req)
		}
		again, ok := parseRegistrationTopic(registerTopic + responseTopic(200, req.rid, 0)[len("$dps/registrations/res/200/"):])
		if !ok || again.rid != req.rid {
			t.Fatalf("the request id %q does not come back: %q", req.rid, again.rid)
		}
	})
}
