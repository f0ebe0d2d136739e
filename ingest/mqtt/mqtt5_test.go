package mqtt

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// connect5 is a CONNECT of MQTT 5 with properties.
func connect5(clientID, userName, password string, keepAlive int, p packets.Properties) []byte {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5, Properties: p,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Keepalive: uint16(keepAlive), Clean: true, ClientIdentifier: clientID,
			UsernameFlag: true, Username: []byte(userName), PasswordFlag: true, Password: []byte(password),
		},
	}
	var buf bytes.Buffer
	_ = pk.ConnectEncode(&buf)
	return buf.Bytes()
}

// publish5 is a PUBLISH of MQTT 5; id 0 is QoS 0.
func publish5(topic string, id uint16, payload string, p packets.Properties) []byte {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, ProtocolVersion: 5, Properties: p, PacketID: id,
		TopicName: topic, Payload: []byte(payload), Mods: packets.Mods{AllowResponseInfo: true},
	}
	if id > 0 {
		pk.FixedHeader.Qos = 1
	}
	var buf bytes.Buffer
	_ = pk.PublishEncode(&buf)
	return buf.Bytes()
}

// connected5 is a device that has been let in with MQTT 5.
func (s *site) connected5(id string, p packets.Properties) (*client, packets.Packet) {
	s.tb.Helper()
	c := s.dial()
	c.write(connect5(id, host+"/"+id+"/?api-version=2021-04-12", s.token(id), 60, p))
	connack := c.next5()
	require.Equal(s.tb, packets.Connack, connack.FixedHeader.Type)
	require.Zero(s.tb, connack.ReasonCode, connack.Properties.ReasonString)
	return c, connack
}

// next5 reads the next MQTT 5 packet.
func (c *client) next5() packets.Packet {
	c.tb.Helper()
	pk := packets.Packet{ProtocolVersion: 5}
	require.NoError(c.tb, pk.FixedHeader.Decode(c.read(1)[0]))
	length, shift := 0, 0
	for {
		b := c.read(1)[0]
		length |= int(b&0x7f) << shift
		if shift += 7; b < 0x80 {
			break
		}
	}
	pk.FixedHeader.Remaining = length
	body := c.read(length)
	switch pk.FixedHeader.Type {
	case packets.Connack:
		require.NoError(c.tb, pk.ConnackDecode(body))
	case packets.Publish:
		require.NoError(c.tb, pk.PublishDecode(body))
	case packets.Puback:
		require.NoError(c.tb, pk.PubackDecode(body))
	case packets.Suback:
		require.NoError(c.tb, pk.SubackDecode(body))
	case packets.Unsuback:
		require.NoError(c.tb, pk.UnsubackDecode(body))
	case packets.Disconnect:
		require.NoError(c.tb, pk.DisconnectDecode(body))
	}
	return pk
}

// farewell reads the DISCONNECT and answers as a device does, by closing.
func (c *client) farewell(code byte) {
	c.tb.Helper()
	pk := c.next5()
	require.Equal(c.tb, packets.Disconnect, pk.FixedHeader.Type)
	require.Equal(c.tb, code, pk.ReasonCode, pk.Properties.ReasonString)
	require.NotEmpty(c.tb, pk.Properties.ReasonString)
	c.closed()
	_ = c.conn.Close()
}

