package device

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

func reported(patch string) *eventsv1.DeviceEvent {
	return &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: []byte(patch)}}}
}

// stampedAt writes the stamps as `path@version`.
func stampedAt(t require.TestingT, s Stamps) []string {
	var all eventsv1.PropertyStamps
	require.NoError(t, proto.Unmarshal(s, &all))
	out := []string{}
	for _, stamp := range all.GetStamps() {
		require.NotNil(t, stamp.GetAt())
		out = append(out, stamp.GetPath()+"@"+string(rune('0'+stamp.GetVersion())))
	}
	return out
}

func TestStampsAreOfPropertiesNotOfTheirInsides(t *testing.T) {
	for _, tc := range []struct {
		name    string
		patches []string
		want    []string
	}{
		{"a plain value", []string{`{"b":1,"a":2}`, `{"b":2}`}, []string{"a@1", "b@2"}},
		{"an object is one property", []string{`{"location":{"lat":1,"lon":2}}`, `{"location":{"lat":3}}`}, []string{"location@2"}},
		{"a component's properties are its own", []string{`{"c":{"__t":"c","x":1,"y":1}}`, `{"c":{"__t":"c","y":2}}`}, []string{"c/x@1", "c/y@2"}},
		{"a component is one without being called so again", []string{`{"c":{"__t":"c","x":1,"y":1}}`, `{"c":{"y":2,"x":null}}`}, []string{"c/y@2"}},
		{"an object that becomes a component", []string{`{"c":{"x":1}}`, `{"c":{"__t":"c","y":2}}`}, []string{"c/y@2"}},
		{"a component that becomes a value", []string{`{"c":{"__t":"c","x":1},"c-":1,"c0":1}`, `{"c":2}`}, []string{"c@2", "c-@1", "c0@1"}},
		{"removed with all below", []string{`{"c":{"__t":"c","x":1},"c-":1,"c0":1}`, `{"c":null}`}, []string{"c-@1", "c0@1"}},
		{"a slash in a name", []string{`{"a/b":1}`, `{"a":{"__t":"c","b":1,"c":1}}`}, []string{"a/b@2", "a/c@2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := registered(t)
			for i, patch := range tc.patches {
				state = then(t, state, later("", time.Duration(i+1)*time.Second, reported(patch)))
			}
			require.Equal(t, tc.want, stampedAt(t, ReportedStamps(state.GetSelf().GetTwin())))
		})
	}
}

// TestStampsFollowTheirChanges compares the stamps with a plain map.
func TestStampsFollowTheirChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stamps Stamps
		plain := map[string]uint64{}
		for version := range uint64(rapid.IntRange(1, 6).Draw(t, "events")) {
			var changes []restamp
			for _, path := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "a-", "a0", "b", "ab", "b/x", "c"}), 0, 5, rapid.ID).Draw(t, "paths") {
				c := restamp{path: []byte(path), remove: rapid.Bool().Draw(t, "remove")}
				changes = append(changes, c)
				if delete(plain, path); !c.remove {
					plain[path] = version + 1
				}
			}
			if rapid.Bool().Draw(t, "below") {
				changes = append(changes, restamp{path: []byte("a"), remove: true, below: true})
			} else {
				changes = append(changes, restamp{path: []byte("a/x")})
				plain["a/x"] = version + 1
			}
			if changes[len(changes)-1].below {
				delete(plain, "a/x")
			}
			slices.SortFunc(changes, restamp.compare)
			stamps = stamps.stamp(changes, version+1, noon)
		}
		want := []string{}
		for path, version := range plain {
			want = append(want, path+"@"+string(rune('0'+version)))
			require.Equal(t, version, stamps.Of(path).GetVersion())
		}
		slices.Sort(want)
		got := stampedAt(t, stamps)
		require.True(t, slices.IsSortedFunc(got, func(a, b string) int {
			pathA, _, _ := strings.Cut(a, "@")
			pathB, _, _ := strings.Cut(b, "@")
			return strings.Compare(pathA, pathB)
		}))
		slices.Sort(got)
		require.Equal(t, want, got)
		require.Nil(t, stamps.Of("never"))
	})
}

// TestStampsOfAnEarlierStateLiveOn is about states that the log has from before
// stamps were encoded.
func TestStampsOfAnEarlierStateLiveOn(t *testing.T) {
	state := registered(t)
	at := timestamppb.New(noon.AsTime().Add(-time.Hour))
	old := []*eventsv1.PropertyStamp{{Path: "a", Version: 1, At: at}, {Path: "c/x", Version: 2, At: at}}
	state.Self = &eventsv1.Identity{Twin: &eventsv1.Twin{
		Desired: []byte(`{"a":1,"c":{"__t":"c","x":1}}`), DesiredVersion: 2, DesiredStamps: old,
		Reported: []byte(`{"a":1,"c":{"__t":"c","x":1}}`), ReportedVersion: 2, ReportedStamps: old,
	}}
	state.Cloud, state.CloudVersion, state.CloudStamps = []byte(`{"a":1}`), 1, old[:1]
	properties, err := PropertiesOf(state, "")
	require.NoError(t, err)
	require.EqualValues(t, 2, properties.Components["c"]["x"].ReportedStamp.GetVersion())
	state = then(t, state, later("", time.Second, reported(`{"a":2}`)))
	require.Equal(t, []string{"a@3", "c/x@2"}, stampedAt(t, ReportedStamps(state.GetSelf().GetTwin())))
	require.Empty(t, state.GetSelf().GetTwin().GetReportedStamps())
	require.Equal(t, []string{"a@1", "c/x@2"}, stampedAt(t, DesiredStamps(state.GetSelf().GetTwin())), "those of the other section, too")
	require.Equal(t, []string{"a@1"}, stampedAt(t, CloudStamps(state)))
	require.True(t, proto.Equal(at, DesiredStamps(state.GetSelf().GetTwin()).Of("c/x").GetAt()))
}

func FuzzStamps(f *testing.F) {
	f.Add([]byte(Stamps(nil).stamp([]restamp{{path: []byte("a")}, {path: []byte("b/c")}}, 7, noon)), "a")
	f.Add([]byte("\x0a\x05\x0a\x01a\x10\x07"), "a")
	f.Fuzz(func(t *testing.T, stamps []byte, path string) {
		_ = Stamps(stamps).Of(path)
		set := Stamps(stamps).stamp([]restamp{{path: []byte(path)}}, 9, noon)
		require.NotEmpty(t, set)
	})
}
