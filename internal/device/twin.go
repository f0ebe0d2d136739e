package device

import (
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
	section, stamps := twin.GetDesired(), DesiredStamps(twin)
	if c.GetReplace() {
		section, stamps = nil, nil
	}
	merged, changes, refusal := mergeSection(section, c.GetPatch(), "desired")
	if refusal != nil {
		return refusal
	}
	twin.Desired, twin.DesiredVersion, twin.DesiredAt = merged, twin.GetDesiredVersion()+1, ev.GetTime()
	twin.DesiredDates, twin.DesiredStamps = stamps.stamp(changes, twin.GetDesiredVersion(), ev.GetTime()), nil
	i.Twin = twin
	return nil
}

func report(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.PropertiesReported) *eventsv1.Rejection {
	twin := copyTwin(i.GetTwin())
	merged, changes, refusal := mergeSection(twin.GetReported(), c.GetPatch(), "reported")
	if refusal != nil {
		return refusal
	}
	twin.Reported, twin.ReportedVersion, twin.ReportedAt = merged, twin.GetReportedVersion()+1, ev.GetTime()
	twin.ReportedDates, twin.ReportedStamps = ReportedStamps(twin).stamp(changes, twin.GetReportedVersion(), ev.GetTime()), nil
	i.Twin = twin
	return nil
}

// mergeSection gives beside the result which stamps it changes.
func mergeSection(section, patch []byte, name string) (merged []byte, changes []restamp, refusal *eventsv1.Rejection) {
	object, err := readPatch(patch)
	if err == nil {
		merged, err = mergeInto(section, object)
	}
	if err != nil {
		return nil, nil, rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "%s properties: %s", name, err)
	}
	if len(merged) > maxSectionBytes {
		return nil, nil, rejection(eventsv1.RejectionReason_REJECTION_REASON_LIMIT, "%s properties would have %d bytes: at most %d are kept; remove some with null", name, len(merged), maxSectionBytes)
	}
	return merged, stampChanges(merged, object), nil
}

func validatePatch(patch []byte) error {
	_, err := readPatch(patch)
	return err
}