func TestMQTT5ConnackTellsTheLimits(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{Inflight: 32})
	s.put("d", true)
	c := s.dial()
	c.write(connect5("d", host+"/d/?api-version=2021-04-12", s.token("d"), 3600, packets.Properties{
		SessionExpiryInterval: 1<<32 - 1, SessionExpiryIntervalFlag: true, ReceiveMaximum: 7, MaximumPacketSize: 4096,
	}))
	p := c.next5().Properties
	require.EqualValues(t, 32, p.ReceiveMaximum)
	require.EqualValues(t, 86400, p.SessionExpiryInterval, "an endless session is granted for a day")
	require.EqualValues(t, 1177, p.ServerKeepAlive)
	require.True(t, p.MaximumQosFlag)
	require.EqualValues(t, 1, p.MaximumQos)
	require.EqualValues(t, 1, p.RetainAvailable)
	require.EqualValues(t, 16, p.TopicAliasMaximum)
	require.EqualValues(t, maxPacketBytes, p.MaximumPacketSize)
	require.True(t, p.SharedSubAvailableFlag && p.SharedSubAvailable == 0)
	require.True(t, p.SubIDAvailableFlag && p.SubIDAvailable == 0)
	require.EqualValues(t, 1, p.WildcardSubAvailable)

	_, connack := s.connected5("d", packets.Properties{})
	require.False(t, connack.Properties.ServerKeepAliveFlag, "60 s are as asked")
	require.Zero(t, connack.Properties.SessionExpiryInterval)
	c.farewell(0x8E) // session taken over
}

func TestMQTT5Refusals(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("good", true)
	s.put("blocked", false)
	userName := func(id string) string { return host + "/" + id + "/?api-version=2021-04-12" }
	key := s.keys.DeviceKeys(access.DefaultTenant, "good").Primary
	expired := sas.Sign(host+"/devices/good", key, time.Now().Add(-time.Minute), "")
	elsewhere := sas.Sign("other.host/devices/good", key, time.Now().Add(time.Hour), "")
	wrongKey := sas.Sign(host+"/devices/good", []byte("another key"), time.Now().Add(time.Hour), "")
	plain := func(id, userName, password string) []byte {
		return connect5(id, userName, password, 60, packets.Properties{})
	}
	with := func(p packets.Properties) []byte { return connect5("good", userName("good"), s.token("good"), 60, p) }
	level6 := plain("good", userName("good"), s.token("good"))
	level6[bytes.Index(level6, []byte("MQTT"))+4] = 6
	cutShort := packet(0x10, append(field("MQTT"), 5, 0xc2, 0, 60, 9, 0x21))
	const secret = "the device or its key is not known; the gateway's log says more"
	for _, tc := range []struct {
		name    string
		connect []byte
		code    byte
		reason  string
		text    string
	}{
		{"wrong key", plain("good", userName("good"), wrongKey), 0x87, "wrong_key", secret},
		{"token for another host", plain("good", userName("good"), elsewhere), 0x87, "wrong_key", secret},
		{"another device's token", plain("good", userName("good"), s.token("blocked")), 0x87, "wrong_key", secret},
		{"expired token", plain("good", userName("good"), expired), 0x87, "token_expired", endTokenExpired.advice},
		{"no token at all", plain("good", userName("good"), "secret"), 0x86, "bad_token", endPassword.advice},
		{"unknown device", plain("stranger", userName("stranger"), s.token("stranger")), 0x87, "unknown_device", secret},
		{"blocked device", plain("blocked", userName("blocked"), s.token("blocked")), 0x87, "device_blocked", endBlocked.advice},
		{"user name of another form", plain("good", "good", s.token("good")), 0x86, "bad_user_name", endUserName.advice},
		{"id that cannot be", plain("a b", userName("a b"), s.token("a b")), 0x86, "bad_user_name", endUserName.advice},
		{"client id of another device", plain("other", userName("good"), s.token("good")), 0x85, "bad_client_id", endClientID.advice},
		{"no client id", plain("", userName("good"), s.token("good")), 0x85, "bad_client_id", endClientID.advice},
		{"a later version", level6, 0x84, "unsupported_protocol", endProtocol.advice},
		{"properties cut short", cutShort, 0x81, "malformed_packet", endMalformed.advice},
		{"no room for a CONNACK", with(packets.Properties{MaximumPacketSize: 20}), 0x95, "small_packets", endSmallPackets.advice},
		{"enhanced authentication", with(packets.Properties{AuthenticationMethod: "SCRAM-SHA-1"}), 0x8C, "authentication_method", endAuthMethod.advice},
		{"no wish for reasons", with(packets.Properties{AuthenticationMethod: "x", RequestProblemInfoFlag: true}), 0x8C, "authentication_method", ""},
		{"no room for reasons", with(packets.Properties{AuthenticationMethod: "x", MaximumPacketSize: minClientPacket}), 0x8C, "authentication_method", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := s.ended(tc.reason)
			c := s.dial()
			c.write(tc.connect)
			connack := c.next5()
			require.Equal(t, tc.code, connack.ReasonCode)
			require.Equal(t, tc.text, connack.Properties.ReasonString)
			c.closed()
			require.Eventually(t, func() bool { return s.ended(tc.reason) == before+1 }, 5*time.Second, time.Millisecond)
		})
	}
}

