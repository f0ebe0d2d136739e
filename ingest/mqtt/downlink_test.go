package mqtt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// foldDevices runs the real fold over the log, as the device-state processor
// does, until the test ends.
func foldDevices(tb testing.TB, s *site) {
	tb.Helper()
	states := map[string]*eventsv1.DeviceState{}
	handle := func(_ context.Context, partition int32, batch []*kgo.Record) ([]*kgo.Record, error) {
		var out []*kgo.Record
		for _, r := range batch {
			var ev eventsv1.DeviceEvent
			if err := proto.Unmarshal(r.Value, &ev); err != nil {
				return nil, err
			}
			state, outcome := device.Apply(states[string(r.Key)], &ev)
			states[string(r.Key)] = state
			value, err := proto.Marshal(&eventsv1.DeviceSnapshot{State: state, Offset: r.Offset, Outcomes: []*eventsv1.Outcome{outcome}})
			if err != nil {
				return nil, err
			}
			snapshot := eventlog.CloudEvent(s.log.Name(eventlog.DeviceState), eventlog.NewID(), "/test", eventlog.TypeDeviceSnapshot,
				r.Timestamp, eventlog.ContentTypeProtobuf, r.Key, value)
			snapshot.Partition = partition
			out = append(out, snapshot)
		}
		return out, nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() {
		done <- s.log.Transact(ctx, "fold", eventlog.Stage{
			Name: "fold", Topic: eventlog.Devices, Handle: handle,
			Load: func(context.Context, int32) error { return nil },
		})
	}()
	tb.Cleanup(func() { cancel(); require.NoError(tb, <-done) })
}

// newPlatform is a gateway with a fold.
func newPlatform(tb testing.TB) *site {
	tb.Helper()
	s := newSite(tb, enginetest.EmbeddedLog(tb), Config{Node: "n1"})
	foldDevices(tb, s)
	return s
}

func intent(id string) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Id: eventlog.NewID(), Tenant: access.DefaultTenant, Device: id, Time: timestamppb.Now()}
}

func (s *site) change(ev *eventsv1.DeviceEvent) *eventsv1.DeviceState {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), 20*time.Second)
	defer cancel()
	state, err := s.devices.Change(ctx, ev)
	require.NoError(s.tb, err)
	return state
}

func (s *site) register(id string) {
	s.tb.Helper()
	ev := intent(id)
	ev.Change = &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{Enabled: true}}
	s.change(ev)
}

func (s *site) desire(id, patch string) {
	s.tb.Helper()
	ev := intent(id)
	ev.Change = &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Patch: []byte(patch)}}
	s.change(ev)
}

func (s *site) enqueue(id, body string, life time.Duration) string {
	s.tb.Helper()
	ev := intent(id)
	ev.Change = &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{Body: []byte(body), Expires: timestamppb.New(time.Now().Add(life))}}
	s.change(ev)
	return ev.GetId()
}

func (s *site) request(id, method, payload string, connectWithin, life time.Duration) *eventsv1.DeviceEvent {
	ev := intent(id)
	at := time.Now()
	ev.Change = &eventsv1.DeviceEvent_CommandRequested{CommandRequested: &eventsv1.CommandRequested{
		Method: method, Payload: []byte(payload), ConnectBy: timestamppb.New(at.Add(connectWithin)), Deadline: timestamppb.New(at.Add(life)),
	}}
	return ev
}

// self is the device's own identity as the gateway sees it.
func (s *site) self(id string) *eventsv1.Identity {
	return device.IdentityOf(s.devices.Get(access.DefaultTenant, id), "")
}

// online waits until the state names the client's connection.
func (s *site) online(id string) *client {
	s.tb.Helper()
	before := s.self(id).GetConnection().GetId()
	c := s.connected(id)
	require.Eventually(s.tb, func() bool {
		now := s.self(id).GetConnection()
		return now.GetConnected() && now.GetId() != before
	}, 10*time.Second, time.Millisecond)
	return c
}

