package mqtt

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// twoNodes are two gateways on one log, with one fold.
func twoNodes(t *testing.T, broker enginetest.Log) (a, b *site) {
	keys := t.TempDir() + "/master.key"
	a = newSiteWithKeys(t, broker, Config{Node: "a"}, keys)
	b = newSiteWithKeys(t, broker, Config{Node: "b"}, keys)
	foldDevices(t, a)
	return a, b
}

// knows waits until the site has seen the state.
func (s *site) knows(id string, check func(*eventsv1.Identity) bool) {
	s.tb.Helper()
	require.Eventually(s.tb, func() bool {
		return s.devices.Get(access.DefaultTenant, id) != nil && check(s.self(id))
	}, 10*time.Second, time.Millisecond)
}

// TestDeviceMovesBetweenNodes moves a device from one gateway to the other and
// back while it sends, and while properties, commands and messages come for it:
// everything is delivered, to the connection that lives, and no telemetry is lost.
func TestDeviceMovesBetweenNodes(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		a, b := twoNodes(t, broker)
		a.register("d")
		b.knows("d", func(*eventsv1.Identity) bool { return true })
		filters := []string{filterDesired, filterMethods, "devices/d/messages/devicebound/#"}
		current := a.online("d")
		require.Equal(t, []byte{1, 1, 1}, current.subscribe(1, filters...))
		const moves, each = 6, 50
		published := 0
		unacked := map[uint16]bool{} // what the device would send again
		for move := range moves {
			from, to := a, b
			if move%2 == 1 {
				from, to = b, a
			}
			for range each {
				published++
				unacked[uint16(published)] = true
				current.write(publishPacket("devices/d/messages/events/", uint16(published), fmt.Sprint(published)))
			}
			// The device comes to the other node; the one it leaves hears of it on the log.
			before := from.self("d").GetConnection().GetId()
			to.knows("d", func(i *eventsv1.Identity) bool { return i.GetConnection().GetId() == before })
			next := to.online("d")
			next.subscribe(1, filters...)
			current.pubacks(unacked)
			current = next
			for id := range unacked {
				current.write(publishPacket("devices/d/messages/events/", id, fmt.Sprint(id)))
			}
			current.rest(unacked)
			require.Empty(t, unacked)

			version := from.self("d").GetTwin().GetDesiredVersion()
			from.desire("d", fmt.Sprintf(`{"move":%d}`, move))
			desired := current.delivered().payload
			// It took a connection's place, so it may be told first what that was told last.
			if version > 1 && desired == fmt.Sprintf(`{"move":%d,"$version":%d}`, move-1, version) {
				desired = current.delivered().payload
			}
			require.Equal(t, fmt.Sprintf(`{"move":%d,"$version":%d}`, move, version+1), desired)
			answer := from.ask(from.request("d", "moved", fmt.Sprint(move), 0, 20*time.Second))
			topic := current.commanded("moved", fmt.Sprint(move))
			current.write(publishPacket("$iothub/methods/res/200/"+topic[len("$iothub/methods/POST/moved/"):], 0, ""))
			require.Equal(t, "200 ", <-answer)
			from.enqueue("d", fmt.Sprint(move), time.Hour)
			message := current.delivered()
			require.Equal(t, fmt.Sprint(move), message.payload, "each message comes once, over one connection")
			current.acknowledge(message.id)
			to.knows("d", func(i *eventsv1.Identity) bool { return len(i.GetMessages()) == 0 })
			current.quiet()
		}
		require.Subset(t, a.payloads(published), numbers(published))
		require.Zero(t, a.ended("log_failed")+b.ended("log_failed"))
		require.InDelta(t, moves/2, a.ended("taken_over"), 0)
		require.InDelta(t, moves/2, b.ended("taken_over"), 0)
	})
}

// pubacks reads PUBACKs, and nothing else, until the gateway closes the connection.
func (c *client) pubacks(unacked map[uint16]bool) {
	c.tb.Helper()
	require.NoError(c.tb, c.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	all, err := io.ReadAll(c.conn)
	if err != nil {
		require.ErrorIs(c.tb, err, syscall.ECONNRESET)
	}
	for ; len(all) >= 4; all = all[4:] {
		require.Equal(c.tb, []byte{0x40, 2}, all[:2], "a connection that is over gets no delivery")
		delete(unacked, binary.BigEndian.Uint16(all[2:]))
	}
}

// rest reads what waits for the device: PUBACKs, and the desired properties that
// a new connection may get whole.
func (c *client) rest(unacked map[uint16]bool) {
	c.tb.Helper()
	c.write([]byte{0xc0, 0})
	for pong := false; !pong || len(unacked) > 0; {
		switch first, body := c.next(); first >> 4 {
		case packets.Puback:
			delete(unacked, binary.BigEndian.Uint16(body))
		case packets.Pingresp:
			pong = true
		default:
			require.Contains(c.tb, string(body), "/desired/")
		}
	}
}

// payloads reads telemetry until n different payloads have come.
func (s *site) payloads(n int) []string {
	seen := map[string]bool{}
	for want := n; len(seen) < n; want += n - len(seen) {
		clear(seen)
		for _, r := range s.telemetry(want) {
			seen[string(r.Value)] = true
		}
	}
	return slices.Collect(maps.Keys(seen))
}

func numbers(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i+1))
	}
	return all
}