func TestMQTT5MisbehaviourEndsOnlyItsOwnConnection(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("bystander", true)
	bystander, _ := s.connected5("bystander", packets.Properties{})
	s.put("d", true)
	const topic = "devices/d/messages/events/"
	none := packets.Properties{}
	for _, tc := range []struct {
		name   string
		bytes  []byte
		code   byte
		reason string
	}{
		// With QoS 0 there is no PUBACK to carry the reason.
		{"foreign topic", publish5("devices/bystander/messages/events/", 0, "{}", none), 0x90, "foreign_topic"},
		{"bad property bag", publish5(topic+"a=%zz", 0, "{}", none), 0x90, "bad_property_bag"},
		{"payload over 256 KiB", publish5(topic, 0, strings.Repeat("x", 256<<10+1), none), 0x95, "packet_too_large"},
		{"payload that is not UTF-8", publish5(topic, 0, "\xff", packets.Properties{PayloadFormat: 1, PayloadFormatFlag: true}), 0x99, "bad_payload_format"},
		{"too many user properties", publish5(topic, 0, "{}", packets.Properties{User: make([]packets.UserProperty, maxUserProperties+1)}), 0x97, "too_many_properties"},

		{"QoS 2", packet(0x34, append(append(field(topic), 0, 1, 0), "{}"...)), 0x9B, "qos_2"},
		{"QoS 3", packet(0x36, append(append(field(topic), 0, 1, 0), "{}"...)), 0x9B, "qos_2"},
		{"packet id 0", packet(0x32, append(append(field(topic), 0, 0, 0), "{}"...)), 0x82, "malformed_packet"},
		{"topic longer than the packet", []byte{0x32, 4, 0xff, 0xff, 'a', 'b'}, 0x81, "malformed_packet"},
		{"topic that is not UTF-8", publish5(topic+"\xff", 1, "{}", none), 0x81, "malformed_packet"},
		{"endless length", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x7f}, 0x81, "malformed_packet"},
		{"oversize packet", append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 100<<10)...), 0x95, "packet_too_large"},
		{"second CONNECT", connectPacket("d", "x", "y", 1), 0x82, "malformed_packet"},
		{"AUTH unasked", []byte{0xf0, 0}, 0x82, "malformed_packet"},
		{"PUBACK for nothing sent", []byte{0x90, 2, 0, 1}, 0x82, "malformed_packet"},
		{"neither topic nor alias", publish5("", 1, "{}", none), 0x82, "malformed_packet"},
		{"alias never introduced", publish5("", 1, "{}", packets.Properties{TopicAlias: 3, TopicAliasFlag: true}), 0x94, "bad_topic_alias"},
		{"alias 0", packet(0x30, append(field(topic), 3, 0x23, 0, 0)), 0x94, "bad_topic_alias"},
		{"alias 17", publish5(topic, 1, "{}", packets.Properties{TopicAlias: 17, TopicAliasFlag: true}), 0x94, "bad_topic_alias"},
		{"alias 17 among properties", publish5(topic, 1, "{}", packets.Properties{TopicAlias: 17, TopicAliasFlag: true, ContentType: "a/b"}), 0x94, "bad_topic_alias"},
		{"alias for a huge topic", publish5(topic+strings.Repeat("a", maxAliasedBytes), 1, "{}", packets.Properties{TopicAlias: 1, TopicAliasFlag: true}), 0x94, "bad_topic_alias"},
		{"property that PUBLISH has not", packet(0x30, append(field(topic), 3, 0x21, 0, 1)), 0x82, "malformed_packet"},
		{"subscription id in PUBLISH", packet(0x30, append(field(topic), 2, 0x0b, 1)), 0x82, "malformed_packet"},
		{"properties longer than the packet", packet(0x30, append(field(topic), 40, 0x26)), 0x81, "malformed_packet"},
		{"property that runs into the payload", packet(0x30, append(field(topic), 3, 0x03, 0, 2, 'a', 'b')), 0x81, "malformed_packet"},
		{"overlong property length", packet(0x30, append(field(topic), 0x80, 0x80, 0x80, 0x80, 0)), 0x81, "malformed_packet"},
		{"no property length", packet(0x30, field(topic)), 0x81, "malformed_packet"},
		{"filter without options", packet(0x82, append([]byte{0, 3, 0}, field("a/#")...)), 0x81, "malformed_packet"},
		{"no filters", packet(0x82, []byte{0, 3, 0}), 0x82, "malformed_packet"},
		{"subscription id", packet(0x82, append(append([]byte{0, 3, 2, 0x0b, 1}, field("a/#")...), 1)), 0xA1, "subscription_identifier"},
		{"longer session at the end than at the start", []byte{0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9}, 0x82, "malformed_packet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := s.ended(tc.reason)
			c, _ := s.connected5("d", none)
			_, _ = c.conn.Write(tc.bytes) // may fail half-way: the gateway closes early
			c.farewell(tc.code)
			require.Eventually(t, func() bool { return s.ended(tc.reason) == before+1 }, 5*time.Second, time.Millisecond)
		})
	}
	bystander.write(publish5("devices/bystander/messages/events/", 9, "{}", none))
	require.Equal(t, []byte{0x40, 2, 0, 9}, bystander.read(4))
	require.Len(t, s.telemetry(1), 1)
}

