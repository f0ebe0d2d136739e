package mqtt

import (
	"strings"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxKnownChildren bounds how many children a gateway's connection remembers.
const maxKnownChildren = 4096

// origin is what the records of one device or module have in common.
type origin struct {
	key, source []byte
	gateway     []byte // who published for it; nil when it did itself
}

// family is what a gateway's connection knows of its children, as long as nothing
// about anybody's children has changed.
type family struct {
	generation uint64
	children   map[string]*origin
}

// familyChanged reports whether a change can make a gateway's right to publish
// for the device begin or end.
func familyChanged(before, after *eventsv1.DeviceState) bool {
	if before.GetParent() == "" && after.GetParent() == "" {
		return false
	}
	return before.GetParent() != after.GetParent() || before.GetEnabled() != after.GetEnabled() || device.Exists(before) != device.Exists(after)
}

// outdated reports whether the last message was a child's and its parent may be
// another one by now.
func (c *connection) outdated() bool {
	return c.from.gateway != nil && c.family.generation != c.gateway.families.Load()
}

// childTopic takes apart the telemetry topic of another device.
func childTopic(topic string) (child, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(topic, "devices/")
	if !ok {
		return "", "", false
	}
	child, rest, ok = strings.Cut(rest, "/")
	if !ok || rest != "messages/events" && !strings.HasPrefix(rest, "messages/events/") {
		return "", "", false
	}
	return child, telemetryTopic(child), true
}

// prefixOf is where the property bag of a telemetry topic begins.
func (c *connection) prefixOf(topic string) string {
	if !strings.HasPrefix(topic, c.prefix) {
		if _, prefix, ok := childTopic(topic); ok {
			return prefix
		}
	}
	return c.prefix
}

// child finds the device a topic names, for which this one may publish when it
// is its gateway.
func (c *connection) child(topic string) (*origin, bag, error) {
	id, prefix, ok := childTopic(topic)
	if !ok || c.module != "" {
		return nil, bag{}, endForeignTopic
	}
	if generation := c.gateway.families.Load(); c.family.children == nil || c.family.generation != generation || len(c.family.children) >= maxKnownChildren {
		c.family = family{generation: generation, children: map[string]*origin{}}
	}
	from := c.family.children[id]
	if from == nil {
		if device.ValidateID(id) != nil || !device.IsChildOf(c.gateway.registry.Get(c.tenant, id), c.device) {
			return nil, bag{}, endForeignTopic
		}
		id = strings.Clone(id) // the topic's bytes are the reader's
		from = &origin{key: eventlog.Key(c.tenant, id), source: []byte("/devices/" + id), gateway: []byte(c.device)}
		c.family.children[id] = from
	}
	b, err := parseTopic(topic, prefix)
	return from, b, err
}

// setTopic keeps what a topic says, because a device's next message most often
// has the very same one.
func (c *connection) setTopic(topic string) error {
	from := &c.self
	var b bag
	var err error
	if strings.HasPrefix(topic, c.prefix) || topic+"/" == c.prefix {
		b, err = parseTopic(topic, c.prefix)
	} else {
		from, b, err = c.child(topic)
	}
	if err != nil {
		return err
	}
	c.topic, c.bag, c.from = strings.Clone(topic), b, from
	c.bagHeaders = c.bagHeaders[:0]
	add := func(key, value string) {
		if value != "" {
			c.bagHeaders = append(c.bagHeaders, kgo.RecordHeader{Key: key, Value: []byte(value)})
		}
	}
	if b.batch {
		b.contentType = eventlog.ContentTypeJSON // of each event in it
	}
	add(eventlog.HeaderContentType, b.contentType)
	add(eventlog.HeaderSubject, b.component)
	add(eventlog.HeaderProperties, b.raw)
	add(eventlog.HeaderGateway, string(from.gateway))
	return nil
}