// TestSurvivorsOfAKilledNode is about a node that was killed while it had a
// device, whose commands and messages wait: they are on the log, another node
// delivers them, and the killed one disowns on its return what it has lost.
func TestSurvivorsOfAKilledNode(t *testing.T) {
	broker := enginetest.EmbeddedLog(t)
	keys := t.TempDir() + "/master.key"
	b := newSiteWithKeys(t, broker, Config{Node: "b"}, keys)
	foldDevices(t, b)
	// All that a killed node leaves behind is on the log.
	for _, id := range []string{"moves", "stays"} {
		b.register(id)
		ev := intent(id)
		ev.Change = &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: "lost-" + id, Node: "a"}}
		b.change(ev)
	}
	ev := intent("elsewhere")
	b.register("elsewhere")
	ev.Change = &eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: "other", Node: "c"}}
	b.change(ev)
	answer := b.ask(b.request("moves", "pending", "1", 20*time.Second, 20*time.Second))
	b.enqueue("moves", "pending", time.Hour)
	b.desire("moves", `{"pending":true}`)

	c := b.online("moves")
	c.subscribe(1, filterMethods)
	topic := c.commanded("pending", "1")
	c.write(publishPacket("$iothub/methods/res/200/"+topic[len("$iothub/methods/POST/pending/"):], 0, "2"))
	require.Equal(t, "200 2", <-answer)
	c.subscribe(1, "devices/moves/messages/devicebound/#")
	require.Equal(t, "pending", c.delivered().payload)
	c.subscribe(1, filterDesired)
	require.Equal(t, `{"pending":true,"$version":1}`, c.delivered().payload)

	newSiteWithKeys(t, broker, Config{Node: "a"}, keys)
	b.knows("stays", func(i *eventsv1.Identity) bool { return !i.GetConnection().GetConnected() })
	require.True(t, b.self("elsewhere").GetConnection().GetConnected())
	require.True(t, b.self("moves").GetConnection().GetConnected(), "its new connection is another node's")
	c.quiet()
}

// TestOrderlyStopEndsConnectionsOnTheLog stops a node and reads what it left.
func TestOrderlyStopEndsConnectionsOnTheLog(t *testing.T) {
	a, b := twoNodes(t, enginetest.EmbeddedLog(t))
	for i := range 20 {
		id := fmt.Sprint("d-", i)
		a.register(id)
		a.online(id)
	}
	a.stop()
	for i := range 20 {
		b.knows(fmt.Sprint("d-", i), func(i *eventsv1.Identity) bool {
			return i.GetConnection().GetId() != "" && !i.GetConnection().GetConnected()
		})
	}
}

// TestMessagesKeepTheirOrderOverMoves queues messages while the device hops from
// node to node without acknowledging all: the device sees each, and never a newer
// one settled before an older.
func TestMessagesKeepTheirOrderOverMoves(t *testing.T) {
	a, b := twoNodes(t, enginetest.EmbeddedLog(t))
	a.register("d")
	b.knows("d", func(*eventsv1.Identity) bool { return true })
	for i := range 30 {
		a.enqueue("d", fmt.Sprint(i), time.Hour)
	}
	next := 0
	for move := 0; next < 30; move++ {
		s := []*site{a, b}[move%2]
		s.knows("d", func(i *eventsv1.Identity) bool { return len(i.GetMessages()) == 30-next })
		c := s.online("d")
		c.subscribe(1, "devices/d/messages/devicebound/#")
		for range min(5, 30-next) {
			d := c.delivered()
			require.Equal(t, fmt.Sprint(next), d.payload)
			c.acknowledge(d.id)
			next++
		}
		s.knows("d", func(i *eventsv1.Identity) bool { return len(i.GetMessages()) == 30-next })
		_ = c.conn.Close()
		for _, s := range []*site{a, b} {
			s.knows("d", func(i *eventsv1.Identity) bool { return !i.GetConnection().GetConnected() })
		}
	}
}

func TestWill(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	connect := func(topic string, flags byte) *client {
		body := append(field("MQTT"), 4, flags, 0, 60)
		for _, f := range []string{"d", topic, `{"gone":true}`, host + "/d/?api-version=2021-04-12", s.token("d")} {
			body = append(body, field(f)...)
		}
		c := s.dial()
		c.write(packet(0x10, body))
		return c
	}
	const flags = 0xc6 // user name, password, will with QoS 0, clean session
	for _, tc := range []struct {
		topic string
		flags byte
	}{{"devices/other/messages/events/", flags}, {"devices/d/messages/events/", flags | 0x10}, {"devices/d/messages/events/a=%zz", flags}} {
		c := connect(tc.topic, tc.flags)
		require.Equal(t, []byte{0x20, 2, 0, 5}, c.read(4))
		c.closed()
	}
	c := connect("devices/d/messages/events/a=b", flags)
	require.Equal(t, []byte{0x20, 2, 0, 0}, c.read(4))
	c.write([]byte{0xe0, 0}) // a goodbye revokes it
	c.closed()
	c = connect("devices/d/messages/events/a=b", flags|0x28)
	require.Equal(t, []byte{0x20, 2, 0, 0}, c.read(4))
	_ = c.conn.Close()
	record := s.telemetry(1)[0]
	require.Equal(t, `{"gone":true}`, string(record.Value))
	require.Equal(t, "a=b&iothub-MessageType=Will&mqtt-retain=true", headers(record)["ce_properties"])
}