// TestMQTT5RefusesAMessageAndGoesOn sends messages that MQTT 3.1.1 could only
// close for, between good ones: each is answered, in order.
func TestMQTT5RefusesAMessageAndGoesOn(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	const topic = "devices/d/messages/events/"
	many := packets.Properties{User: make([]packets.UserProperty, maxUserProperties+1)}
	large := packets.Properties{User: []packets.UserProperty{{Key: "k", Val: strings.Repeat("v", maxPropertyBytes)}}}
	utf8 := packets.Properties{PayloadFormat: 1, PayloadFormatFlag: true}
	bad := []struct {
		bytes []byte
		code  byte
		text  string
	}{
		{publish5("devices/other/messages/events/", 2, "{}", packets.Properties{}), 0x90, endForeignTopic.advice},
		{publish5("hello", 3, "{}", packets.Properties{ContentType: "a/b"}), 0x90, endForeignTopic.advice},
		{publish5(topic+"a=%zz", 4, "{}", packets.Properties{}), 0x90, endBadBag.advice},
		{publish5(topic, 5, strings.Repeat("x", 256<<10+1), packets.Properties{}), 0x97, endTooLarge.advice},
		{publish5(topic, 6, "{}", many), 0x97, endProperties.advice},
		{publish5(topic, 7, "{}", large), 0x97, endProperties.advice},
		{publish5(topic, 8, "\xff\xfe", utf8), 0x99, endPayloadFormat.advice},
	}
	c, _ := s.connected5("d", packets.Properties{})
	c.write(publish5(topic, 1, "first", packets.Properties{}))
	for _, b := range bad {
		c.write(b.bytes)
	}
	c.write(publish5(topic, 99, "last", packets.Properties{}))
	require.Equal(t, []byte{0x40, 2, 0, 1}, c.read(4))
	for i, b := range bad {
		puback := c.next5()
		require.Equal(t, packets.Puback, puback.FixedHeader.Type)
		require.EqualValues(t, i+2, puback.PacketID, "answers keep the order of the messages")
		require.Equal(t, b.code, puback.ReasonCode)
		require.Equal(t, b.text, puback.Properties.ReasonString)
	}
	require.Equal(t, []byte{0x40, 2, 0, 99}, c.read(4))
	records := s.telemetry(2)
	require.Equal(t, "first", string(records[0].Value))
	require.Equal(t, "last", string(records[1].Value))

	quiet, _ := s.connected5("d", packets.Properties{RequestProblemInfoFlag: true})
	quiet.write(publish5("hello", 3, "{}", packets.Properties{}))
	require.Equal(t, []byte{0x40, 3, 0, 3, 0x90}, quiet.read(5), "no reason string for who does not want it")
}

