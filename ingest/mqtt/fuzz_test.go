package mqtt

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/mochi-mqtt/server/v2/packets"
)

// pipeConn feeds the reader from memory.
type pipeConn struct {
	net.Conn
	r io.Reader
}

func (p pipeConn) Read(b []byte) (int, error) { return p.r.Read(b) }

// oneByte hands out single bytes, the worst way a stream can be cut.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.r.Read(b[:1]) }

// FuzzPackets feeds foreign bytes to the packet reader and every decoder behind
// it. However the stream is cut, the same packets come out.
func FuzzPackets(f *testing.F) {
	f.Add(connectPacket("d", "h/d/?api-version=2021-04-12", "SharedAccessSignature sr=h&sig=x&se=1", 60))
	f.Add(append(publishPacket("devices/d/messages/events/a=b", 1, `{"a":1}`), 0xc0, 0))
	f.Add(packet(0x82, append([]byte{0, 3}, append(field("a/#"), 1)...)))
	f.Add(connect5("d", "h/d/?api-version=2021-04-12", "SharedAccessSignature sr=h&sig=x&se=1", 60, packets.Properties{ReceiveMaximum: 3}))
	f.Add(publish5("devices/d/messages/events/a=b", 1, `{"a":1}`, packets.Properties{ContentType: "a/b"}))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add(publishPacket("t", 1, strings.Repeat("x", 40<<10)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole := cut(t, bytes.NewReader(stream))
		single := cut(t, oneByte{bytes.NewReader(stream)})
		if len(whole) != len(single) {
			t.Fatalf("%d packets in one piece, %d byte by byte", len(whole), len(single))
		}
		for i := range whole {
			if !bytes.Equal(whole[i], single[i]) {
				t.Fatalf("packet %d differs with the way the stream is cut", i)
			}
		}
	})
}

// cut reads all packets of a stream, decoding each as the connection would.
func cut(t *testing.T, r io.Reader) [][]byte {
	reader := newPacketReader(pipeConn{r: r}, maxPacketBytes, func() error { return nil })
	defer reader.close()
	var all [][]byte
	for {
		first, body, err := reader.next()
		if err != nil {
			return all
		}
		if len(body) > maxPacketBytes {
			t.Fatalf("a packet of %d bytes passed", len(body))
		}
		all = append(all, append([]byte{first}, body...))
		var pk packets.Packet
		if pk.FixedHeader.Decode(first) != nil {
			continue
		}
		for _, version := range []byte{mqtt311, mqtt5} {
			c := &connection{version: version, prefix: telemetryTopic("d")}
			pk := packets.Packet{FixedHeader: pk.FixedHeader, ProtocolVersion: mqtt311}
			decode(t, c, &pk, body)
		}
	}
}

// decode puts one packet through what a connection of its version would.
func decode(t *testing.T, c *connection, pk *packets.Packet, body []byte) {
	switch pk.FixedHeader.Type {
	case packets.Connect:
		if pk.ConnectDecode(body) == nil && c.negotiate(pk) == nil {
			_, _ = parseUserName(string(pk.Connect.Username))
			if c.sessionExpiry > maxSessionExpiry && c.version == mqtt5 || c.maxPacket > 0 && c.maxPacket < minClientPacket || c.receiveMaximum == 0 {
				t.Fatalf("granted %+v", c)
			}
		}
	case packets.Publish:
		if pk.PublishDecode(body) != nil || c.version == mqtt5 && c.takeProperties(pk) != nil {
			return
		}
		if b, err := parseTopic(pk.TopicName, c.prefix); err == nil && c.version == mqtt5 {
			if room := 3*maxPropertyBytes + len(body) + 128; len(b.raw) > room {
				t.Fatalf("a bag of %d bytes from %d", len(b.raw), len(body))
			}
		}
	case packets.Subscribe:
		_, _ = c.decodeSubscribe(body)
	case packets.Unsubscribe:
		_, _ = c.decodeUnsubscribe(body)
	case packets.Disconnect:
		_ = c.disconnected(body)
	}
}

// FuzzProperties makes an MQTT 5 message of foreign properties. What the record's
// bag says of them is what was sent.
func FuzzProperties(f *testing.F) {
	f.Add("a=1", "room", "b 2", "application/json", []byte("c"), true, uint16(1))
	f.Add("?%24.ct=x", "$.ct", "+&=%", "a/b", []byte{0xff}, false, uint16(17))
	f.Fuzz(func(t *testing.T, bag, key, value, contentType string, correlation []byte, text bool, alias uint16) {
		prefix := telemetryTopic("d")
		p := packets.Properties{ContentType: contentType, CorrelationData: correlation, PayloadFormatFlag: text, PayloadFormat: 1,
			TopicAlias: alias, TopicAliasFlag: alias > 0, User: []packets.UserProperty{{Key: key, Val: value}}}
		frame := publish5(prefix+bag, 1, "{}", p)
		_, body, err := newPacketReader(pipeConn{r: bytes.NewReader(frame)}, maxPacketBytes, func() error { return nil }).next()
		if err != nil {
			return
		}
		c := &connection{version: mqtt5, prefix: prefix}
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: mqtt311}
		if pk.PublishDecode(body) != nil || c.takeProperties(&pk) != nil {
			return
		}
		if string(pk.Payload) != "{}" {
			t.Fatalf("payload became %q", pk.Payload)
		}
		if _, known := bagKeys(strings.TrimSuffix(bag, "/"))[key]; known || key == "" || strings.HasPrefix(key, "$.") {
			return
		}
		sent := "&" + encodeBagText(key) + "=" + encodeBagText(value)
		if raw := strings.TrimPrefix(pk.TopicName, prefix); !strings.HasSuffix("&"+strings.TrimPrefix(raw, "?"), sent) {
			t.Fatalf("bag %q has not %q", raw, sent)
		}
		if got, err := url.PathUnescape(encodeBagText(value)); err != nil || got != value {
			t.Fatalf("value %q came back as %q, %v", value, got, err)
		}
	})
}