// next reads one packet.
func (c *client) next() (first byte, body []byte) {
	c.tb.Helper()
	first = c.read(1)[0]
	length, shift := 0, 0
	for {
		b := c.read(1)[0]
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
		shift += 7
	}
	if length == 0 {
		return first, nil
	}
	return first, c.read(length)
}

type delivery struct {
	topic, payload string
	id             uint16
}

// delivered reads the next packet, which is a PUBLISH.
func (c *client) delivered() delivery {
	c.tb.Helper()
	first, body := c.next()
	require.Equal(c.tb, byte(3), first>>4, "a PUBLISH comes next, not %x", first)
	n := int(binary.BigEndian.Uint16(body))
	d := delivery{topic: string(body[2 : 2+n])}
	body = body[2+n:]
	if first&0x06 != 0 {
		d.id = binary.BigEndian.Uint16(body)
		body = body[2:]
	}
	d.payload = string(body)
	return d
}

func (c *client) subscribe(qos byte, filters ...string) []byte {
	c.tb.Helper()
	body := []byte{0, 99}
	for _, f := range filters {
		body = append(append(body, field(f)...), qos)
	}
	c.write(packet(0x82, body))
	first, answer := c.next()
	require.Equal(c.tb, byte(0x90), first)
	require.Equal(c.tb, []byte{0, 99}, answer[:2])
	return answer[2:]
}

func (c *client) acknowledge(id uint16) { c.write([]byte{0x40, 2, byte(id >> 8), byte(id)}) }

// quiet makes sure that nothing is on its way to the device.
func (c *client) quiet() {
	c.tb.Helper()
	c.write([]byte{0xc0, 0})
	require.Equal(c.tb, []byte{0xd0, 0}, c.read(2), "nothing but the answer to the ping")
}

const (
	filterResponses = "$iothub/twin/res/#"
	filterDesired   = "$iothub/twin/PATCH/properties/desired/#"
	filterMethods   = "$iothub/methods/POST/#"
)

func TestOnlyDocumentedFiltersAreGranted(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	c := s.online("d")
	require.Equal(t, []byte{1, 1, 1, 1}, c.subscribe(2, filterResponses, filterDesired, filterMethods, "devices/d/messages/devicebound/#"), "QoS 2 is granted as 1")
	require.Equal(t, []byte{0x80, 0x80, 0x80, 0, 0x80}, c.subscribe(0, "#", "devices/e/messages/devicebound/#", "devices/d/#", filterMethods, "devices/d/inputs/#"))
	c.write(packet(0xa2, append([]byte{0, 4}, field(filterDesired)...)))
	require.Equal(t, []byte{0xb0, 2, 0, 4}, c.read(4))
	s.desire("d", `{"a":1}`)
	c.quiet()
}