func TestMQTT5PropertiesBecomeThePropertyBag(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	const topic = "devices/d/messages/events/"
	c, _ := s.connected5("d", packets.Properties{})
	user := func(pairs ...string) (all []packets.UserProperty) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, packets.UserProperty{Key: pairs[i], Val: pairs[i+1]})
		}
		return all
	}
	for i, tc := range []struct {
		name  string
		bytes []byte
		want  map[string]string // by header, "" for none
	}{
		{"everything", publish5(topic, 1, "{}", packets.Properties{
			ContentType: "application/json", CorrelationData: []byte("c 1"), PayloadFormat: 1, PayloadFormatFlag: true,
			MessageExpiryInterval: 1, ResponseTopic: "answer/here", User: user("room", "b 2&+=ä", "$.sub", "thermostat1", "iothub-creation-time-utc", "2026-01-02T03:04:05Z"),
		}), map[string]string{
			"ce_properties": "$.ct=application%2Fjson&$.cid=c%201&$.ce=utf-8&room=b%202%26%2B%3D%C3%A4&$.sub=thermostat1&iothub-creation-time-utc=2026-01-02T03%3A04%3A05Z",
			"content-type":  "application/json", "ce_subject": "thermostat1", "ce_time": "2026-01-02T03:04:05.000Z",
		}},
		{"the topic's bag counts first", publish5(topic+"?%24.ct=text%2Fplain&room=1/", 2, "{}", packets.Properties{
			ContentType: "application/json", User: user("room", "2", "floor", "3", "floor", "4"),
		}), map[string]string{"ce_properties": "?%24.ct=text%2Fplain&room=1&floor=3", "content-type": "text/plain"}},
		{"an alias is introduced", publish5(topic+"a=1", 3, "{}", packets.Properties{TopicAlias: 16, TopicAliasFlag: true}), map[string]string{"ce_properties": "a=1"}},
		{"and used", publish5("", 4, "{}", packets.Properties{TopicAlias: 16, TopicAliasFlag: true}), map[string]string{"ce_properties": "a=1", "content-type": "", "ce_subject": ""}},
		{"with more properties", publish5("", 5, "{}", packets.Properties{TopicAlias: 16, TopicAliasFlag: true, User: user("b", "")}), map[string]string{"ce_properties": "a=1&b="}},
		{"an alias is changed", publish5(topic, 6, "{}", packets.Properties{TopicAlias: 16, TopicAliasFlag: true}), map[string]string{"ce_properties": ""}},
		{"and used again", publish5("", 7, "{}", packets.Properties{TopicAlias: 16, TopicAliasFlag: true}), map[string]string{"ce_properties": ""}},
		{"topic without its last slash", publish5(strings.TrimSuffix(topic, "/"), 8, "{}", packets.Properties{User: user("a", "1")}), map[string]string{"ce_properties": "a=1"}},
		{"correlation that is not text", publish5(topic, 9, "{}", packets.Properties{CorrelationData: []byte{0xff, 0xfe}}), map[string]string{"ce_properties": "$.cid=__4"}},
		{"retain flag", retain(publish5(topic, 10, "{}", packets.Properties{})), map[string]string{"ce_properties": "mqtt-retain=true"}},
	} {
		c.write(tc.bytes)
		require.Equal(t, []byte{0x40, 2, 0, byte(i + 1)}, c.read(4), tc.name)
		h := headers(s.telemetry(i + 1)[i])
		for name, want := range tc.want {
			require.Equal(t, want, h[name], "%s: %s", tc.name, name)
		}
	}
}

