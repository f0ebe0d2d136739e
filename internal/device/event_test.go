package device

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// FuzzDecodeEvent has the fast decoder read what the codec reads, and refuse what it
// refuses.
func FuzzDecodeEvent(f *testing.F) {
	good, err := proto.Marshal(&eventsv1.DeviceEvent{
		Id: "e", Tenant: "default", Device: "d", Actor: &eventsv1.Actor{Principal: "device:d"},
		Change: &eventsv1.DeviceEvent_SubscriptionsKept{SubscriptionsKept: &eventsv1.SubscriptionsKept{
			Connection: "c", Subscriptions: []*eventsv1.Subscription{{Filter: "ä", Qos: 1}},
		}},
	})
	require.NoError(f, err)
	cloud, err := proto.Marshal(&eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Cloud: []byte{}}}})
	require.NoError(f, err)
	for _, seed := range [][]byte{
		good, good[:len(good)-1], append(good, cloud...), cloud, nil,
		[]byte("\x0a\x02\xff\xff"),           // an id that is not UTF-8
		[]byte("\x08\x07"),                   // an id that is a number
		[]byte("\x9a\x3f\x01x"),              // a field there is not
		[]byte("\x22\x07000\xe9000"),         // a time with a field it does not have
		[]byte("\x0b\x0c"),                   // a group
		protowire.AppendVarint(nil, 1<<35|2), // a field number that cannot be
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		want, got := new(eventsv1.DeviceEvent), &eventsv1.DeviceEvent{Id: "the one before"}
		refused := proto.Unmarshal(encoded, want)
		err := DecodeEvent(encoded, got)
		require.Equal(t, refused == nil, err == nil, "%v, %v", refused, err)
		if err == nil {
			require.True(t, proto.Equal(want, got), "%s\n%s", want, got)
		}
	})
}

func TestRejectionOfALongNameCanBeEncoded(t *testing.T) {
	for _, name := range []string{"xéééééééééééééééééééééééééééééééééééé", "éééééééééééééééééééééééééééééééééééé"} {
		ev := event(nil, nil)
		ev.Change = &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: []byte(`{"` + name + `":{"a b":1}}`)}}
		_, outcome := Apply(registered(t), ev)
		require.NotNil(t, outcome.GetRejection())
		_, err := proto.Marshal(outcome)
		require.NoError(t, err)
	}
}