func TestTwinOverMQTT(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	s.desire("d", `{"interval":5,"name":"x"}`)
	c := s.online("d")
	c.subscribe(0, filterResponses)
	c.write(publishPacket("$iothub/twin/GET/?$rid=r1", 0, " "))
	require.Equal(t, delivery{topic: "$iothub/twin/res/200/?$rid=r1", payload: `{"desired":{"interval":5,"name":"x","$version":1},"reported":{"$version":0}}`}, c.delivered())

	c.write(publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=2", 0, `{"t":{"a":1,"b":2}}`))
	require.Equal(t, delivery{topic: "$iothub/twin/res/204/?$rid=2&$version=1"}, c.delivered())
	c.write(publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=3", 7, `{"t":{"a":null}}`))
	require.Equal(t, []byte{0x40, 2, 0, 7}, c.read(4))
	require.Equal(t, delivery{topic: "$iothub/twin/res/204/?$rid=3&$version=2"}, c.delivered())
	require.JSONEq(t, `{"t":{"b":2}}`, string(s.self("d").GetTwin().GetReported()))
	for _, bad := range []string{`{"t":`, `[1]`, `{"a b":1}`, `{"t":"` + strings.Repeat("x", 5000) + `"}`} {
		c.write(publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=4", 0, bad))
		answer := c.delivered()
		require.Equal(t, "$iothub/twin/res/400/?$rid=4", answer.topic)
		require.Contains(t, answer.payload, `"errorCode":400004`)
	}

	require.Equal(t, []byte{0}, c.subscribe(0, filterDesired))
	c.quiet() // it has read version 1
	s.desire("d", `{"interval":10,"name":null}`)
	require.Equal(t, delivery{topic: "$iothub/twin/PATCH/properties/desired/?$version=2", payload: `{"interval":10,"name":null,"$version":2}`}, c.delivered())
	s.desire("d", `{"deep":{"x":1}}`)
	require.Equal(t, `{"deep":{"x":1},"$version":3}`, c.delivered().payload, "only the change")

	// It leaves in order, and what it missed is given to it whole; then it is up to date.
	c.write([]byte{0xe0, 0})
	require.Eventually(t, func() bool { return !s.self("d").GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)
	require.Equal(t, uint64(3), s.self("d").GetConnection().GetDesiredDelivered())
	c = s.online("d")
	c.subscribe(0, filterDesired)
	c.quiet()
	c.write([]byte{0xe0, 0})
	require.Eventually(t, func() bool { return !s.self("d").GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)
	s.desire("d", `{"interval":11}`)
	c = s.online("d")
	c.subscribe(0, filterDesired)
	require.Equal(t, `{"deep":{"x":1},"interval":11,"$version":4}`, c.delivered().payload)
	c.quiet()
}

func TestTwinOperationsUnderWayAreBounded(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{}) // nobody decides
	s.put("d", true)
	c := s.connected("d")
	c.subscribe(0, filterResponses)
	for i := range maxBusy {
		c.write(publishPacket(fmt.Sprintf("$iothub/twin/PATCH/properties/reported/?$rid=%d", i), 0, `{}`))
	}
	c.write(publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=more", 0, `{}`))
	answer := c.delivered()
	require.Equal(t, "$iothub/twin/res/429/?$rid=more", answer.topic)
	require.Contains(t, answer.payload, `"errorCode":429001`)
}

func TestMalformedOperationsEndTheConnection(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{})
	s.put("d", true)
	for _, topic := range []string{"$iothub/twin/GET/", "$iothub/twin/POST/?$rid=1", "$iothub/methods/res/abc/?$rid=1", "$iothub/methods/res/99999999999/?$rid=1", "$iothub/", "", "devices/d/messages/devicebound/"} {
		before := s.ended("foreign_topic") + s.ended("malformed_packet")
		c := s.connected("d")
		c.write(publishPacket(topic, 0, ""))
		c.closed()
		require.Eventually(t, func() bool { return s.ended("foreign_topic")+s.ended("malformed_packet") == before+1 }, 5*time.Second, time.Millisecond, topic)
	}
}

// ask sends a command and gives its answer back.
func (s *site) ask(ev *eventsv1.DeviceEvent) <-chan string {
	answers := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), 20*time.Second)
		defer cancel()
		answer, err := s.devices.Command(ctx, ev)
		if err != nil {
			answers <- err.Error()
			return
		}
		answers <- fmt.Sprintf("%d %s", answer.GetStatus(), answer.GetPayload())
	}()
	return answers
}

func TestCommands(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	c := s.online("d")
	c.subscribe(0, filterMethods)

	answers := s.ask(s.request("d", "fan*start", `{"speed":3}`, 0, 20*time.Second))
	_, query, _ := strings.Cut(c.commanded("fan*start", `{"speed":3}`), "?")
	c.write(publishPacket("$iothub/methods/res/200/?"+query, 0, `{"ok":true}`))
	require.Equal(t, `200 {"ok":true}`, <-answers)

	answers = s.ask(s.request("d", "stop", "", 0, 20*time.Second))
	_, query, _ = strings.Cut(c.commanded("stop", "null"), "?")
	c.write(publishPacket("$iothub/methods/res/-7/?"+query, 3, ""))
	require.Equal(t, []byte{0x40, 2, 0, 3}, c.read(4))
	require.Equal(t, "-7 ", <-answers)

	// One that is not answered ends at its deadline; a late answer harms nobody.
	answers = s.ask(s.request("d", "slow", "", 0, 200*time.Millisecond))
	_, query, _ = strings.Cut(c.commanded("slow", "null"), "?")
	require.Contains(t, <-answers, "did not answer in time")
	c.write(publishPacket("$iothub/methods/res/200/?"+query, 0, ""))
	c.quiet()

	// The largest one arrives whole.
	payload := `"` + strings.Repeat("x", device.MaxCommandPayload-2) + `"`
	answers = s.ask(s.request("d", "large", payload, 0, 20*time.Second))
	_, query, _ = strings.Cut(c.commanded("large", payload), "?")
	c.write(publishPacket("$iothub/methods/res/200/?"+query, 0, payload))
	require.Len(t, <-answers, 4+len(payload))
}

// commanded reads a command and returns its topic.
func (c *client) commanded(method, payload string) string {
	c.tb.Helper()
	d := c.delivered()
	require.True(c.tb, strings.HasPrefix(d.topic, "$iothub/methods/POST/"+method+"/?$rid="), d.topic)
	require.Equal(c.tb, payload, d.payload)
	return d.topic
}

func TestPendingCommandsWaitForTheDevice(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	s.change(s.request("d", "too-late", "", 0, time.Minute)) // whoever is not connected by now does not get it
	patient := s.ask(s.request("d", "patient", "", 20*time.Second, 20*time.Second))
	require.Eventually(t, func() bool { return len(s.self("d").GetCommands()) == 2 }, 10*time.Second, time.Millisecond)
	c := s.online("d")
	c.subscribe(0, filterMethods)
	_, query, _ := strings.Cut(c.commanded("patient", "null"), "?")
	c.quiet()
	c.subscribe(0, filterMethods)
	c.quiet() // delivered once over this connection

	// The connection breaks before the answer: the next one gets it again, and an
	// answer is an answer.
	_ = c.conn.Close()
	c = s.online("d")
	c.subscribe(0, filterMethods)
	_, again, _ := strings.Cut(c.commanded("patient", "null"), "?")
	require.Equal(t, query, again)
	c.write(publishPacket("$iothub/methods/res/200/?"+query, 0, "1"))
	require.Equal(t, "200 1", <-patient)
}

func TestMessagesToTheDevice(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	s.enqueue("d", "stale", -time.Second)
	value := "a b&c"
	empty := ""
	ev := intent("d")
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	ev.Change = &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{
		Body: []byte("first"), MessageId: "m 1", CorrelationId: "c", UserId: "u", ContentType: "text/plain", ContentEncoding: "utf-8", Ack: "full",
		Expires:    timestamppb.New(expires),
		Properties: []*eventsv1.MessageProperty{{Key: "k/1", Value: &value}, {Key: "empty", Value: &empty}, {Key: "null"}},
	}}
	s.change(ev)
	for i := range maxUnacked + 4 {
		s.enqueue("d", fmt.Sprint(i), time.Hour)
	}
	c := s.online("d")
	c.subscribe(1, "devices/d/messages/devicebound/#")
	first := c.delivered()
	require.Equal(t, "first", first.payload)
	require.Equal(t, "devices/d/messages/devicebound/%24.mid=m%201&%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&%24.cid=c&%24.uid=u&%24.ct=text%2Fplain&%24.ce=utf-8&%24.exp="+
		strings.ReplaceAll(expires.Format(time.RFC3339), ":", "%3A")+"&iothub-ack=full&k%2F1=a%20b%26c&empty=&null", first.topic)
	window := []delivery{first}
	for i := range maxUnacked - 1 {
		d := c.delivered()
		require.Equal(t, fmt.Sprint(i), d.payload, "in their order")
		window = append(window, d)
	}
	c.quiet() // the window is full
	for _, d := range window[:3] {
		c.acknowledge(d.id)
	}
	for i := range 3 {
		require.Equal(t, fmt.Sprint(maxUnacked-1+i), c.delivered().payload)
	}
	c.acknowledge(9999) // one that nobody sent
	require.Eventually(t, func() bool { return len(s.self("d").GetMessages()) == maxUnacked+5-3 }, 10*time.Second, time.Millisecond)

	// What is not acknowledged comes again, over the next connection, in order.
	_ = c.conn.Close()
	require.Eventually(t, func() bool { return !s.self("d").GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)
	require.Equal(t, uint32(1), s.self("d").GetMessages()[0].GetDeliveryCount())
	c = s.online("d")
	c.subscribe(0, "devices/d/messages/devicebound/#")
	for i := range maxUnacked + 2 { // QoS 0 knows no window
		d := c.delivered()
		require.Zero(t, d.id)
		require.Equal(t, fmt.Sprint(2+i), d.payload)
	}
	require.Eventually(t, func() bool { return len(s.self("d").GetMessages()) == 0 }, 10*time.Second, time.Millisecond)
	c.quiet()
}

func TestMessagesPaceWithTheDevice(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	for range 4 {
		s.enqueue("d", strings.Repeat("x", 60<<10), time.Hour)
	}
	c := s.online("d")
	c.subscribe(1, "devices/d/messages/devicebound/#")
	for range 4 {
		require.Len(t, c.delivered().payload, 60<<10)
	}
}

func TestMessageTooLargeForATopicIsGivenUp(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	value := strings.Repeat("&", 30<<10)
	ev := intent("d")
	ev.Change = &eventsv1.DeviceEvent_MessageEnqueued{MessageEnqueued: &eventsv1.MessageEnqueued{
		Expires: timestamppb.New(time.Now().Add(time.Hour)), Properties: []*eventsv1.MessageProperty{{Key: "k", Value: &value}},
	}}
	s.change(ev)
	s.enqueue("d", "next", time.Hour)
	c := s.online("d")
	c.subscribe(1, "devices/d/messages/devicebound/#")
	require.Equal(t, "next", c.delivered().payload)
	require.Eventually(t, func() bool { return len(s.self("d").GetMessages()) == 1 }, 10*time.Second, time.Millisecond)
}

// connectWith is a device that has been let in with other flags, and whether it
// found its session.
func (s *site) connectWith(id string, flags byte) (*client, bool) {
	s.tb.Helper()
	c := s.dial()
	p := connectPacket(id, host+"/"+id+"/?api-version=2021-04-12", s.token(id), 60)
	p[bytes.Index(p, []byte{4, 0xc2})+1] = flags
	c.write(p)
	connack := c.read(4)
	require.Equal(s.tb, []byte{0x20, 2}, connack[:2])
	require.Zero(s.tb, connack[3])
	return c, connack[2] == 1
}

func TestSessionKeepsSubscriptions(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	const clean, keep = 0xc2, 0xc0
	c, present := s.connectWith("d", keep)
	require.False(t, present)
	c.subscribe(1, "devices/d/messages/devicebound/#", filterMethods, filterDesired)
	require.Len(t, s.self("d").GetConnection().GetSubscriptions(), 3, "a SUBACK means that the session has it, whatever happens to the node")
	c.write(packet(0xa2, append([]byte{0, 4}, field(filterDesired)...)))
	require.Equal(t, []byte{0xb0, 2, 0, 4}, c.read(4))
	require.Len(t, s.self("d").GetConnection().GetSubscriptions(), 2)
	revision := s.devices.Get(access.DefaultTenant, "d").GetRevision()
	c.subscribe(1, filterMethods)
	require.Equal(t, revision, s.devices.Get(access.DefaultTenant, "d").GetRevision(), "what is known already is no event")
	_ = c.conn.Close()
	require.Eventually(t, func() bool { return !s.self("d").GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)
	s.enqueue("d", "kept", time.Hour)
	s.desire("d", `{"a":1}`)

	c, present = s.connectWith("d", keep)
	require.True(t, present)
	d := c.delivered()
	require.Equal(t, "kept", d.payload)
	c.acknowledge(d.id)
	answer := s.ask(s.request("d", "m", "", time.Second, 20*time.Second))
	topic := c.commanded("m", "null")
	c.write(publishPacket("$iothub/methods/res/200/"+topic[len("$iothub/methods/POST/m/"):], 0, ""))
	require.Equal(t, "200 ", <-answer)
	c.write([]byte{0xe0, 0})
	require.Eventually(t, func() bool { return !s.self("d").GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)

	c, present = s.connectWith("d", clean)
	require.False(t, present)
	require.Eventually(t, func() bool { return s.self("d").GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)
	s.enqueue("d", "unheard", time.Hour)
	c.quiet()
	require.Empty(t, s.self("d").GetConnection().GetSubscriptions())
	c.write([]byte{0xe0, 0})
	require.Eventually(t, func() bool { return !s.self("d").GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)
	_, present = s.connectWith("d", keep)
	require.False(t, present, "a clean session keeps nothing")
}

func TestModulesAreIdentitiesOfTheirOwn(t *testing.T) {
	s := newPlatform(t)
	s.register("d")
	connect := func(key []byte) *client {
		c := s.dial()
		token := sas.Sign(host+"/devices/d/modules/m", key, time.Now().Add(time.Hour), "")
		c.write(connectPacket("d/m", host+"/d/m/?api-version=2021-04-12&model-id=dtmi%3Acom%3AM%3B1", token, 60))
		return c
	}
	key := s.keys.DeviceKeys(access.DefaultTenant, "d/m").Primary
	require.Equal(t, []byte{0x20, 2, 0, 5}, connect(key).read(4), "a module that was not created")
	ev := intent("d")
	ev.Module, ev.Change = "m", &eventsv1.DeviceEvent_ModuleRegistered{ModuleRegistered: &eventsv1.ModuleRegistered{}}
	s.change(ev)
	require.Equal(t, []byte{0x20, 2, 0, 5}, connect(s.keys.DeviceKeys(access.DefaultTenant, "d").Primary).read(4), "the device's key is not the module's")
	own := s.online("d")
	c := connect(key)
	require.Equal(t, []byte{0x20, 2, 0, 0}, c.read(4))
	require.Equal(t, []byte{0, 0, 0, 0x80}, c.subscribe(0, filterDesired, "devices/d/modules/m/#", "devices/d/modules/m/inputs/#", "devices/d/messages/devicebound/#"))
	module := func() *eventsv1.Identity {
		return device.IdentityOf(s.devices.Get(access.DefaultTenant, "d"), "m")
	}
	require.Eventually(t, func() bool { return module().GetConnection().GetConnected() }, 10*time.Second, time.Millisecond)
	require.Equal(t, "dtmi:com:M;1", module().GetTwin().GetModelId())

	c.write(publishPacket("devices/d/modules/m/messages/events/a=b", 5, "{}"))
	require.Equal(t, []byte{0x40, 2, 0, 5}, c.read(4))
	record := s.telemetry(1)[0]
	require.Equal(t, "default/d", string(record.Key))
	require.Equal(t, "/devices/d/modules/m", headers(record)["ce_source"])

	ev = intent("d")
	ev.Module, ev.Change = "m", &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Patch: []byte(`{"a":1}`)}}
	s.change(ev)
	require.Equal(t, `{"a":1,"$version":1}`, c.delivered().payload)
	own.quiet()
	ev = intent("d")
	ev.Module, ev.Change = "m", &eventsv1.DeviceEvent_ModuleDeleted{ModuleDeleted: &eventsv1.ModuleDeleted{}}
	s.change(ev)
	c.closed()
	own.quiet()
}
