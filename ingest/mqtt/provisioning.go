package mqtt

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/ingest/provisioning"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"
)

// This file is the device provisioning service over MQTT 3.1.1 (FEATURES.md
// PROV-06..PROV-10): a connection of its own kind, which registers one device,
// asks what became of it, and is gone. It is no device's connection and takes
// none over.

const (
	// registrationLife bounds such a connection.
	registrationLife = 10 * time.Minute
	// registrationRate and registrationBurst bound its requests: Azure's five in
	// ten seconds (FEATURES.md §17.3), with room for impatience.
	registrationRate  = rate.Limit(1)
	registrationBurst = 10

	registrationFilter = "$dps/registrations/res/#"
	registerTopic      = "$dps/registrations/PUT/iotdps-register/"
	operationTopic     = "$dps/registrations/GET/iotdps-get-operationstatus/"
)

// parseRegistrant takes apart the user name of a device that comes to be
// provisioned: `{idScope}/registrations/{registrationId}/api-version=…` (PROV-07).
// It is not ok for any other user name.
func parseRegistrant(name string) (idScope, registrationID string, ok bool) {
	parts := strings.SplitN(name, "/", 4)
	if len(parts) != 4 || parts[0] == "" || parts[1] != "registrations" || parts[2] == "" {
		return "", "", false
	}
	query := strings.TrimPrefix(parts[3], "?")
	if _, err := url.ParseQuery(withoutSemicolons(query)); err != nil || !strings.HasPrefix(query, "api-version=") {
		return "", "", false
	}
	return parts[0], parts[2], true
}

// connectRegistrant lets in a device that comes to be provisioned.
func (c *connection) connectRegistrant(idScope, id string, pk *packets.Packet) error {
	registrar := c.gateway.cfg.Registrar
	switch {
	case registrar == nil:
		return because(endRegistrant, errNoRegistrar)
	case pk.ProtocolVersion != mqtt311:
		return endProtocol
	case pk.Connect.ClientIdentifier != id:
		return endClientID
	}
	c.device = clip(id)
	who, err := registrar.Authenticate(idScope, id, c.credential(string(pk.Connect.Password)))
	if err != nil {
		return registrantRefusal(err)
	}
	c.registrant = &who
	c.keepAlive = min(time.Duration(pk.Connect.Keepalive)*time.Second, maxKeepAlive)
	c.expires = now().Add(registrationLife)
	if who.Expires.Before(c.expires) {
		c.expires = who.Expires
	}
	return nil
}

var (
	errNoRegistrar = errors.New("this gateway does not provision devices")
	errNotAnswered = errors.New("a device that comes to be provisioned publishes to $dps/registrations/PUT/iotdps-register and $dps/registrations/GET/iotdps-get-operationstatus only, after it has subscribed to " + registrationFilter)
)

func registrantRefusal(err error) error {
	if provisioning.AsFault(err).Status >= 500 {
		return because(endNotReady, err)
	}
	if errors.Is(err, deviceauth.ErrExpired) {
		return because(endTokenExpired, err)
	}
	return because(endRegistrant, err)
}

// registration is the session of a device that is being provisioned.
type registration struct {
	*connection
	subscribed bool
	requests   *rate.Limiter
}

// serveRegistrant runs the session to its end and says why it ended. It answers
// each request before it reads the next.
func (c *connection) serveRegistrant(ctx context.Context) error {
	s := &registration{connection: c, requests: rate.NewLimiter(registrationRate, registrationBurst)}
	s.reader.limit = provisioning.MaxBodyBytes + maxConnectBytes
	s.out.send(packets.Connack<<4, 2, 0, 0) // PROV-10: no session is ever present
	for {
		first, body, err := s.reader.next()
		if err != nil {
			return s.readError(err)
		}
		if err := s.packet(ctx, first, body); err != nil {
			return err
		}
	}
}

// readError knows that such a connection's time may be over.
func (s *registration) readError(err error) error {
	why := s.connection.readError(err)
	if errors.Is(why, endTokenExpired) && s.registrant.Expires.After(now()) {
		return endRegistered
	}
	return why
}

func (s *registration) packet(ctx context.Context, first byte, body []byte) error {
	pk := packets.Packet{ProtocolVersion: mqtt311}
	if err := pk.FixedHeader.Decode(first); err != nil {
		if first>>4 == packets.Publish && first&0x06 == 0x06 {
			return endQoS2
		}
		return because(endMalformed, err)
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return s.handleRequest(ctx, &pk, body)
	case packets.Subscribe:
		return s.subscribe(&pk, body)
	case packets.Unsubscribe:
		return s.unsubscribe(body)
	case packets.Pingreq:
		s.out.send(packets.Pingresp<<4, 0)
		return nil
	case packets.Disconnect:
		return endDisconnected
	default:
		return because(endMalformed, errUnexpectedPacket)
	}
}