func retain(publish []byte) []byte {
	publish[0] |= 1
	return publish
}

func TestMQTT5Farewells(t *testing.T) {
	t.Parallel()
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	const userName = host + "/d/?api-version=2021-04-12"
	t.Run("blocked", func(*testing.T) {
		c, _ := s.connected5("d", packets.Properties{})
		s.put("d", false)
		c.farewell(0x98)
		s.put("d", true)
	})
	t.Run("silent beyond its keep-alive", func(t *testing.T) {
		c := s.dial()
		c.write(connect5("d", userName, s.token("d"), 1, packets.Properties{}))
		require.Zero(t, c.next5().ReasonCode)
		c.farewell(0x8D)
	})
	t.Run("token at its end", func(t *testing.T) {
		c := s.dial()
		token := sas.Sign(host+"/devices/d", s.keys.DeviceKeys(access.DefaultTenant, "d").Primary, time.Now().Add(2*time.Second), "")
		c.write(connect5("d", userName, token, 0, packets.Properties{}))
		require.Zero(t, c.next5().ReasonCode)
		c.farewell(0xA0)
	})
	t.Run("the device's own", func(*testing.T) {
		c, _ := s.connected5("d", packets.Properties{SessionExpiryInterval: 60, SessionExpiryIntervalFlag: true})
		c.write([]byte{0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9})
		c.closed()
	})
	t.Run("foreign subscriptions are refused", func(t *testing.T) {
		c, _ := s.connected5("d", packets.Properties{})
		c.write(packet(0x82, append(append([]byte{0, 3, 0}, field("devices/other/messages/devicebound/#")...), 1)))
		require.Equal(t, []byte{0x8F}, c.next5().ReasonCodes)
		c.write(packet(0xa2, append([]byte{0, 4, 0}, field("devices/d/messages/devicebound/#")...)))
		require.Equal(t, []byte{0x11}, c.next5().ReasonCodes)
	})
	t.Run("shutdown, after every answer", func(t *testing.T) {
		c, _ := s.connected5("d", packets.Properties{})
		c.write(publish5("devices/d/messages/events/", 1, "{}", packets.Properties{}))
		require.Equal(t, []byte{0x40, 2, 0, 1}, c.read(4))
		stopped := make(chan struct{})
		go func() { defer close(stopped); s.stop() }()
		c.farewell(0x8B)
		<-stopped
	})
}

// TestMQTT5DeadLog ends connections while messages wait for a log that does not
// answer: the farewell and the end of the socket do not wait with them.
func TestMQTT5DeadLog(t *testing.T) {
	t.Parallel()
	broker, stopBroker := enginetest.StoppableLog(t)
	s := newSite(t, broker, Config{Inflight: 4})
	s.put("d", true)
	c, _ := s.connected5("d", packets.Properties{})
	stopBroker()
	for id := range uint16(10) {
		c.write(publish5("devices/d/messages/events/", id+1, "{}", packets.Properties{}))
	}
	began := time.Now()
	newer, _ := s.connected5("d", packets.Properties{})
	c.farewellUnread(0x8E)
	require.Less(t, time.Since(began), 5*time.Second)
	s.stop()
	newer.farewell(0x8B)
}

// farewellUnread reads the DISCONNECT of a gateway that has not read everything
// the device sent: the socket then ends with a reset, which is an end too.
func (c *client) farewellUnread(code byte) {
	c.tb.Helper()
	require.Equal(c.tb, code, c.next5().ReasonCode)
	c.closed()
}

