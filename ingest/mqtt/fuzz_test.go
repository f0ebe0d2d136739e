package mqtt

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

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
		pk.ProtocolVersion = mqtt311
		switch pk.FixedHeader.Type {
		case packets.Connect:
			if pk.ConnectDecode(body) == nil {
				_, _ = parseUserName(string(pk.Connect.Username))
			}
		case packets.Publish:
			if pk.PublishDecode(body) == nil {
				_, _ = parseTopic(pk.TopicName, "devices/d/messages/events/")
			}
		case packets.Subscribe:
			_ = pk.SubscribeDecode(body)
		}
	}
}

func FuzzPropertyBag(f *testing.F) {
	f.Add("$.ct=application%2Fjson&$.ce=utf-8&$.sub=a&iothub-creation-time-utc=2026-01-02T03%3A04%3A05Z")
	f.Add("&&=&a&%zz=1")
	f.Fuzz(func(t *testing.T, raw string) {
		b, err := parseBag(raw)
		if err == nil && (len(b.component) > maxComponentBytes || !b.created.IsZero() && (b.created.Before(earliest) || b.created.After(latest))) {
			t.Fatalf("bag %q gave %+v", raw, b)
		}
	})
}
