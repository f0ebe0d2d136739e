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
	endShutdown     = &ending{reason: "shutdown", expected: true, graceful: true}
	endTakenOver    = &ending{reason: "taken_over", advice: "another connection with the same device id came; give each device its own id"}
	endSilent       = &ending{reason: "keep_alive_timeout", advice: "the device sent nothing for 1.5 times its keep-alive"}
	endTokenExpired = &ending{reason: "token_expired", advice: "the SAS token's or certificate's time is over, or has not come; reconnect with a new one", refusal: refusedAuth}
	endBlocked      = &ending{reason: "device_blocked", advice: "the device is disabled or deleted; enable it with PATCH /api/devices/{id} {\"enabled\":true}", refusal: refusedAuth}
	endWaiting      = &ending{reason: "waiting_for_approval", advice: "the device registered itself and waits; approve it with POST /api/devices/{id}/approve", refusal: refusedAuth}
	endGroupOff     = &ending{reason: "group_disabled", advice: "the device's enrollment group is disabled or deleted; enable it with PATCH /api/enrollmentGroups/{id} {\"enabled\":true}", refusal: refusedAuth}
	endRevoked      = &ending{reason: "credential_changed", advice: "the credential that the device was let in by was changed; it connects again with its present one", expected: true}
	endSlowReader   = &ending{reason: "slow_reader", advice: "the device sends but does not read its acknowledgements"}
	endLogFailed    = &ending{reason: "log_failed", advice: "the log did not take the message; the device sends it again"}

	endMalformed    = &ending{reason: "malformed_packet", advice: "the bytes are not MQTT 3.1.1"}
	endTooLarge     = &ending{reason: "packet_too_large", advice: "a message has at most 256 KiB"}
	endQoS2         = &ending{reason: "qos_2", advice: "publish with QoS 0 or 1"}
	endForeignTopic = &ending{reason: "foreign_topic", advice: "publish to devices/{deviceId}/messages/events/{property-bag}"}
	endBadBag       = &ending{reason: "bad_property_bag", advice: "write the topic's property bag as percent-encoded key=value pairs joined by &"}

	endProtocol      = &ending{reason: "unsupported_protocol", advice: "connect with MQTT 3.1.1", refusal: refusedProtocol}
	endClientID      = &ending{reason: "bad_client_id", advice: "the client id is the device id", refusal: refusedClientID}
	endUserName      = &ending{reason: "bad_user_name", advice: "the user name is {host}/{deviceId}/?api-version=2021-04-12", refusal: refusedUserName}
	endPassword      = &ending{reason: "bad_token", advice: "the password is a SAS token for {host}/devices/{deviceId}; leave it out when the TLS client certificate is the credential", refusal: refusedUserName}
	endUnknownDevice = &ending{reason: "unknown_device", advice: "create it first with PUT /api/devices/{id}", refusal: refusedAuth}
	endSignature     = &ending{reason: "wrong_key", advice: "sign the SAS token with a key from GET /api/devices/{id}/credentials, or show the device's own certificate", refusal: refusedAuth}
	endRegistrant    = &ending{reason: "registration_refused", advice: "the credential fits no enrollment group and no attestation of the device's own, or the id scope is unknown", refusal: refusedAuth}
	endRegistered    = &ending{reason: "registration_timeout", advice: "a connection for provisioning ends after ten minutes", expected: true}
	endWill          = &ending{reason: "last_will", advice: "last-will messages are not available; connect without one", refusal: refusedAuth}
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