func FuzzPropertyBag(f *testing.F) {
	f.Add("$.ct=application%2Fjson&$.ce=utf-8&$.sub=a&iothub-creation-time-utc=2026-01-02T03%3A04%3A05Z")
	f.Add("&&=&a&%zz=1")
	f.Fuzz(func(t *testing.T, raw string) {
		b, err := parseBag(raw)
		if err == nil && (len(b.component) > telemetry.MaxComponentBytes || !b.created.IsZero() && (b.created.Before(telemetry.Earliest) || b.created.After(telemetry.Latest))) {
			t.Fatalf("bag %q gave %+v", raw, b)
		}
	})
}

func FuzzOperation(f *testing.F) {
	f.Add("$iothub/twin/GET/?$rid=1")
	f.Add("$iothub/twin/PATCH/properties/reported/?$rid=a%20b&$version=1")
	f.Add("$iothub/methods/res/-1/?$rid=0198")
	f.Fuzz(func(t *testing.T, topic string) {
		op, err := parseOperation(topic)
		if err == nil && (op.kind == 0 || op.rid == "" || len(op.rid) > maxRequestID || strings.ContainsAny(op.rid, "&")) {
			t.Fatalf("topic %q gave %+v", topic, op)
		}
	})
}

func FuzzUserName(f *testing.F) {
	f.Add("h/d/?api-version=2021-04-12&model-id=dtmi%3Aa%3Bb")
	f.Add("h/d/?api-version=2021-04-12&model-id=dtmi:a;1")
	f.Add("h/d/m/api-version=2021-04-12")
	f.Add("h/d/$edgeHub/?api-version=")
	f.Fuzz(func(t *testing.T, name string) {
		u, err := parseUserName(name)
		if err == nil && (u.host == "" || strings.Contains(u.device, "/") || strings.Contains(u.module, "/") || device.ValidateID(u.device) != nil) {
			t.Fatalf("user name %q gave %+v", name, u)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("devices/d/modules/m/#")
	f.Add("$iothub/methods/POST/#")
	f.Fuzz(func(t *testing.T, filter string) {
		c := &connection{prefix: telemetryTopic("d")}
		if what, ok := c.subscriptionOf(filter); ok && (what == moduleInputs || what >= subscriptions || !strings.HasSuffix(filter, "/#")) {
			t.Fatalf("filter %q gave %d", filter, what)
		}
	})
}

func FuzzChildTopic(f *testing.F) {
	f.Add("devices/c/messages/events/a=b")
	f.Add("devices//messages/events")
	f.Fuzz(func(t *testing.T, topic string) {
		if child, prefix, ok := childTopic(topic); ok && (strings.Contains(child, "/") || !strings.HasPrefix(topic+"/", prefix)) {
			t.Fatalf("topic %q gave child %q, prefix %q", topic, child, prefix)
		}
	})
}

// FuzzMessageBag takes the bag that goes out to a device apart again, as a device
// would.
func FuzzMessageBag(f *testing.F) {
	f.Add("id", "k", "v", true)
	f.Add("a&b=c", "k=/#+", "ü %\x00", false)
	f.Fuzz(func(t *testing.T, id, key, value string, null bool) {
		if id == "" || key == "" || strings.HasPrefix(key, "$.") || !utf8.ValidString(id+key+value) {
			return
		}
		property := &eventsv1.MessageProperty{Key: key, Value: &value}
		if null {
			property.Value = nil
		}
		m := &eventsv1.CloudMessage{Id: "x", Message: &eventsv1.MessageEnqueued{MessageId: id, Properties: []*eventsv1.MessageProperty{property}}}
		bag := messageBag(m, "/devices/d")
		if strings.ContainsAny(bag, "/#+\x00") {
			t.Fatalf("bag %q does not fit a topic", bag)
		}
		pairs := strings.Split(bag, "&")
		last, given, hasValue := strings.Cut(pairs[len(pairs)-1], "=")
		gotKey, _ := url.PathUnescape(last)
		gotValue, _ := url.PathUnescape(given)
		gotID, _ := url.PathUnescape(strings.TrimPrefix(pairs[0], "%24.mid="))
		if gotKey != key || hasValue == null || !null && gotValue != value || gotID != id {
			t.Fatalf("bag %q of %q %q %q", bag, id, key, value)
		}
	})
}