// subscribe grants the one filter there is, at QoS 0 or 1 (PROV-10).
func (s *registration) subscribe(pk *packets.Packet, body []byte) error {
	if err := pk.SubscribeDecode(body); err != nil {
		return because(endMalformed, err)
	}
	if pk.PacketID == 0 || len(pk.Filters) == 0 || len(pk.Filters) > maxFilters {
		return because(endMalformed, errUnexpectedPacket)
	}
	suback := []byte{packets.Suback << 4, byte(2 + len(pk.Filters)), byte(pk.PacketID >> 8), byte(pk.PacketID)}
	for _, f := range pk.Filters {
		granted := packets.ErrUnspecifiedError.Code
		if f.Filter == registrationFilter {
			s.subscribed, granted = true, min(f.Qos, 1)
		}
		suback = append(suback, granted)
	}
	s.out.send(suback...)
	return nil
}

func (s *registration) unsubscribe(body []byte) error {
	pk, err := s.decodeUnsubscribe(body)
	if err != nil {
		return err
	}
	s.subscribed = false
	s.out.send(packets.Unsuback<<4, 2, byte(pk.PacketID>>8), byte(pk.PacketID))
	return nil
}

// handleRequest acknowledges a PUBLISH and publishes what it asks for.
func (s *registration) handleRequest(ctx context.Context, pk *packets.Packet, body []byte) error {
	if pk.FixedHeader.Qos > 1 {
		return endQoS2
	}
	if err := pk.PublishDecode(body); err != nil {
		return because(endMalformed, err)
	}
	if pk.FixedHeader.Qos == 1 && pk.PacketID == 0 {
		return because(endMalformed, packets.ErrProtocolViolationNoPacketID)
	}
	req, ok := parseRegistrationTopic(pk.TopicName)
	if !ok || !s.subscribed {
		return because(endForeignTopic, errNotAnswered)
	}
	if pk.FixedHeader.Qos == 1 {
		s.out.send(packets.Puback<<4, 2, byte(pk.PacketID>>8), byte(pk.PacketID))
	}
	status, retry, answer := s.perform(ctx, req, pk.Payload)
	if !s.out.send(publishAnswer(responseTopic(status, req.rid, retry), answer)...) {
		return endSlowReader
	}
	return nil
}

// perform does a request and says with which status and body it is answered, and
// when the device should ask again (0: not).
func (s *registration) perform(ctx context.Context, req registrationRequest, body []byte) (status int, retry time.Duration, answer []byte) {
	registrar := s.gateway.cfg.Registrar
	op, err := provisioning.Operation{}, error(provisioning.Throttled())
	if s.requests.Allow() {
		if req.register {
			op, err = registrar.Register(ctx, *s.registrant, body)
		} else {
			op, err = registrar.Operation(*s.registrant, s.hub(), req.operation)
		}
	}
	if err != nil {
		f := provisioning.AsFault(err)
		s.gateway.warn("registration failed", "device", s.device, "status", f.Status, "error", f)
		if f.Status >= 429 {
			retry = provisioning.RetryAfter
		}
		return f.Status, retry, f.JSON()
	}
	if op.Status == provisioning.StatusAssigning {
		return 202, provisioning.RetryAfter, op.JSON()
	}
	return 200, 0, op.JSON()
}

// hub is the host name that the device is told to connect to: the configured
// one, else the one it asked for in the TLS handshake, else the address it
// reached.
func (s *registration) hub() string {
	if s.gateway.cfg.HubName != "" {
		return s.gateway.cfg.HubName
	}
	if name := serverName(s.conn); name != "" {
		return name
	}
	host, _, _ := net.SplitHostPort(s.conn.LocalAddr().String())
	return host
}

// registrationRequest is what a topic asks for.
type registrationRequest struct {
	register  bool // else: the status of the operation
	rid       string
	operation string
}

// parseRegistrationTopic takes a request's topic apart (PROV-08, PROV-09).
func parseRegistrationTopic(topic string) (req registrationRequest, ok bool) {
	query, register := strings.CutPrefix(topic, registerTopic+"?")
	if !register {
		if query, ok = strings.CutPrefix(topic, operationTopic+"?"); !ok {
			return registrationRequest{}, false
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return registrationRequest{}, false
	}
	req = registrationRequest{register: register, rid: values.Get("$rid"), operation: values.Get("operationId")}
	return req, req.rid != "" && len(req.rid) <= maxRequestID && (register || req.operation != "")
}

func responseTopic(status int, rid string, retry time.Duration) string {
	topic := "$dps/registrations/res/" + strconv.Itoa(status) + "/?$rid=" + url.QueryEscape(rid)
	if retry > 0 {
		topic += "&retry-after=" + strconv.Itoa(int(retry.Seconds()))
	}
	return topic
}

// publishAnswer is a PUBLISH with QoS 0: the device that asked is there, and asks
// again when an answer is lost with its connection.
func publishAnswer(topic string, payload []byte) []byte {
	length := 2 + len(topic) + len(payload)
	p := binary.AppendUvarint([]byte{packets.Publish << 4}, uint64(length)) // MQTT's remaining length is a varint (§2.2.3)
	p = binary.BigEndian.AppendUint16(p, uint16(len(topic)))
	return append(append(p, topic...), payload...)
}
