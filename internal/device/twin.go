package device

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// maxSectionBytes bounds a twin's section (FEATURES.md HUB-02).
const maxSectionBytes = 32 << 10

func copyTwin(t *eventsv1.Twin) *eventsv1.Twin {
	return &eventsv1.Twin{
		Desired: t.GetDesired(), DesiredVersion: t.GetDesiredVersion(), DesiredAt: t.GetDesiredAt(),
		Reported: t.GetReported(), ReportedVersion: t.GetReportedVersion(), ReportedAt: t.GetReportedAt(),
		ModelId: t.GetModelId(), DesiredDates: t.GetDesiredDates(), ReportedDates: t.GetReportedDates(),
		DesiredStamps: t.GetDesiredStamps(), ReportedStamps: t.GetReportedStamps(),
	}
}

func desire(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.PropertiesDesired) *eventsv1.Rejection {
	twin := copyTwin(i.GetTwin())
	before := section{"desired", twin.GetDesired(), DesiredStamps(twin), twin.GetDesiredVersion()}
	if c.GetReplace() {
		before.object, before.stamps = nil, nil
	}
	after, refusal := before.merge(c.GetPatch(), ev.GetTime())
	if refusal != nil {
		return refusal
	}
	twin.Desired, twin.DesiredDates, twin.DesiredVersion = after.object, after.stamps, after.version
	twin.DesiredAt, twin.DesiredStamps = ev.GetTime(), nil
	i.Twin = twin
	return nil
}

func report(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.PropertiesReported) *eventsv1.Rejection {
	twin := copyTwin(i.GetTwin())
	after, refusal := section{"reported", twin.GetReported(), ReportedStamps(twin), twin.GetReportedVersion()}.merge(c.GetPatch(), ev.GetTime())
	if refusal != nil {
		return refusal
	}
	twin.Reported, twin.ReportedDates, twin.ReportedVersion = after.object, after.stamps, after.version
	twin.ReportedAt, twin.ReportedStamps = ev.GetTime(), nil
	i.Twin = twin
	return nil
}

// section is the desired, the reported or the cloud properties.
type section struct {
	name    string
	object  []byte
	stamps  Stamps
	version uint64
}

// merge is the section after a patch.
func (s section) merge(patch []byte, at *timestamppb.Timestamp) (section, *eventsv1.Rejection) {
	changes, err := readPatch(patch)
	if err == nil {
		s.object, err = mergeInto(s.object, changes)
	}
	if err != nil {
		return s, rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "%s properties: %s", s.name, err)
	}
	if len(s.object) > maxSectionBytes {
		return s, rejection(eventsv1.RejectionReason_REJECTION_REASON_LIMIT, "%s properties would have %d bytes: at most %d are kept; remove some with null", s.name, len(s.object), maxSectionBytes)
	}
	s.version++
	var room [16]restamp
	s.stamps = s.stamps.stamp(stampChanges(room[:0], s.object, changes), s.version, at)
	return s, nil
}

func validatePatch(patch []byte) error {
	_, err := readPatch(patch)
	return err
}
