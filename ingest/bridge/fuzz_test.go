package bridge

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

func TestTemplates(t *testing.T) {
	for _, tc := range []struct {
		template, filter, topic string
		values                  []string // nil: no match
	}{
		{"site/{site}/{device}/telemetry", "site/+/+/telemetry", "site/7/pump/telemetry", []string{"7", "pump"}},
		{"site/{site}/{device}/telemetry", "site/+/+/telemetry", "site/7/pump/telemetry/more", nil},
		{"site/{site}/{device}/telemetry", "site/+/+/telemetry", "site/7/telemetry", nil},
		{"{device}", "+", "", []string{""}},
		{"{device}/", "+/", "d/", []string{"d"}},
		{"{device}/", "+/", "d", nil},
		{"{device}/#", "+/#", "d", []string{"d"}},
		{"{device}/#", "+/#", "d/a/b", []string{"d"}},
		{"#", "#", "a//b", []string{}},
		{"#", "#", "$SYS/broker", nil},
		{"{device}/x", "+/x", "$SYS/x", nil},
		{"$aws/{device}", "$aws/+", "$aws/d", []string{"d"}},
		{"+/{device}", "+/+", "a/b", []string{"b"}},
	} {
		parsed, err := parseTemplate(tc.template)
		require.NoError(t, err, tc.template)
		require.Equal(t, tc.filter, parsed.filter())
		values, ok := parsed.match(tc.topic, []string{})
		require.Equal(t, tc.values != nil, ok, "%s %s", tc.template, tc.topic)
		require.Equal(t, tc.values, values)
	}
	for template, problem := range map[string]string{
		"": "is empty", "a/{b": "whole levels", "a/x{b}": "whole levels", "{}": "letter first", "{a}/{a}": "twice",
		"#/a": "before its end", "a+": "whole levels", "$share/g/a": "set `group`", strings.Repeat("a/", 70): "too long", "\xff": "UTF-8",
	} {
		_, err := parseTemplate(template)
		require.ErrorContains(t, err, problem, template)
	}
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"a/{d}", "a/b", true}, {"a/{d}", "b/+", false}, {"a/#", "a", true}, {"a/#", "a/b/c", true}, {"a/b", "a/b/c", false}, {"#", "x", true},
	} {
		a, _ := parseTemplate(tc.a)
		b, _ := parseTemplate(tc.b)
		require.Equal(t, tc.want, a.overlaps(b), "%s %s", tc.a, tc.b)
		require.Equal(t, tc.want, b.overlaps(a), "%s %s", tc.b, tc.a)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("site/{site}/{device}/telemetry", "+/{device}/#", "site/7/pump/telemetry")
	f.Add("#", "{a}", "$SYS//")
	f.Fuzz(func(t *testing.T, one, two, topic string) {
		a, err := parseTemplate(one)
		if err != nil {
			return
		}
		values, fits := a.match(topic, nil)
		if fits && len(values) != len(a.captures) {
			t.Fatalf("%q has %d places, %q gave %d", one, len(a.captures), topic, len(values))
		}
		again, err := parseTemplate(a.filter())
		if err != nil {
			t.Fatalf("filter %q of template %q: %v", a.filter(), one, err)
		}
		if _, ok := again.match(topic, nil); ok != fits {
			t.Fatalf("template %q and its filter %q do not agree on %q", one, a.filter(), topic)
		}
		b, err := parseTemplate(two)
		if err != nil {
			return
		}
		if _, ok := b.match(topic, nil); ok && fits && !a.overlaps(b) {
			t.Fatalf("%q and %q both take %q", one, two, topic)
		}
	})
}

func FuzzMapping(f *testing.F) {
	f.Add("payload", []byte(`{"a":[1,2.5,"x"]}`), "d/1")
	f.Add(`{"v": map(payload.a, # * 2), "n": captures.device}`, []byte(`{"a":[9007199254740993]}`), "d/2")
	f.Add(`{"v": reduce(1..100000, #acc + string(#))}`, []byte(`1`), "d/3")
	f.Add(`{"v": sum(1..100, sum(1..100, sum(1..100, #)))}`, []byte(`[[[`), "d/4")
	f.Add(`{"v": repeat(payload.s, 1000000)}`, []byte(`{"s":"yyyyyyyyyyyyyyyyyyyy"}`), "d/5")
	parsed, _ := parseTemplate("d/{device}")
	f.Fuzz(func(t *testing.T, source string, payload []byte, topic string) {
		if len(payload) > maxPayloadBytes {
			return
		}
		e, err := compile("telemetry", source, parsed.captures)
		if err != nil {
			return
		}
		m := mapping{format: formatJSON, telemetry: e, component: e, id: e, time: e, properties: []property{{"p&=", e}}}
		values, ok := parsed.match(topic, nil)
		if !ok {
			return
		}
		began := time.Now()
		msg := &message{payload: payload, topic: topic, received: began}
		out, err := m.apply(msg, parsed.captures, values)
		if err == nil && !out.skip && (!json.Valid(out.payload) || len(out.payload) > maxPayloadBytes || !utf8.ValidString(out.id)) {
			t.Fatalf("%q made %.200q of %.200q", source, out.payload, payload)
		}
		m = mapping{format: formatJSON, telemetry: e}
		if out, err = m.apply(msg, parsed.captures, values); err == nil && !out.skip && (!json.Valid(out.payload) || len(out.payload) > maxPayloadBytes) {
			t.Fatalf("%q made %.200q of %.200q", source, out.payload, payload)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("%q took %s on %.200q", source, took, payload)
		}
	})
}

// stream is a connection whose other side has sent all it will.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func publishBytes(topic string, payload []byte) []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, 1, 7, payload
	var b bytes.Buffer
	_ = p.Write(&b)
	return b.Bytes()
}

func TestTooLargeAPacketIsCut(t *testing.T) {
	var in []byte
	for _, size := range []int{10, maxPayloadBytes, maxPayloadBytes + 100_000, 5_000_000, 20} {
		in = append(in, publishBytes("t", bytes.Repeat([]byte{'x'}, size))...)
	}
	conn := newBoundedConn(stream{Reader: bytes.NewReader(in)})
	var sizes []int
	for {
		p, err := packets.ReadPacket(conn)
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		sizes = append(sizes, len(p.(*packets.PublishPacket).Payload))
		require.Equal(t, uint16(7), p.Details().MessageID)
	}
	require.Len(t, sizes, 5)
	require.Equal(t, []int{10, maxPayloadBytes, 20}, []int{sizes[0], sizes[1], sizes[4]})
	for _, cut := range sizes[2:4] {
		require.Greater(t, cut, maxPayloadBytes)
		require.LessOrEqual(t, cut, maxPublishBytes)
	}
}

func FuzzBrokerBytes(f *testing.F) {
	f.Add(publishBytes("a/b", []byte("{}")))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1})
	f.Add([]byte{0x20, 2, 0, 0, 0xd0, 0, 0x90, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		conn := newBoundedConn(stream{Reader: bytes.NewReader(in)})
		out, _ := io.ReadAll(conn)
		if len(out) > len(in) && len(out)-len(in) > len(in)*5 { // a length may be written longer than it came, never more
			t.Fatalf("%d bytes became %d", len(in), len(out))
		}
		if len(in) < maxPublishBytes && bytes.HasPrefix(in, []byte{0x30}) && len(in) > 1 && in[1] < 0x80 && len(out) > 0 && !bytes.HasPrefix(in, out[:min(len(out), int(in[1])+2)]) {
			t.Fatalf("the first packet %x became %x", in, out)
		}
	})
}
