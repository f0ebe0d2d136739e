package mqtt

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// maxAliases is how many topics a connection may abbreviate, maxAliasedBytes how
	// long each may be: we remember them.
	maxAliases      = 16
	maxAliasedBytes = 4 << 10
	// maxPropertyBytes and maxUserProperties bound what comes with one message.
	maxPropertyBytes  = 16 << 10
	maxUserProperties = 64
)

// takeProperties takes the MQTT 5 properties (MQTT 5 §3.3.2.3) off a message that
// was decoded as MQTT 3.1.1, where they lead the payload. Nearly all messages have
// none, or a topic alias alone; these cost nothing.
func (c *connection) takeProperties(pk *packets.Packet) error {
	switch p := pk.Payload; {
	case len(p) > 0 && p[0] == 0:
		pk.Payload = p[1:]
		return named(pk)
	case len(p) >= 4 && p[0] == 3 && p[1] == packets.PropTopicAlias:
		pk.Payload = p[4:]
		return c.resolve(pk, binary.BigEndian.Uint16(p[2:]))
	}
	return c.readProperties(pk)
}

// readProperties makes the properties a part of the topic's property bag, and so
// of the record, as an MQTT 3.1.1 device would have written it:
//
//   - content type is `$.ct`; correlation data is `$.cid`, in base64url if it is not
//     text; payload format 1 is `$.ce=utf-8`, and checked; user properties are
//     application properties under their own names, `$.sub` and
//     `iothub-creation-time-utc` included;
//   - of a name that comes more than once the first counts, in this order: the
//     topic's bag, the properties above, user properties as they stand;
//   - message expiry and response topic mean nothing to a log and are left out.
func (c *connection) readProperties(pk *packets.Packet) error {
	length, head, err := packets.DecodeLength(bytes.NewReader(pk.Payload))
	if err != nil || head > 4 || length > len(pk.Payload)-head {
		return because(endMalformed, packets.ErrMalformedProperties)
	}
	encoded := pk.Payload[:head+length]
	pk.Payload = pk.Payload[head+length:]
	if length > maxPropertyBytes {
		return endProperties
	}
	var p packets.Properties
	if _, err := p.Decode(packets.Publish, bytes.NewBuffer(encoded)); err != nil {
		return because(endMalformed, err)
	}
	if len(p.SubscriptionIdentifier) > 0 {
		return because(endMalformed, packets.ErrProtocolViolationSurplusSubID)
	}
	if p.TopicAliasFlag {
		err = c.resolve(pk, p.TopicAlias)
	} else {
		err = named(pk)
	}
	if err != nil {
		return err
	}
	if len(p.User) > maxUserProperties {
		return endProperties
	}
	var pairs []packets.UserProperty
	if p.ContentType != "" {
		pairs = append(pairs, packets.UserProperty{Key: "$.ct", Val: p.ContentType})
	}
	if len(p.CorrelationData) > 0 {
		pairs = append(pairs, packets.UserProperty{Key: "$.cid", Val: text(p.CorrelationData)})
	}
	if p.PayloadFormat != 0 {
		if p.PayloadFormat != 1 || !utf8.Valid(pk.Payload) {
			return endPayloadFormat
		}
		pairs = append(pairs, packets.UserProperty{Key: "$.ce", Val: "utf-8"})
	}
	pk.TopicName = extendBag(pk.TopicName, c.prefixOf(pk.TopicName), append(pairs, p.User...))
	return nil
}

// named refuses a message with neither topic nor alias.
func named(pk *packets.Packet) error {
	if pk.TopicName == "" {
		return because(endMalformed, packets.ErrProtocolViolationNoTopic)
	}
	return nil
}

// resolve puts the topic in for its alias, or remembers it (MQTT 5 §3.3.2.3.4).
func (c *connection) resolve(pk *packets.Packet, alias uint16) error {
	if alias == 0 || alias > maxAliases || len(pk.TopicName) > maxAliasedBytes {
		return endTopicAlias
	}
	if c.aliases == nil {
		c.aliases = make([]string, maxAliases+1)
	}
	topic := &c.aliases[alias]
	switch {
	case pk.TopicName == "" && *topic == "":
		return endTopicAlias
	case pk.TopicName == "":
		pk.TopicName = *topic
	case pk.TopicName != *topic:
		*topic = strings.Clone(pk.TopicName)
	}
	return nil
}

// extendBag adds properties to the bag of a telemetry topic, the ones it has not.
// Other topics have no bag and stay as they are.
func extendBag(topic, prefix string, pairs []packets.UserProperty) string {
	if topic+"/" == prefix {
		topic = prefix
	}
	bag, ok := strings.CutPrefix(topic, prefix)
	if !ok || len(pairs) == 0 {
		return topic
	}
	bag = strings.TrimSuffix(bag, "/")
	seen := bagKeys(bag)
	var b strings.Builder
	b.WriteString(prefix)
	b.WriteString(bag)
	separate := strings.TrimPrefix(bag, "?") != ""
	for _, p := range pairs {
		if seen[p.Key] {
			continue
		}
		seen[p.Key] = true
		if separate {
			b.WriteByte('&')
		}
		separate = true
		b.WriteString(encodeBagText(p.Key))
		b.WriteByte('=')
		b.WriteString(encodeBagText(p.Val))
	}
	return b.String()
}

// bagKeys are the names in a property bag.
func bagKeys(bag string) map[string]bool {
	keys := map[string]bool{}
	for pair := range strings.SplitSeq(strings.TrimPrefix(bag, "?"), "&") {
		key, _, _ := strings.Cut(pair, "=")
		if key, err := url.PathUnescape(key); err == nil { // a bad one is refused with its bag
			keys[key] = true
		}
	}
	return keys
}

// bagReplacer makes of a query's encoding a property bag's, where a plus is a
// plus and the dollar of system properties is written plainly.
var bagReplacer = strings.NewReplacer("+", "%20", "%24", "$")

func encodeBagText(s string) string { return bagReplacer.Replace(url.QueryEscape(s)) }

// text is binary data as text.
func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
