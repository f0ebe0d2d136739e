package mqtt

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/mochi-mqtt/server/v2/packets"
)

// ending is why a connection ended, or was not let in: its name counts it in the
// metrics, its advice tells the person who reads the log what to do.
type ending struct {
	reason string
	advice string
	// refusal is the CONNACK return code (MQTT 3.1.1 §3.2.2.3) for an ending in
	// the handshake, 0 for none.
	refusal byte
	// code is the MQTT 5 reason code of the DISCONNECT that announces the ending, and
	// of a CONNACK where refusal says nothing (MQTT 5 §3.14.2.1, §3.2.2.2); 0 where
	// nobody is there to read it.
	code byte
	// puback is the MQTT 5 reason code with which a message is refused and the
	// connection goes on (MQTT 5 §3.4.2.1); 0 when it cannot.
	puback byte
	// secret endings are told to nobody in detail: a stranger must not learn which
	// devices exist.
	secret bool
	// graceful endings let what is under way be answered first.
	graceful bool
	// expected endings are everyday life and not worth a line in the log.
	expected bool
}

func (e *ending) Error() string {
	if e.advice == "" {
		return e.reason
	}
	return e.reason + ": " + e.advice
}

// CONNACK return codes (MQTT 3.1.1 table 3.1).
const (
	refusedProtocol    = 0x01
	refusedClientID    = 0x02
	refusedUnavailable = 0x03
	refusedUserName    = 0x04
	refusedAuth        = 0x05
)

