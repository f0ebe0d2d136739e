package device

import (
	"regexp"
	"strings"
	"testing"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

var noon = timestamppb.New(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))

func event(change any, p *eventsv1.Precondition) *eventsv1.DeviceEvent {
	ev := &eventsv1.DeviceEvent{Id: "e", Tenant: "default", Device: "d", Time: noon, Precondition: p}
	switch c := change.(type) {
	case *eventsv1.DeviceRegistered:
		ev.Change = &eventsv1.DeviceEvent_Registered{Registered: c}
	case *eventsv1.DeviceUpdated:
		ev.Change = &eventsv1.DeviceEvent_Updated{Updated: c}
	case *eventsv1.DeviceDeleted:
		ev.Change = &eventsv1.DeviceEvent_Deleted{Deleted: c}
	}
	return ev
}

func atVersion(v uint64) *eventsv1.Precondition { return &eventsv1.Precondition{Version: &v} }
func existing(b bool) *eventsv1.Precondition    { return &eventsv1.Precondition{Exists: &b} }

func TestFold(t *testing.T) {
	there, _ := Apply(nil, event(&eventsv1.DeviceRegistered{DisplayName: "Lobby", Enabled: true, Template: "dtmi:contoso:Thermostat;1"}, nil))
	require.Equal(t, uint64(1), there.GetVersion())
	gone, _ := Apply(there, event(&eventsv1.DeviceDeleted{}, nil))
	rename := &eventsv1.DeviceUpdated{DisplayName: proto.String("Hall")}
	const (
		notFound = eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND
		mismatch = eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH
		exists   = eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS
		invalid  = eventsv1.RejectionReason_REJECTION_REASON_INVALID
		accepted = eventsv1.RejectionReason_REJECTION_REASON_UNSPECIFIED
	)
	for _, tc := range []struct {
		name    string
		state   *eventsv1.DeviceState
		event   *eventsv1.DeviceEvent
		want    eventsv1.RejectionReason
		version uint64
	}{
		{"register a new device", nil, event(&eventsv1.DeviceRegistered{}, nil), accepted, 1},
		{"register over one that exists", there, event(&eventsv1.DeviceRegistered{}, nil), accepted, 2},
		{"register again after deletion goes on counting", gone, event(&eventsv1.DeviceRegistered{}, nil), accepted, 3},
		{"create only, and it is new", gone, event(&eventsv1.DeviceRegistered{}, existing(false)), accepted, 3},
		{"create only, but it exists", there, event(&eventsv1.DeviceRegistered{}, existing(false)), exists, 1},
		{"replace only, but there is none", nil, event(&eventsv1.DeviceRegistered{}, existing(true)), mismatch, 0},
		{"update at the version read", there, event(rename, atVersion(1)), accepted, 2},
		{"update at an older version", there, event(rename, atVersion(7)), mismatch, 1},
		{"an etag from before the deletion never matches", gone, event(&eventsv1.DeviceRegistered{}, atVersion(2)), mismatch, 2},
		{"update of none", nil, event(rename, nil), notFound, 0},
		{"delete of none", gone, event(&eventsv1.DeviceDeleted{}, nil), notFound, 2},
		{"display name too long", there, event(&eventsv1.DeviceUpdated{DisplayName: proto.String(strings.Repeat("ä", 149))}, nil), invalid, 1},
		{"template that is no DTMI", there, event(&eventsv1.DeviceUpdated{Template: proto.String("thermostat")}, nil), invalid, 1},
		{"two organizations", there, event(&eventsv1.DeviceUpdated{Organizations: &eventsv1.Organizations{Ids: []string{"a", "b"}}}, nil), invalid, 1},
		{"an event of a later version of this program", there, event(nil, nil), invalid, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := proto.CloneOf(tc.state)
			next, outcome := Apply(tc.state, tc.event)
			require.Equal(t, tc.want, outcome.GetRejection().GetReason(), outcome.GetRejection().GetMessage())
			require.Equal(t, tc.version, outcome.GetVersion())
			require.True(t, proto.Equal(before, tc.state), "the state passed in is never changed")
			if tc.want != accepted {
				require.Same(t, tc.state, next)
				require.NotEmpty(t, outcome.GetRejection().GetMessage())
			}
		})
	}
	renamed, _ := Apply(there, event(rename, nil))
	require.Equal(t, "Hall", renamed.GetDisplayName())
	require.Equal(t, there.GetTemplate(), renamed.GetTemplate(), "an update leaves what it does not name")
	require.True(t, renamed.GetEnabled())
}