// TestReasonsFitAPacket keeps the table of endings complete for MQTT 5.
func TestReasonsFitAPacket(t *testing.T) {
	for _, e := range []*ending{
		endShutdown, endTakenOver, endSilent, endTokenExpired, endBlocked, endLogFailed, endMalformed, endTooLarge, endQoS2,
		endForeignTopic, endBadBag, endTopicAlias, endProperties, endPayloadFormat, endSubscriptionID, endAuthMethod, endSmallPackets,
		endProtocol, endClientID, endUserName, endPassword, endUnknownDevice, endSignature, endWill, endNotReady,
	} {
		require.GreaterOrEqual(t, connackCode(e), byte(0x80), e.reason)
		require.LessOrEqual(t, len(reasonText(e)), 200, e.reason)
	}
}

func TestOutboundCodec(t *testing.T) {
	props := []packets.UserProperty{{Key: "a", Val: "1"}, {Key: "b", Val: strings.Repeat("v", 200)}}
	old, v5 := &connection{version: mqtt311}, &connection{version: mqtt5}
	require.Equal(t, publishPacket("topic", 7, "payload"), old.encodePublish(nil, "topic", 1, 7, props, []byte("payload")))
	require.Equal(t, publishPacket("t", 0, "payload"), old.encodePublish(nil, "t", 0, 0, nil, []byte("payload")))
	require.Equal(t, publish5("t", 7, "payload", packets.Properties{User: props}), v5.encodePublish(nil, "t", 1, 7, props, []byte("payload")))
	require.Equal(t, publish5("t", 0, "payload", packets.Properties{}), v5.encodePublish(nil, "t", 0, 0, nil, []byte("payload")))
	whole := len(v5.encodePublish(nil, "t", 1, 7, props, []byte("payload")))
	v5.maxPacket = uint32(whole)
	require.Len(t, v5.encodePublish([]byte("x"), "t", 1, 7, props, []byte("payload")), whole+1)
	require.Equal(t, []byte("x"), v5.encodePublish([]byte("x"), "t", 1, 7, props, []byte("payload!")), "more than the device takes")

	require.Equal(t, []byte{0x90, 4, 0, 9, 1, 0x80}, old.encodeSuback(nil, 9, []byte{1, 0x8F}))
	require.Equal(t, []byte{0x90, 5, 0, 9, 0, 1, 0x8F}, v5.encodeSuback(nil, 9, []byte{1, 0x8F}))
	require.Equal(t, []byte{0xb0, 2, 0, 9}, old.encodeUnsuback(nil, 9, []byte{0}))
	require.Equal(t, []byte{0xb0, 4, 0, 9, 0, 0}, v5.encodeUnsuback(nil, 9, []byte{0}))
}

// TestHotPathOfMQTT5AllocatesNothing holds takeProperties to it for messages
// without properties, and with a topic alias alone.
func TestHotPathOfMQTT5AllocatesNothing(t *testing.T) {
	c := &connection{version: mqtt5, prefix: telemetryTopic("d")}
	for _, tc := range []struct{ topic, payload string }{
		{telemetryTopic("d"), "\x00{}"},
		{telemetryTopic("d"), "\x03\x23\x00\x05{}"},
		{"", "\x03\x23\x00\x05{}"},
	} {
		pk := packets.Packet{}
		payload := []byte(tc.payload)
		require.NoError(t, c.takeProperties(&packets.Packet{TopicName: telemetryTopic("d"), Payload: []byte("\x03\x23\x00\x05{}")}))
		require.Zero(t, testing.AllocsPerRun(100, func() {
			pk.TopicName, pk.Payload = tc.topic, payload
			if err := c.takeProperties(&pk); err != nil {
				t.Error(err)
			}
		}))
		require.Equal(t, "{}", string(pk.Payload))
		require.Equal(t, telemetryTopic("d"), pk.TopicName)
	}
}