// The endings. Nothing else ends a connection.
var (
	endDisconnected = &ending{reason: "disconnected", expected: true, graceful: true}
	endGone         = &ending{reason: "connection_lost", expected: true}
	endShutdown     = &ending{reason: "shutdown", expected: true, graceful: true, code: 0x8B}
	endTakenOver    = &ending{reason: "taken_over", advice: "another connection with the same device id came; give each device its own id", code: 0x8E}
	endSilent       = &ending{reason: "keep_alive_timeout", advice: "the device sent nothing for 1.5 times its keep-alive", code: 0x8D}
	endSlowSender   = &ending{reason: "slow_sender", advice: "a packet was begun and not ended within a minute", code: 0x99}
	endTokenExpired = &ending{reason: "token_expired", advice: "the SAS token's or certificate's time is over, or has not come; reconnect with a new one", refusal: refusedAuth, code: 0xA0}
	endBlocked      = &ending{reason: "device_blocked", advice: "the device is disabled or deleted; enable it with PATCH /api/devices/{id} {\"enabled\":true}", refusal: refusedAuth, code: 0x98}
	endWaiting      = &ending{reason: "waiting_for_approval", advice: "the device registered itself and waits; approve it with POST /api/devices/{id}/approve", refusal: refusedAuth, code: 0x87}
	endGroupOff     = &ending{reason: "group_disabled", advice: "the device's enrollment group is disabled or deleted; enable it with PATCH /api/enrollmentGroups/{id} {\"enabled\":true}", refusal: refusedAuth, code: 0x98}
	endRevoked      = &ending{reason: "credential_changed", advice: "the credential that the device was let in by was changed; it connects again with its present one", expected: true, code: 0x87}
	endSlowReader   = &ending{reason: "slow_reader", advice: "the device sends but does not read its acknowledgements"}
	endLogFailed    = &ending{reason: "log_failed", advice: "the log did not take the message; the device sends it again", code: 0x89}

	endRestless     = &ending{reason: "restless_subscriptions", advice: "wait for SUBACK and UNSUBACK before changing subscriptions again", code: 0x96}
	endMalformed    = &ending{reason: "malformed_packet", advice: "the bytes are not MQTT", code: 0x81}
	endTooLarge     = &ending{reason: "packet_too_large", advice: "a message has at most 256 KiB", code: 0x95, puback: 0x97}
	endThrottled    = &ending{reason: "throttled", advice: "the device or its tenant sends more than it may; send it again later", code: 0x97, puback: 0x97}
	endQoS2         = &ending{reason: "qos_2", advice: "publish with QoS 0 or 1", code: 0x9B}
	endForeignTopic = &ending{reason: "foreign_topic", advice: "publish to devices/{deviceId}/messages/events/{property-bag}, for another device only as its gateway", code: 0x90, puback: 0x90}
	endBadBag       = &ending{reason: "bad_property_bag", advice: "write the topic's property bag as percent-encoded key=value pairs joined by &", code: 0x90, puback: 0x90}
	endBadBatch     = &ending{reason: "bad_batch", advice: `a batch is a JSON array of up to 1000 events like {"ts":"2026-01-02T03:04:05Z","body":{}}`, code: 0x99, puback: 0x99}
	// Only MQTT 5 has what these are about.
	endTopicAlias     = &ending{reason: "bad_topic_alias", advice: "use aliases 1 to 16, each for a topic of at most 4 KiB that came with it before", code: 0x94}
	endProperties     = &ending{reason: "too_many_properties", advice: "a message has at most 64 user properties and 16 KiB of properties", code: 0x97, puback: 0x97}
	endPayloadFormat  = &ending{reason: "bad_payload_format", advice: "payload format 1 says that the payload is UTF-8; it is not", code: 0x99, puback: 0x99}
	endSubscriptionID = &ending{reason: "subscription_identifier", advice: "subscription identifiers are not available; subscribe without one", code: 0xA1}
	endAuthMethod     = &ending{reason: "authentication_method", advice: "enhanced authentication is not available; connect with a user name and a SAS token", code: 0x8C}
	endSmallPackets   = &ending{reason: "small_packets", advice: "a maximum packet size below 64 bytes leaves no room for a CONNACK", code: 0x95}

	endProtocol      = &ending{reason: "unsupported_protocol", advice: "connect with MQTT 3.1.1 or 5", refusal: refusedProtocol}
	endClientID      = &ending{reason: "bad_client_id", advice: "the client id is the device id, or {deviceId}/{moduleId}", refusal: refusedClientID}
	endUserName      = &ending{reason: "bad_user_name", advice: "the user name is {host}/{deviceId}/?api-version=2021-04-12", refusal: refusedUserName}
	endPassword      = &ending{reason: "bad_token", advice: "the password is a SAS token for {host}/devices/{deviceId}; leave it out when the TLS client certificate is the credential", refusal: refusedUserName}
	endUnknownDevice = &ending{reason: "unknown_device", advice: "create it first with PUT /api/devices/{id}", refusal: refusedAuth, secret: true}
	endSignature     = &ending{reason: "wrong_key", advice: "sign the SAS token with a key from GET /api/devices/{id}/credentials, or show the device's own certificate", refusal: refusedAuth, secret: true}
	endRegistrant    = &ending{reason: "registration_refused", advice: "the credential fits no enrollment group and no attestation of the device's own, or the id scope is unknown", refusal: refusedAuth}
	endRegistered    = &ending{reason: "registration_timeout", advice: "a connection for provisioning ends after ten minutes", expected: true}
	endWill          = &ending{reason: "last_will", advice: "a will goes to devices/{deviceId}/messages/events/ with QoS 0 or 1", refusal: refusedAuth}
	endNotReady      = &ending{reason: "not_ready", advice: "the gateway is still reading the device registry; the device tries again", refusal: refusedUnavailable}
	endHandshake     = &ending{reason: "handshake_timeout", advice: "no complete CONNECT in time"}
	endTLS           = &ending{reason: "tls_failed", advice: "the TLS handshake failed; the device must trust <data-dir>/tls/ca.pem and speak TLS 1.2 or later"}
	endCrowded       = &ending{reason: "too_many_connections", advice: "raise --max-connections or the limit of open files"}
)

// because adds what exactly happened to an ending.
func because(e *ending, cause error) error {
	if cause == nil {
		return e
	}
	return fmt.Errorf("%w (%w)", e, cause)
}

// endingOf finds the ending in an error.
func endingOf(err error) *ending {
	var e *ending
	if errors.As(err, &e) {
		return e
	}
	return endGone
}

// readEnding is the ending that a failed read means.
func readEnding(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return because(endTooLarge, err)
	case errors.Is(err, packets.ErrMalformedVariableByteInteger):
		return because(endMalformed, err)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return endGone
	}
	return because(endGone, err)
}