func (s *site) adopt(child, parent string) {
	s.tb.Helper()
	ev := intent(child)
	ev.Change = &eventsv1.DeviceEvent_ParentAssigned{ParentAssigned: &eventsv1.ParentAssigned{Parent: parent}}
	s.change(ev)
}

func TestGatewayPublishesForItsChildren(t *testing.T) {
	s := newPlatform(t)
	for _, id := range []string{"g", "child-1", "child-2", "stranger"} {
		s.register(id)
	}
	s.adopt("child-1", "g")
	s.adopt("child-2", "g")
	g := s.online("g")
	topics := []string{"devices/child-1/messages/events/$.sub=probe&a=b", "devices/child-2/messages/events", "devices/g/messages/events/"}
	for n := range 9 {
		g.write(publishPacket(topics[n%3], uint16(n+1), fmt.Sprint(n)))
	}
	acked := map[uint16]bool{}
	for range 9 {
		_, body := g.next()
		acked[binary.BigEndian.Uint16(body)] = true
	}
	require.Len(t, acked, 9)
	count := map[string]int{}
	for _, r := range s.telemetry(9) {
		h := headers(r)
		count[string(r.Key)+" "+h["ce_source"]+" "+h["ce_gateway"]+" "+h["ce_subject"]]++
	}
	require.Equal(t, map[string]int{
		"default/child-1 /devices/child-1 g probe": 3, "default/child-2 /devices/child-2 g ": 3, "default/g /devices/g  ": 3,
	}, count)

	// A right that ends is over with the next message, even on the same topic.
	g.write(publishPacket(topics[0], 1, "last"))
	require.Equal(t, []byte{0x40, 2, 0, 1}, g.read(4))
	s.adopt("child-1", "")
	g.write(publishPacket(topics[0], 1, "too late"))
	g.closed()
	g = s.online("g")
	g.write(publishPacket("devices/stranger/messages/events/", 1, "{}"))
	g.closed()
	require.Eventually(t, func() bool { return s.ended("foreign_topic") == 2 }, 5*time.Second, time.Millisecond)
	child := s.online("child-2")
	child.write(publishPacket("devices/g/messages/events/", 1, "{}"))
	child.closed()
	require.Len(t, s.telemetry(10), 10)
}

func TestBatchIsManyEvents(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{Inflight: 4}) // fewer than the batch has
	s.put("d", true)
	c := s.connected("d")
	const topic = "devices/d/messages/events/$.ct=application%2Fvnd.fleetlog.batch%2Bjson&a=b"
	c.write(publishPacket(topic, 3, `[{"ts":"2026-01-02T03:04:05Z","body":{"n":0}},{"iothub-creation-time-utc":"2026-01-02T03:04:06.5Z","body":1},
		{"body":null},{"body":"x"},{"body":[ 4 ]},{"body":{}}]`))
	require.Equal(t, []byte{0x40, 2, 0, 3}, c.read(4))
	c.quiet() // one PUBACK
	want := []string{`{"n":0}`, "1", "null", `"x"`, "[ 4 ]", "{}"}
	ids := map[string]bool{}
	for i, r := range s.telemetry(len(want)) {
		h := headers(r)
		require.Equal(t, want[i], string(r.Value))
		require.Equal(t, eventlog.ContentTypeJSON, h["content-type"])
		require.Contains(t, h["ce_properties"], "a=b")
		ids[h["ce_id"]] = true
		switch i {
		case 0:
			require.Equal(t, "2026-01-02T03:04:05.000Z", h["ce_time"])
		case 1:
			require.Equal(t, "2026-01-02T03:04:06.500Z", h["ce_time"])
		}
	}
	require.Len(t, ids, len(want))
	for _, bad := range []string{``, `{}`, `[]`, `[1]`, `[{"ts":"2026-01-02T03:04:05Z"}]`, `[{"ts":"yesterday","body":1}]`, `[{"body":1}`, `[{"body":1}] 2`} {
		before := s.ended("bad_batch")
		c := s.connected("d")
		c.write(publishPacket(topic, 1, bad))
		c.closed()
		require.Eventually(t, func() bool { return s.ended("bad_batch") == before+1 }, 5*time.Second, time.Millisecond, bad)
	}
	require.Len(t, s.telemetry(len(want)), len(want), "nothing of a malformed batch is kept")
}
