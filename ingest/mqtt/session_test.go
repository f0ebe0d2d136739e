package mqtt

import (
	"testing"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

// TestStanding goes through what a node can see of a connection on the log, with
// states left out in between: it looks at the newest only.
func TestStanding(t *testing.T) {
	for _, tc := range []struct {
		name                 string
		confirmed, undecided bool
		shown                *eventsv1.Connection
		want                 standing
	}{
		{"not there yet", false, false, &eventsv1.Connection{Id: "before", Connected: true}, standingUnknown},
		{"the first ever", false, false, nil, standingUnknown},
		{"accepted", false, false, &eventsv1.Connection{Id: "mine", Connected: true}, standingLive},
		{"a newer one before mine was accepted", false, false, &eventsv1.Connection{Id: "other", Connected: true}, standingUnknown},
		{"a newer one after that", true, false, &eventsv1.Connection{Id: "other", Connected: true}, standingPast},
		{"a newer one that has gone already", true, false, &eventsv1.Connection{Id: "other"}, standingPast},
		{"the identity was made anew", true, false, nil, standingPast},
		{"nobody has decided", false, true, &eventsv1.Connection{Id: "before", Connected: true}, standingUnknown},
		{"nobody had decided, and a newer one came", false, true, &eventsv1.Connection{Id: "other", Connected: true}, standingPast},
		{"nobody had decided, and then it was", false, true, &eventsv1.Connection{Id: "mine", Connected: true}, standingLive},
		{"ended by somebody else", true, false, &eventsv1.Connection{Id: "mine"}, standingUnknown},
	} {
		s := &session{id: "mine", before: "before", confirmed: tc.confirmed, undecided: tc.undecided}
		require.Equal(t, tc.want, s.standing(tc.shown), tc.name)
	}
}
