package mqtt

import (
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"
)

// connackCode is the MQTT 5 reason code with which a CONNECT is refused (MQTT 5
// §3.2.2.2), 0 for no answer.
func connackCode(err error) byte {
	switch endingOf(err).refusal {
	case refusedProtocol:
		return packets.ErrUnsupportedProtocolVersion.Code
	case refusedClientID:
		return packets.ErrClientIdentifierNotValid.Code
	case refusedUnavailable:
		return packets.ErrServerUnavailable.Code
	case refusedUserName:
		return packets.ErrBadUsernameOrPassword.Code
	case refusedAuth:
		return packets.ErrNotAuthorized.Code
	}
	return reasonCode(err)
}

// reasonCode is the MQTT 5 reason code that says why a connection ends, 0 when
// there is nothing to say. A packet that is well-formed but must not come, or not
// like this, is a protocol error, not a malformed one (MQTT 5 §4.13.1).
func reasonCode(err error) byte {
	why := endingOf(err)
	var code packets.Code
	if why == endMalformed && (errors.Is(err, errUnexpectedPacket) || errors.As(err, &code) && code.Code == packets.ErrProtocolViolation.Code) {
		return packets.ErrProtocolViolation.Code
	}
	return why.code
}

// reasonText is what a device is told, for the person who reads its log. It tells
// a stranger no more than the code does: not whether a device exists.
func reasonText(err error) string {
	why := endingOf(err)
	switch {
	case why.secret:
		return "the device or its key is not known; the gateway's log says more"
	case why.advice == "":
		return why.reason
	}
	return why.advice
}
