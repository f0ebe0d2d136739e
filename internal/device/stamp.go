package device

import (
	"bytes"
	"cmp"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// componentMarker is the member that makes an object of a twin a component
// (FEATURES.md PAY-20).
const componentMarker = "__t"

// IsComponent reports whether a property's value is a component's properties.
func IsComponent(value any) (map[string]any, bool) {
	object, _ := value.(map[string]any)
	return object, object != nil && object[componentMarker] == "c"
}

// Stamps say when each property of a section was last set: PropertyStamps, encoded,
// in order of their paths.
type Stamps []byte

// DesiredStamps are those of a twin's desired section.
func DesiredStamps(t *eventsv1.Twin) Stamps {
	return stampsOf(t.GetDesiredDates(), t.GetDesiredStamps())
}

// ReportedStamps are those of a twin's reported section.
func ReportedStamps(t *eventsv1.Twin) Stamps {
	return stampsOf(t.GetReportedDates(), t.GetReportedStamps())
}

// CloudStamps are those of a device's cloud properties.
func CloudStamps(s *eventsv1.DeviceState) Stamps {
	return stampsOf(s.GetCloudDates(), s.GetCloudStamps())
}

func stampsOf(encoded []byte, old []*eventsv1.PropertyStamp) Stamps {
	if len(old) == 0 {
		return encoded
	}
	for _, s := range old {
		encoded = appendStamp(encoded, []byte(s.GetPath()), appendStampedBy(nil, s.GetVersion(), s.GetAt()))
	}
	return encoded
}

// Of is when a property (`name`, or `component/name`) was last set; nil when that is
// not known.
func (s Stamps) Of(path string) *eventsv1.PropertyStamp {
	for entry, there := s.first(); there; entry, there = s.first() {
		if string(entry.path) == path {
			stamp := new(eventsv1.PropertyStamp)
			if proto.Unmarshal(entry.body, stamp) != nil {
				return nil
			}
			return stamp
		}
		s = s[entry.length:]
	}
	return nil
}

func (s Stamps) byPath() map[string]*eventsv1.PropertyStamp {
	var all eventsv1.PropertyStamps
	if proto.Unmarshal(s, &all) != nil {
		return nil
	}
	stamps := make(map[string]*eventsv1.PropertyStamp, len(all.GetStamps()))
	for _, stamp := range all.GetStamps() {
		stamps[stamp.GetPath()] = stamp
	}
	return stamps
}

// stampEntry is a stamp among others.
type stampEntry struct {
	path, body []byte
	length     int // with its tag
}

// Tags of the only field of PropertyStamps and of the first of PropertyStamp.
const (
	stampTag = 1<<3 | byte(protowire.BytesType)
	pathTag  = 1<<3 | byte(protowire.BytesType)
)

// stampOverhead is what a stamp has at most beside a short path and what it shares
// with others: two tags and two lengths.
const stampOverhead = 6

// first is the stamp that they begin with. What cannot be read counts as the end:
// the fold wrote it.
func (s Stamps) first() (stampEntry, bool) {
	if len(s) == 0 || s[0] != stampTag {
		return stampEntry{}, false
	}
	body, n := protowire.ConsumeBytes(s[1:])
	if n < 0 || len(body) == 0 || body[0] != pathTag {
		return stampEntry{}, false
	}
	path, m := protowire.ConsumeBytes(body[1:])
	return stampEntry{path, body, n + 1}, m >= 0
}

// restamp is what becomes of the stamp of a path, or of all paths below it.
type restamp struct {
	path          []byte
	remove, below bool
}

// stampChanges appends which stamps a patch changes, given the section it has made:
// whether a member is a component is seen there, whatever the patch says of it.
func stampChanges(changes []restamp, merged []byte, patch value) []restamp {
	for i := range patch.members {
		m := &patch.members[i]
		if m.value.kind != '{' || !isComponentIn(merged, m.name) {
			changes = append(changes, restamp{path: m.name, remove: m.value.isNull()}, restamp{path: m.name, remove: true, below: true})
			continue
		}
		changes = append(changes, restamp{path: m.name, remove: true})
		for _, inner := range m.value.members {
			if string(inner.name) != componentMarker {
				path := append(append(append(make([]byte, 0, len(m.name)+1+len(inner.name)), m.name...), '/'), inner.name...)
				changes = append(changes, restamp{path: path, remove: inner.value.isNull()})
			}
		}
	}
	slices.SortFunc(changes, restamp.compare)
	return changes
}

// compare puts what is below a path where it stands among stamps: `a-` is between
// `a` and `a/b`.
func (c restamp) compare(d restamp) int {
	switch {
	case c.below == d.below:
		return bytes.Compare(c.path, d.path)
	case c.below:
		return -d.compare(c)
	case len(c.path) > len(d.path) && bytes.HasPrefix(c.path, d.path):
		return cmp.Compare(c.path[len(d.path)], '/')
	case bytes.Equal(c.path, d.path):
		return -1
	}
	return bytes.Compare(c.path, d.path)
}

// isComponentIn reports whether a member of a section is a component.
func isComponentIn(section, name []byte) bool {
	at := func(object, name []byte) []byte {
		t := target{rest: object}
		for there := t.begin() && t.next(); there; there = t.next() {
			if found, err := t.name(); err == nil && bytes.Equal(found, name) {
				return t.value
			}
		}
		return nil
	}
	return string(at(at(section, name), []byte(componentMarker))) == `"c"`
}

// stamp applies changes to stamps and returns new ones; both are in order.
func (s Stamps) stamp(changes []restamp, version uint64, at *timestamppb.Timestamp) Stamps {
	var room [32]byte
	by, size := appendStampedBy(room[:0], version, at), len(s)
	for _, c := range changes {
		if !c.remove {
			size += stampOverhead + len(c.path) + len(by)
		}
	}
	out := make(Stamps, 0, size)
	for entry, there := s.first(); there; entry, there = s.first() {
		n := 0
		for ; n < len(changes) && !changes[n].beyond(entry.path); n++ {
			out = changes[n].appendTo(out, by)
		}
		changes = changes[n:]
		if len(changes) == 0 || !changes[0].concerns(entry.path) {
			out = append(out, s[:entry.length]...)
		}
		s = s[entry.length:]
	}
	for _, c := range changes {
		out = c.appendTo(out, by)
	}
	return out
}

// beyond reports whether the change stands at the path or after it: all changes
// before that are done with.
func (c restamp) beyond(path []byte) bool {
	return c.concerns(path) || c.compare(restamp{path: path}) > 0
}

func (c restamp) concerns(path []byte) bool {
	if c.below {
		return len(path) > len(c.path) && path[len(c.path)] == '/' && bytes.HasPrefix(path, c.path)
	}
	return bytes.Equal(path, c.path)
}

func (c restamp) appendTo(out Stamps, by []byte) Stamps {
	if c.remove {
		return out
	}
	return appendStamp(out, c.path, by)
}

// appendStampedBy appends what the stamps of one event have in common, encoded.
func appendStampedBy(by []byte, version uint64, at *timestamppb.Timestamp) []byte {
	const versionTag, atTag = 2<<3 | byte(protowire.VarintType), 3<<3 | byte(protowire.BytesType)
	const secondsTag, nanosTag = 1<<3 | byte(protowire.VarintType), 2<<3 | byte(protowire.VarintType)
	by = protowire.AppendVarint(append(by, versionTag), version)
	var room [24]byte
	moment := room[:0]
	if seconds := at.GetSeconds(); seconds != 0 {
		moment = protowire.AppendVarint(append(moment, secondsTag), uint64(seconds))
	}
	if nanos := at.GetNanos(); nanos != 0 {
		moment = protowire.AppendVarint(append(moment, nanosTag), uint64(nanos))
	}
	return protowire.AppendBytes(append(by, atTag), moment)
}

func appendStamp(out, path, by []byte) []byte {
	out = protowire.AppendVarint(append(out, stampTag), uint64(1+protowire.SizeBytes(len(path))+len(by)))
	out = protowire.AppendBytes(append(out, pathTag), path)
	return append(out, by...)
}
