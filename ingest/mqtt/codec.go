package mqtt

import (
	"bytes"
	"encoding/binary"

	"github.com/mochi-mqtt/server/v2/packets"
)

// encodePublish appends a PUBLISH to dst as the device's protocol version has it.
// The properties are MQTT 5 user properties; MQTT 3.1.1 has no place for them.
// A message beyond the device's maximum packet size is not appended: dst comes
// back as it was, and the message counts as delivered (MQTT 5 §3.1.2.11.4).
func (c *connection) encodePublish(dst []byte, topic string, qos byte, packetID uint16, props []packets.UserProperty, payload []byte) []byte {
	length, propsLength := 2+len(topic)+len(payload), 0
	if qos > 0 {
		length += 2
	}
	if c.version == mqtt5 {
		for i := range props {
			propsLength += 5 + len(props[i].Key) + len(props[i].Val)
		}
		length += lengthBytes(propsLength) + propsLength
	}
	if !c.fits(1 + lengthBytes(length) + length) {
		return dst
	}
	dst = append(dst, packets.Publish<<4|qos<<1)
	dst = binary.AppendUvarint(dst, uint64(length))
	dst = appendString(dst, topic)
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, packetID)
	}
	if c.version == mqtt5 {
		dst = binary.AppendUvarint(dst, uint64(propsLength))
		for i := range props {
			dst = append(dst, packets.PropUser)
			dst = appendString(dst, props[i].Key)
			dst = appendString(dst, props[i].Val)
		}
	}
	return append(dst, payload...)
}

// encodeSuback appends the answer to a SUBSCRIBE, one code a filter: the granted
// QoS, or an MQTT 5 reason code from 0x80 on, which MQTT 3.1.1 knows as 0x80 only
// (MQTT 3.1.1 §3.9.3, MQTT 5 §3.9.3).
func (c *connection) encodeSuback(dst []byte, packetID uint16, codes []byte) []byte {
	dst = c.appendAnswer(dst, packets.Suback, packetID, len(codes))
	for _, code := range codes {
		if c.version != mqtt5 {
			code = min(code, packets.ErrUnspecifiedError.Code)
		}
		dst = append(dst, code)
	}
	return dst
}

// encodeUnsuback appends the answer to an UNSUBSCRIBE, one MQTT 5 reason code a
// filter; MQTT 3.1.1 has none.
func (c *connection) encodeUnsuback(dst []byte, packetID uint16, codes []byte) []byte {
	if c.version != mqtt5 {
		codes = nil
	}
	return append(c.appendAnswer(dst, packets.Unsuback, packetID, len(codes)), codes...)
}

// appendAnswer begins a SUBACK or UNSUBACK, without properties.
func (c *connection) appendAnswer(dst []byte, kind byte, packetID uint16, codes int) []byte {
	length := 2 + codes
	if c.version == mqtt5 {
		length++
	}
	dst = append(dst, kind<<4)
	dst = binary.AppendUvarint(dst, uint64(length))
	dst = binary.BigEndian.AppendUint16(dst, packetID)
	if c.version == mqtt5 {
		dst = append(dst, 0)
	}
	return dst
}

// encodeReason makes a packet whose substance is an MQTT 5 reason: a refusing
// CONNACK, a PUBACK, or a DISCONNECT. The text is left out for a device that does
// not want it, or has no room for it (MQTT 5 §3.1.2.11.7, §3.4.2.2.2).
func (c *connection) encodeReason(kind byte, packetID uint16, code byte, text string) []byte {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, ProtocolVersion: mqtt5, PacketID: packetID, ReasonCode: code}
	if !c.quiet {
		pk.Properties.ReasonString = text
	}
	packet := encodePacket(&pk)
	if !c.fits(len(packet)) {
		pk.Properties.ReasonString = ""
		packet = encodePacket(&pk)
	}
	return packet
}

// encodePacket encodes a CONNACK, PUBACK or DISCONNECT.
func encodePacket(pk *packets.Packet) []byte {
	var buf bytes.Buffer // the codec's encoders fail for PUBLISH and (un)SUBSCRIBE only
	switch pk.FixedHeader.Type {
	case packets.Connack:
		_ = pk.ConnackEncode(&buf)
	case packets.Puback:
		_ = pk.PubackEncode(&buf)
	case packets.Disconnect:
		_ = pk.DisconnectEncode(&buf)
	}
	return buf.Bytes()
}

// decodeSubscribe reads a SUBSCRIBE. It sees to it that each filter has its
// options: the codec would read past the end of an MQTT 5 packet.
func (c *connection) decodeSubscribe(body []byte) (packets.Packet, error) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: c.version}
	if c.version == mqtt5 && !filtersComplete(body) {
		return pk, because(endMalformed, packets.ErrMalformedTopic)
	}
	if err := pk.SubscribeDecode(body); err != nil {
		return pk, because(endMalformed, err)
	}
	if len(pk.Properties.SubscriptionIdentifier) > 0 {
		return pk, endSubscriptionID
	}
	if code := pk.SubscribeValidate(); code != packets.CodeSuccess {
		return pk, because(endMalformed, code)
	}
	return pk, nil
}

// decodeUnsubscribe reads an UNSUBSCRIBE.
func (c *connection) decodeUnsubscribe(body []byte) (packets.Packet, error) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, ProtocolVersion: c.version}
	if err := pk.UnsubscribeDecode(body); err != nil {
		return pk, because(endMalformed, err)
	}
	if code := pk.UnsubscribeValidate(); code != packets.CodeSuccess {
		return pk, because(endMalformed, code)
	}
	return pk, nil
}

// filtersComplete reports whether an MQTT 5 SUBSCRIBE is a list of filters, each
// followed by its options (MQTT 5 §3.8.3).
func filtersComplete(body []byte) bool {
	if len(body) < 2 {
		return false
	}
	properties, head, err := packets.DecodeLength(bytes.NewReader(body[2:]))
	if err != nil || properties > len(body) {
		return false
	}
	at := 2 + head + properties
	for at+2 <= len(body) {
		at += 2 + int(binary.BigEndian.Uint16(body[at:])) + 1
	}
	return at == len(body)
}

// fits reports whether the device takes a packet of so many bytes.
func (c *connection) fits(size int) bool { return c.maxPacket == 0 || size <= int(c.maxPacket) }

// lengthBytes is how long a variable byte integer is (MQTT 5 §1.5.5).
func lengthBytes(n int) int {
	bytes := 1
	for ; n > 0x7f; n >>= 7 {
		bytes++
	}
	return bytes
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}
