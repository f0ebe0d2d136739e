package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	mqtt311 = 4 // protocol level (MQTT 3.1.1 §3.1.2.2)
	// handshakeTimeout bounds TLS and CONNECT together.
	handshakeTimeout = 10 * time.Second
	// maxConnectBytes bounds what a stranger can make us hold.
	maxConnectBytes = 8 << 10
	// maxPayloadBytes is IoT Hub's largest device-to-cloud message (FEATURES.md
	// HUB-07), maxPacketBytes leaves room for its topic.
	maxPayloadBytes = 256 << 10
	maxPacketBytes  = maxPayloadBytes + 16<<10
	// maxKeepAlive is the largest keep-alive that IoT Hub honours (MQTT-08).
	maxKeepAlive = 1177 * time.Second
)

// handshake lets the device in: TLS, CONNECT, user name, SAS token, registry. A
// refusal is answered with its CONNACK.
func (c *connection) handshake(ctx context.Context) error {
	if err := c.conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return because(endGone, err)
	}
	if conn, ok := c.conn.(*tls.Conn); ok {
		if err := conn.HandshakeContext(ctx); err != nil {
			return because(endTLS, err)
		}
	}
	if err := c.connect(); err != nil {
		c.refuseConnect(err)
		return err
	}
	c.reader.limit = maxPacketBytes
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return because(endGone, err)
	}
	return nil
}

// connect reads the CONNECT packet and checks what it claims.
func (c *connection) connect() error {
	first, body, err := c.reader.next()
	if err != nil {
		if ending := c.readError(err); !errors.Is(ending, endSilent) {
			return ending
		}
		return endHandshake
	}
	if first != packets.Connect<<4 {
		return because(endMalformed, errUnexpectedPacket)
	}
	var pk packets.Packet
	pk.FixedHeader.Type = packets.Connect
	if c.version = protocolVersion(body); c.version > mqtt5 {
		return endProtocol
	}
	if err := pk.ConnectDecode(body); err != nil {
		return because(endMalformed, err)
	}
	if c.version < mqtt311 {
		return endProtocol
	}
	// An empty password is none: so write devices that show a certificate (PROV-07).
	pk.Connect.PasswordFlag = pk.Connect.PasswordFlag && len(pk.Connect.Password) > 0
	if code := pk.ConnectValidate(); code != packets.CodeSuccess {
		return because(endMalformed, code)
	}
	if err := c.negotiate(&pk); err != nil {
		return err
	}
	if scope, id, ok := parseRegistrant(string(pk.Connect.Username)); ok {
		return c.connectRegistrant(scope, id, &pk)
	}
	name, err := parseUserName(string(pk.Connect.Username))
	if err != nil {
		return err
	}
	if pk.Connect.ClientIdentifier != name.clientID() {
		return endClientID
	}
	c.module, c.modelID = name.module, name.modelID
	if err := c.authenticate(name.host, name.device, string(pk.Connect.Password)); err != nil {
		return err
	}
	c.keepAlive = min(time.Duration(pk.Connect.Keepalive)*time.Second, maxKeepAlive)
	c.introduce()
	return c.takeWill(&pk)
}

// introduce makes what all of the device's records have in common. The id names
// this connection among all connections ever, so that with the sequence number
// each event has its own (CloudEvents 1.0 §id).
func (c *connection) introduce() {
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	c.id = append(base64.RawURLEncoding.AppendEncode(nil, random[:]), '.')
	c.session.id = string(c.id[:len(c.id)-1])
	path := resource(c.device, c.module)
	c.self = origin{key: eventlog.Key(c.tenant, c.device), source: []byte("/devices/" + path)}
	c.from = &c.self
	c.prefix = telemetryTopic(path)
}
