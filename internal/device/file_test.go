package device

import (
	"strings"
	"testing"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

func TestAnUploadIsNotedAndChangesNothing(t *testing.T) {
	there, _ := Apply(nil, event(&eventsv1.DeviceRegistered{Enabled: true}, nil))
	upload := func(u *eventsv1.FileUploaded) *eventsv1.DeviceEvent {
		ev := event(nil, nil)
		ev.Change = &eventsv1.DeviceEvent_FileUploaded{FileUploaded: u}
		return ev
	}
	next, outcome := Apply(there, upload(&eventsv1.FileUploaded{Blob: "d/a.txt", Bytes: 3, Success: true}))
	require.Nil(t, outcome.GetRejection())
	want := proto.CloneOf(there)
	want.Revision, want.Self = next.GetRevision(), next.GetSelf()
	require.True(t, proto.Equal(want, next))
	require.Empty(t, next.GetSelf().GetMessages())
	for name, u := range map[string]*eventsv1.FileUploaded{
		"no name":          {},
		"long name":        {Blob: strings.Repeat("x", maxBlobName+1)},
		"long correlation": {Blob: "d/a", Correlation: strings.Repeat("x", maxUploadCorrelation+1)},
		"long description": {Blob: "d/a", Description: strings.Repeat("x", maxUploadDescription+1)},
		"negative size":    {Blob: "d/a", Bytes: -1},
	} {
		_, outcome := Apply(there, upload(u))
		require.Equal(t, eventsv1.RejectionReason_REJECTION_REASON_INVALID, outcome.GetRejection().GetReason(), name)
	}
}
