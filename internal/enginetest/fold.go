package enginetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// FoldDevices decides device events as processors/devicestate does, for the
// tests of rooms that may not import it. It ends with the test.
func FoldDevices(t testing.TB, log *eventlog.Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	states := map[string]*eventsv1.DeviceState{}
	fold := func(r *kgo.Record) {
		ev := new(eventsv1.DeviceEvent)
		if err := proto.Unmarshal(r.Value, ev); err != nil {
			t.Errorf("device event cannot be read: %v", err)
			return
		}
		state, outcome := device.Apply(states[string(r.Key)], ev)
		states[string(r.Key)] = state
		if state == nil {
			state = &eventsv1.DeviceState{Tenant: ev.GetTenant(), Device: ev.GetDevice(), Deleted: true}
		}
		value, err := proto.Marshal(&eventsv1.DeviceSnapshot{State: state, Outcomes: []*eventsv1.Outcome{outcome}})
		if err != nil {
			t.Errorf("encode device state: %v", err)
			return
		}
		log.Append(ctx, &kgo.Record{Topic: log.Name(eventlog.DeviceState), Key: r.Key, Value: value}, nil)
	}
	done := make(chan error, 1)
	go func() { done <- log.Follow(ctx, eventlog.Devices, fold, func() {}) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}