// TestFoldIsDeterministicInAnySplit folds random events in one go and with the
// state written down and read back at random moments, as a crash would.
func TestFoldIsDeterministicInAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.Custom(func(t *rapid.T) *eventsv1.DeviceEvent {
			var p *eventsv1.Precondition
			switch rapid.IntRange(0, 3).Draw(t, "precondition") {
			case 0:
				p = atVersion(uint64(rapid.IntRange(1, 6).Draw(t, "version")))
			case 1:
				p = existing(rapid.Bool().Draw(t, "exists"))
			}
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 5:
				return provisioned(rapid.SampledFrom([]string{"", "g"}).Draw(t, "group"), rapid.Bool().Draw(t, "auto"))
			case 4:
				return approved()
			case 3:
				return attestationRemoved()
			case 0:
				return event(&eventsv1.DeviceRegistered{DisplayName: rapid.StringN(0, 200, -1).Draw(t, "name"), Enabled: true}, p)
			case 1:
				return event(&eventsv1.DeviceUpdated{Enabled: proto.Bool(rapid.Bool().Draw(t, "enabled"))}, p)
			default:
				return event(&eventsv1.DeviceDeleted{}, p)
			}
		})
		events := rapid.SliceOf(change).Draw(t, "events")
		var whole, split *eventsv1.DeviceState
		accepted := uint64(0)
		for _, ev := range events {
			var outcome *eventsv1.Outcome
			whole, outcome = Apply(whole, ev)
			if outcome.GetRejection() == nil {
				accepted++
			}
			split, _ = Apply(split, ev)
			if split != nil && rapid.Bool().Draw(t, "crash") {
				written, err := proto.Marshal(split)
				if err != nil {
					t.Fatal(err)
				}
				split = new(eventsv1.DeviceState)
				if err := proto.Unmarshal(written, split); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !proto.Equal(whole, split) {
			t.Fatalf("folds differ:\n%v\n%v", whole, split)
		}
		if whole.GetVersion() != accepted {
			t.Fatalf("version %d after %d accepted events", whole.GetVersion(), accepted)
		}
	})
}

func FuzzValidateID(f *testing.F) {
	pattern := regexp.MustCompile(`\A[a-zA-Z0-9\-._:]*[a-zA-Z0-9\-]\z`)
	f.Add("thermostat-1")
	f.Add("a/b")
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		require.Equal(t, pattern.MatchString(id) && len(id) <= MaxIDLength, ValidateID(id) == nil, "%q", id)
		if ValidateID(id) == nil && (id == "" || len(id) > MaxIDLength || strings.ContainsAny(id, "/ \x00\n'\"`\\%+#")) {
			t.Fatalf("id %q passed", id)
		}
	})
}

func TestETag(t *testing.T) {
	for _, tag := range []string{ETag(12), `"v12"`} {
		v, err := ParseETag(tag)
		require.NoError(t, err)
		require.Equal(t, uint64(12), v)
	}
	for _, tag := range []string{"", "v0", "12", "v-1", "v99999999999999999999", `W/"v1"`} {
		_, err := ParseETag(tag)
		require.Error(t, err, tag)
	}
}

func TestMasterKeyIsMadeOnceAndGuarded(t *testing.T) {
	path := t.TempDir() + "/keys/master.key"
	first, err := OpenMasterKey(path)
	require.NoError(t, err)
	again, err := OpenMasterKey(path)
	require.NoError(t, err)
	keys := first.DeviceKeys("default", "d")
	require.Equal(t, keys, again.DeviceKeys("default", "d"))
	require.NotEqual(t, keys.Primary, keys.Secondary)
	require.NotEqual(t, keys.Primary, first.DeviceKeys("other", "d").Primary, "a tenant's keys are its own")
}
