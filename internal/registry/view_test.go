package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

func encode(t require.TestingT, m proto.Message) []byte {
	encoded, err := proto.Marshal(m)
	require.NoError(t, err)
	return encoded
}

func ids(t require.TestingT, states [][]byte) []string {
	var out []string
	for _, encoded := range states {
		state := new(eventsv1.DeviceState)
		require.NoError(t, proto.Unmarshal(encoded, state))
		out = append(out, state.GetDevice())
	}
	return out
}

// TestViewFindsWhatIsThere compares the view with a plain map, whatever devices
// come, move to another parent, go and come back.
func TestViewFindsWhatIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var v view
		plain := map[string]*eventsv1.DeviceState{}
		id := rapid.SampledFrom([]string{"a", "a-b", "a.b", "ab", "b", "z"})
		tenant := rapid.SampledFrom([]string{"t", "t2"})
		for range rapid.IntRange(1, 40).Draw(t, "changes") {
			state := &eventsv1.DeviceState{
				Tenant: tenant.Draw(t, "tenant"), Device: id.Draw(t, "device"), Version: uint64(rapid.IntRange(0, 2).Draw(t, "version")),
				Deleted: rapid.Bool().Draw(t, "deleted"), Parent: rapid.SampledFrom([]string{"", "a", "ab", "g"}).Draw(t, "parent"),
			}
			key := state.GetTenant() + "/" + state.GetDevice()
			before, _, err := v.set(key, encode(t, state))
			require.NoError(t, err)
			require.Equal(t, plain[key] == nil, before == nil)
			plain[key] = state
		}
		after, parent, of, limit := rapid.SampledFrom([]string{"", "a", "aa", "b"}).Draw(t, "after"), rapid.SampledFrom([]string{"a", "ab", "g", "x"}).Draw(t, "parent"), tenant.Draw(t, "of"), rapid.IntRange(1, 5).Draw(t, "limit")
		var listed, children []string
		for key, state := range plain {
			exists := state.GetVersion() > 0 && !state.GetDeleted()
			require.Equal(t, exists, v.get(key) != nil)
			if !exists || state.GetTenant() != of || state.GetDevice() <= after {
				continue
			}
			listed = append(listed, state.GetDevice())
			if state.GetParent() == parent {
				children = append(children, state.GetDevice())
			}
		}
		first := func(all []string) []string { slices.Sort(all); return all[:min(limit, len(all))] }
		require.Equal(t, first(listed), ids(t, v.list(of, after, limit)))
		require.Equal(t, first(children), ids(t, v.childrenOf(of, parent, after, limit)))
	})
}

func TestASnapshotThatCannotBeReadIsLeftOut(t *testing.T) {
	good := encode(t, &eventsv1.DeviceSnapshot{State: &eventsv1.DeviceState{Device: "d", Version: 1}, Offset: 7})
	for name, snapshot := range map[string][]byte{
		"empty": nil, "no state": encode(t, &eventsv1.DeviceSnapshot{Offset: 7}), "cut": good[:len(good)-1], "no protobuf": []byte("\xff\xff"),
		"state cut": protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("\x08")),
	} {
		t.Run(name, func(t *testing.T) {
			state, err := device.EncodedState(snapshot)
			if err == nil {
				_, _, err = new(view).set("t/d", state)
			}
			require.Error(t, err)
		})
	}
	state, err := device.EncodedState(good)
	require.NoError(t, err)
	g, err := glance(state)
	require.NoError(t, err)
	require.True(t, g.exists)
}

// FuzzGlance finds that what is read at a glance is what decoding says.
func FuzzGlance(f *testing.F) {
	f.Add(encode(f, &eventsv1.DeviceState{Tenant: "t", Device: "d", Version: 3, Parent: "g", Self: &eventsv1.Identity{MessagesQueued: 1}}))
	f.Add(encode(f, &eventsv1.DeviceState{Version: 3, Deleted: true}))
	f.Add([]byte("\x18\x01\x18\x00"))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		g, err := glance(encoded)
		state := new(eventsv1.DeviceState)
		if proto.Unmarshal(encoded, state) != nil {
			return
		}
		require.NoError(t, err)
		exists := state.GetVersion() > 0 && !state.GetDeleted()
		require.Equal(t, exists, g.exists)
		if exists {
			require.Equal(t, state.GetParent(), string(g.parent))
		}
	})
}

// BenchmarkGet is one device's state out of 100,000.
func BenchmarkGet(b *testing.B) {
	r := New(nil, nil)
	const devices = 100_000
	for i := range devices {
		id := fmt.Sprintf("device-%06d", i)
		_, _, err := r.devices.set("default/"+id, encode(b, &eventsv1.DeviceState{
			Tenant: "default", Device: id, Version: 1, DisplayName: strings.Repeat("x", 20),
			Self: &eventsv1.Identity{Connection: &eventsv1.Connection{Id: "c", Node: "n"}},
		}))
		require.NoError(b, err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if r.Get("default", fmt.Sprintf("device-%06d", i*7919%devices)) == nil {
			b.Fatal("it is not there")
		}
	}
}
