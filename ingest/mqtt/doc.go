// Package mqtt is the device gateway for MQTT 3.1.1 as Azure IoT Hub speaks it,
// and for MQTT 5 with the same topics and tokens: devices' packets come in, records on the `telemetry` topic go out, and a
// PUBACK goes back once the log has the record.
//
// Follow one message: gateway.go accepts a connection, handshake.go lets the
// device in, reader.go cuts its bytes into packets, connection.go looks at each,
// publish.go makes a PUBLISH a record, acks.go answers it. What MQTT 5 adds:
// negotiate.go agrees on the limits, properties.go makes properties a part of the
// property bag, farewell.go says why a connection ends or a message is refused.
//
// It guarantees that a PUBACK means all in-sync replicas have the record, that
// PUBACKs come in the order of their PUBLISHes, and that a device that sends
// faster than the log takes is slowed at its own socket. It keeps no message
// beyond its bounded windows and never reads a payload, except that one said to
// be UTF-8 is checked for it.
package mqtt
