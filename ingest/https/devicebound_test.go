package https

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (s *site) receive(id string) answer {
	return s.call(id, http.MethodGet, "/devices/"+id+"/messages/devicebound?api-version=2021-04-12", "")
}

func (s *site) settle(id, method, lock, suffix string) answer {
	return s.call(id, method, "/devices/"+id+"/messages/devicebound/"+lock+suffix, "")
}

func lockOf(a answer) string { return strings.Trim(a.header.Get("ETag"), `"`) }

// waiting is how many messages wait for the device.
func (s *site) waiting(id string) int {
	return len(s.devices.Get(access.DefaultTenant, id).GetSelf().GetMessages())
}

func TestMessagesToADevice(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	require.Equal(t, http.StatusNoContent, s.receive("d").status)
	s.enqueue("d", "", &eventsv1.MessageEnqueued{Body: []byte("over"), Expires: timestamppb.New(time.Now().Add(-time.Second))})
	s.enqueue("d", "", &eventsv1.MessageEnqueued{
		Body: []byte("first"), MessageId: "m1", CorrelationId: "c1", ContentType: "text/plain", Ack: "full",
		Properties: []*eventsv1.MessageProperty{{Key: "fanSpeed", Value: proto.String("3")}, {Key: "bad name\r\n", Value: proto.String("x\r\nSet-Cookie: a")}},
	})
	s.enqueue("d", "", &eventsv1.MessageEnqueued{Body: []byte("second")})

	first := s.receive("d")
	require.Equal(t, http.StatusOK, first.status, first.body)
	require.Equal(t, "first", first.body)
	for name, value := range map[string]string{
		"iothub-messageid": "m1", "iothub-correlationid": "c1", "iothub-contenttype": "text/plain", "iothub-ack": "full",
		"iothub-deliverycount": "0", "iothub-to": "/devices/d/messages/deviceBound", "iothub-app-fanspeed": "3", "Set-Cookie": "",
	} {
		require.Equal(t, value, first.header.Get(name), name)
	}
	at, err := time.Parse(timeHeader, first.header.Get("iothub-enqueuedtime"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)

	second := s.receive("d")
	require.Equal(t, "second", second.body, "a message under way is nobody else's")
	require.Equal(t, http.StatusNoContent, s.receive("d").status)
	require.Equal(t, http.StatusNoContent, s.settle("d", http.MethodPost, lockOf(first), "/abandon?api-version=2021-04-12").status)
	again := s.receive("d")
	require.Equal(t, "first", again.body)
	require.Equal(t, "1", again.header.Get("iothub-deliverycount"))
	require.Equal(t, "DeviceMessageLockLost", s.settle("d", http.MethodDelete, lockOf(first), "").failure(t), "the old lock is over")
	require.Equal(t, http.StatusNoContent, s.settle("d", http.MethodDelete, lockOf(again), "?api-version=2021-04-12").status)
	require.Equal(t, http.StatusNoContent, s.settle("d", http.MethodDelete, lockOf(second), "?api-version=2021-04-12&reject").status)
	require.Zero(t, s.waiting("d"))
	require.Equal(t, http.StatusPreconditionFailed, s.settle("d", http.MethodDelete, lockOf(second), "").status)
}

// TestOneReaderHasAMessage has many ask at once.
func TestOneReaderHasAMessage(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	const n = 6
	for range n {
		s.enqueue("d", "", &eventsv1.MessageEnqueued{Body: []byte("x")})
	}
	locks := make(chan string, n)
	for range n {
		go func() { locks <- lockOf(s.receive("d")) }()
	}
	seen := map[string]bool{}
	for range n {
		seen[<-locks] = true
	}
	require.Len(t, seen, n)
	require.NotContains(t, seen, "")
}

func TestAModuleHasItsOwnQueue(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	s.change("d", "camera", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_ModuleRegistered{ModuleRegistered: &eventsv1.ModuleRegistered{}}})
	s.enqueue("d", "camera", &eventsv1.MessageEnqueued{Body: []byte("for the camera")})
	require.Equal(t, http.StatusNoContent, s.receive("d").status)
	require.Equal(t, http.StatusUnauthorized, s.call("d", http.MethodGet, "/devices/d/modules/camera/messages/devicebound", "").status, "the device is not its module")
	own := s.moduleToken("d", "camera")
	a := s.call("", http.MethodGet, "/devices/d/modules/camera/messages/devicebound", "", "Authorization", own)
	require.Equal(t, "for the camera", a.body)
	require.Equal(t, http.StatusNoContent, s.call("", http.MethodDelete, "/devices/d/modules/camera/messages/devicebound/"+lockOf(a), "", "Authorization", own).status)
}
