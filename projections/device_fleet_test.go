package projections_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// fleet is some devices that live at random, and what the fold makes of them.
type fleet struct {
	*site
	random *rand.Rand
	events int
	// states are those after each event, by device and offset.
	mu     sync.Mutex
	states map[string]map[int64]*eventsv1.DeviceState
	newest map[string]*eventsv1.DeviceState
}

// newFleet folds the devices topic in transactions, as the processor of another
// room does.
func newFleet(s *site) *fleet {
	f := &fleet{site: s, random: rand.New(rand.NewPCG(1, 2)), states: map[string]map[int64]*eventsv1.DeviceState{}, newest: map[string]*eventsv1.DeviceState{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- s.log.Transact(ctx, "n1", eventlog.Stage{
			Name: "fold", Topic: eventlog.Devices, Load: func(context.Context, int32) error { return nil }, Handle: f.fold,
		})
	}()
	s.t.Cleanup(func() {
		cancel()
		require.NoError(s.t, <-done)
	})
	return f
}

func (f *fleet) fold(_ context.Context, partition int32, batch []*kgo.Record) (out []*kgo.Record, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range batch {
		ev := new(eventsv1.DeviceEvent)
		if proto.Unmarshal(r.Value, ev) != nil || !bytes.Equal(r.Key, eventlog.Key(ev.GetTenant(), ev.GetDevice())) {
			continue
		}
		state, outcome := device.Apply(f.newest[ev.GetDevice()], ev)
		f.newest[ev.GetDevice()] = state
		if f.states[ev.GetDevice()] == nil {
			f.states[ev.GetDevice()] = map[int64]*eventsv1.DeviceState{}
		}
		f.states[ev.GetDevice()][r.Offset] = state
		if state == nil {
			state = &eventsv1.DeviceState{Tenant: ev.GetTenant(), Device: ev.GetDevice(), Deleted: true}
		}
		value, err := proto.Marshal(&eventsv1.DeviceSnapshot{State: state, Offset: r.Offset, Outcomes: []*eventsv1.Outcome{outcome}})
		if err != nil {
			return nil, err
		}
		out = append(out, &kgo.Record{Topic: f.log.Name(eventlog.DeviceState), Partition: partition, Key: r.Key, Value: value, Timestamp: r.Timestamp})
	}
	return out, nil
}

// live has n things happen to the devices.
func (f *fleet) live(n int) {
	for range n {
		f.append(f.anything())
	}
	f.flush()
}

func (f *fleet) append(ev *eventsv1.DeviceEvent) {
	value, err := proto.Marshal(ev)
	require.NoError(f.t, err)
	f.appendRecord(eventlog.CloudEvent(f.log.Name(eventlog.Devices), ev.GetId(), "/test", eventlog.TypeDeviceEvent, ev.GetTime().AsTime(),
		eventlog.ContentTypeProtobuf, eventlog.Key(ev.GetTenant(), ev.GetDevice()), value))
}

func (f *fleet) appendRecord(r *kgo.Record) {
	f.log.Append(f.t.Context(), r, func(_ *kgo.Record, err error) {
		if err != nil {
			f.t.Error(err)
		}
	})
}

// anything is an event that may be accepted or not.
func (f *fleet) anything() *eventsv1.DeviceEvent {
	f.events++
	ev := &eventsv1.DeviceEvent{
		Id: fmt.Sprintf("e%d", f.events), Tenant: "default", Device: fmt.Sprintf("d%d", f.random.IntN(9)),
		Time: timestamppb.New(f.began.Add(time.Duration(f.events) * time.Millisecond)), Actor: &eventsv1.Actor{Principal: "token:admin", RequestId: "r"},
	}
	n := f.random.IntN(50)
	switch {
	case n < 5:
		ev.Change = &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{DisplayName: fmt.Sprint("n", n), Enabled: true, Tags: fmt.Appendf(nil, `{"n":%d,"huge":1234567890123456789012345678901234567890}`, n)}}
	case n == 5:
		ev.Change = &eventsv1.DeviceEvent_Deleted{Deleted: &eventsv1.DeviceDeleted{}}
	case n < 25:
		ev.Change = &eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Patch: fmt.Appendf(nil, `{"p%d":%d,"c":{"__t":"c","x":%d}}`, n%4, f.events, n)}}
	case n < 45:
		ev.Change = &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: fmt.Appendf(nil, `{"r%d":"%d"}`, n%4, f.events)}}
	default:
		ev.Change = &eventsv1.DeviceEvent_CommandRequested{CommandRequested: &eventsv1.CommandRequested{Method: "reboot", ConnectBy: ev.GetTime(), Deadline: ev.GetTime()}}
	}
	return ev
}
