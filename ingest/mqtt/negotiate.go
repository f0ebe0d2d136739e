package mqtt

import (
	"bytes"
	"math"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	mqtt5 = 5 // protocol level (MQTT 5 §3.1.2.2)
	// maxSessionExpiry is how long an MQTT 5 session outlives its connection at most.
	maxSessionExpiry = 24 * time.Hour
	// neverExpires is the session expiry of an MQTT 3.1.1 device that connects with
	// CleanSession 0 (MQTT 5 §3.1.2.11.2 has the correspondence).
	neverExpires time.Duration = math.MaxInt64
	// minClientPacket is the smallest maximum packet size we can live with: our
	// CONNACK must fit.
	minClientPacket = 64
)

// protocolVersion is the protocol level of a CONNECT, 0 when it is of another
// protocol. It is read first, because what follows depends on it.
func protocolVersion(connect []byte) byte {
	name := []byte{0, 4, 'M', 'Q', 'T', 'T'}
	if !bytes.HasPrefix(connect, name) || len(connect) == len(name) {
		return 0
	}
	return connect[len(name)]
}

// negotiate notes what the device asks of the connection.
func (c *connection) negotiate(pk *packets.Packet) error {
	c.cleanStart, c.receiveMaximum = pk.Connect.Clean, math.MaxUint16
	if c.version != mqtt5 {
		if !c.cleanStart {
			c.sessionExpiry = neverExpires
		}
		return nil
	}
	p := &pk.Properties
	c.quiet = p.RequestProblemInfoFlag && p.RequestProblemInfo == 0
	if p.ReceiveMaximum > 0 {
		c.receiveMaximum = p.ReceiveMaximum
	}
	if p.MaximumPacketSize > 0 && p.MaximumPacketSize < minClientPacket {
		return endSmallPackets
	}
	c.maxPacket = p.MaximumPacketSize
	c.grantExpiry(p.SessionExpiryInterval)
	if p.AuthenticationMethod != "" || len(p.AuthenticationData) > 0 {
		return endAuthMethod
	}
	return nil
}

// grantExpiry sets how long the session outlives the connection.
func (c *connection) grantExpiry(seconds uint32) {
	c.sessionExpiry = min(time.Duration(seconds)*time.Second, maxSessionExpiry)
}

// connack lets the device in. MQTT 5 devices hear of every limit, so that they
// need not run into it (MQTT 5 §3.2.2.3).
func (c *connection) connack() []byte {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: c.version, SessionPresent: c.sessionPresent}
	if c.version == mqtt5 {
		pk.Properties = packets.Properties{
			SessionExpiryInterval: uint32(c.sessionExpiry / time.Second), SessionExpiryIntervalFlag: true,
			// A device that sends more meets back-pressure, not an error: its socket is
			// not read while the window is full.
			ReceiveMaximum: uint16(min(c.gateway.cfg.Inflight, math.MaxUint16)),
			MaximumQos:     1, MaximumQosFlag: true,
			// The flag is kept as a property of the message (FEATURES.md MQTT-06).
			RetainAvailable: 1, RetainAvailableFlag: true,
			MaximumPacketSize:    maxPacketBytes,
			TopicAliasMaximum:    maxAliases,
			WildcardSubAvailable: 1, WildcardSubAvailableFlag: true,
			SubIDAvailable: 0, SubIDAvailableFlag: true,
			SharedSubAvailable: 0, SharedSubAvailableFlag: true,
		}
		if c.keepAlive == maxKeepAlive { // perhaps less than was asked for
			pk.Properties.ServerKeepAlive, pk.Properties.ServerKeepAliveFlag = uint16(maxKeepAlive/time.Second), true
		}
	}
	return encodePacket(&pk)
}

// refuseConnect answers a CONNECT that is not accepted, in the form of the
// version it came in. What was not recognised as a CONNECT gets no answer.
func (c *connection) refuseConnect(err error) {
	switch refusal, code := endingOf(err).refusal, connackCode(err); {
	case c.version >= mqtt5 && code != 0:
		c.out.send(c.encodeReason(packets.Connack, 0, code, reasonText(err))...)
	case c.version < mqtt5 && refusal != 0:
		c.out.send(packets.Connack<<4, 2, 0, refusal)
	default:
		return
	}
	c.out.drained()
}
