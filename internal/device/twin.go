package device

import (
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// maxSectionBytes bounds a twin's section (FEATURES.md HUB-02).
const maxSectionBytes = 32 << 10

func copyTwin(t *eventsv1.Twin) *eventsv1.Twin {
	return &eventsv1.Twin{
		Desired: t.GetDesired(), DesiredVersion: t.GetDesiredVersion(), DesiredAt: t.GetDesiredAt(),
		Reported: t.GetReported(), ReportedVersion: t.GetReportedVersion(), ReportedAt: t.GetReportedAt(),
		ModelId: t.GetModelId(), DesiredStamps: t.GetDesiredStamps(), ReportedStamps: t.GetReportedStamps(),
	}
}

func desire(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.PropertiesDesired) *eventsv1.Rejection {
	section, stamps := i.GetTwin().GetDesired(), i.GetTwin().GetDesiredStamps()
	if c.GetReplace() {
		section, stamps = nil, nil
	}
	merged, changes, refusal := mergeSection(section, c.GetPatch(), "desired")
	if refusal != nil {
		return refusal
	}
	i.Twin = copyTwin(i.GetTwin())
	i.Twin.Desired, i.Twin.DesiredVersion, i.Twin.DesiredAt = merged, i.GetTwin().GetDesiredVersion()+1, ev.GetTime()
	i.Twin.DesiredStamps = stamp(stamps, changes, i.GetTwin().GetDesiredVersion(), ev.GetTime())
	return nil
}

func report(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.PropertiesReported) *eventsv1.Rejection {
	merged, changes, refusal := mergeSection(i.GetTwin().GetReported(), c.GetPatch(), "reported")
	if refusal != nil {
		return refusal
	}
	i.Twin = copyTwin(i.GetTwin())
	i.Twin.Reported, i.Twin.ReportedVersion, i.Twin.ReportedAt = merged, i.GetTwin().GetReportedVersion()+1, ev.GetTime()
	i.Twin.ReportedStamps = stamp(i.GetTwin().GetReportedStamps(), changes, i.GetTwin().GetReportedVersion(), ev.GetTime())
	return nil
}

func mergeSection(section, patch []byte, name string) (merged []byte, changes map[string]any, refusal *eventsv1.Rejection) {
	merged, changes, err := mergePatch(section, patch)
	if err != nil {
		return nil, nil, rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "%s properties: %s", name, err)
	}
	if len(merged) > maxSectionBytes {
		return nil, nil, rejection(eventsv1.RejectionReason_REJECTION_REASON_LIMIT, "%s properties would have %d bytes: at most %d are kept; remove some with null", name, len(merged), maxSectionBytes)
	}
	return merged, changes, nil
}

func validatePatch(patch []byte) error {
	if len(patch) > maxSectionBytes {
		return fmt.Errorf("property patch has %d bytes: send at most %d", len(patch), maxSectionBytes)
	}
	_, err := parseObject(patch)
	return err
}
