package device

import (
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxTagsBytes bounds a device's tags (FEATURES.md HUB-02).
const maxTagsBytes = 8 << 10

// setProperties applies what people set: desired properties of an identity, cloud
// properties of the device, or both.
func setProperties(next *eventsv1.DeviceState, i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.PropertiesDesired) *eventsv1.Rejection {
	if c.Cloud != nil {
		if r := setCloud(next, ev, c); r != nil {
			return r
		}
		if len(c.GetPatch()) == 0 {
			return nil
		}
	}
	return desire(i, ev, c)
}

func setCloud(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, c *eventsv1.PropertiesDesired) *eventsv1.Rejection {
	if ev.GetModule() != "" {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "module %q has no cloud properties: they are the device's", ev.GetModule())
	}
	before := section{"cloud", next.GetCloud(), CloudStamps(next), next.GetCloudVersion()}
	if c.GetReplace() {
		before.object, before.stamps = nil, nil
	}
	after, refusal := before.merge(c.GetCloud(), ev.GetTime())
	if refusal != nil {
		return refusal
	}
	next.Cloud, next.CloudDates, next.CloudVersion, next.CloudStamps = after.object, after.stamps, after.version, nil
	return nil
}

func validateSetProperties(c *eventsv1.PropertiesDesired) error {
	if c.Cloud == nil {
		return validatePatch(c.GetPatch())
	}
	if err := validatePatch(c.GetCloud()); err != nil {
		return fmt.Errorf("cloud properties: %w", err)
	}
	if len(c.GetPatch()) == 0 {
		return nil
	}
	return validatePatch(c.GetPatch())
}

// validateTags checks tags, or a merge patch of them; empty is none.
func validateTags(tags []byte) error {
	if len(tags) == 0 {
		return nil
	}
	if len(tags) > maxTagsBytes {
		return fmt.Errorf("tags have %d bytes: use at most %d", len(tags), maxTagsBytes)
	}
	if _, err := readPatch(tags); err != nil {
		return fmt.Errorf("tags: %w", err)
	}
	return nil
}

// tag merges a patch into the tags.
func tag(next *eventsv1.DeviceState, patch []byte) *eventsv1.Rejection {
	merged, err := MergePatch(next.GetTags(), patch)
	if err != nil {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "tags: %s", err)
	}
	if len(merged) > maxTagsBytes {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_LIMIT, "tags would have %d bytes: at most %d are kept; remove some with null", len(merged), maxTagsBytes)
	}
	next.Tags = merged
	return nil
}

// validateInitial checks the properties a template gives a new device.
func validateInitial(patch []byte) error {
	if len(patch) == 0 {
		return nil
	}
	return validatePatch(patch)
}

// initialize desires what a template gives a new device, where nothing is desired
// yet (FEATURES.md TPL-26).
func initialize(next *eventsv1.DeviceState, initial []byte, at *timestamppb.Timestamp) *eventsv1.Rejection {
	if len(initial) == 0 {
		return nil
	}
	missing, err := absent(next.GetSelf().GetTwin().GetDesired(), initial)
	if err != nil {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "initial properties: %s", err)
	}
	if missing == nil {
		return nil
	}
	return desire(own(next, ""), &eventsv1.DeviceEvent{Time: at}, &eventsv1.PropertiesDesired{Patch: missing})
}

// offer initializes a device that comes by itself: what does not fit beside what it
// has must not keep it out.
func offer(next *eventsv1.DeviceState, initial []byte, at *timestamppb.Timestamp) {
	_ = initialize(next, initial, at)
}

// absent is the part of a patch for which the section has no value; nil when there
// is none.
func absent(section, patch []byte) ([]byte, error) {
	desired, err := readSection(section)
	if err != nil {
		return nil, err
	}
	wanted, err := readPatch(patch)
	if err != nil {
		return nil, err
	}
	missing := value{kind: '{'}
	for _, m := range wanted.members {
		have, isThere := desired.find(m.name)
		switch {
		case !isThere:
			missing.members = append(missing.members, m)
		case m.value.component() && have.component():
			if m.value.members = absentOf(have, m.value); len(m.value.members) > 1 {
				missing.members = append(missing.members, m)
			}
		}
	}
	if len(missing.members) == 0 {
		return nil, nil
	}
	return missing.appendTo(nil), nil
}

// absentOf is what a component lacks of another, with the marker.
func absentOf(have, wanted value) []member {
	var missing []member
	for _, m := range wanted.members {
		if _, isThere := have.find(m.name); !isThere || string(m.name) == componentMarker {
			missing = append(missing, m)
		}
	}
	return missing
}
