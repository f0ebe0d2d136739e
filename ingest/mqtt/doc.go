// Package mqtt is the device gateway for MQTT 3.1.1 as Azure IoT Hub speaks it,
// and for MQTT 5 with the same topics and tokens: devices' packets come in, records
// on the `telemetry` topic and events on the `devices` topic go out, a PUBACK goes
// back once the log has the record, and what the device's state holds for it is
// delivered.
//
// Follow one message: gateway.go accepts a connection, handshake.go lets the
// device in, reader.go cuts its bytes into packets, connection.go looks at each,
// publish.go makes a PUBLISH a record, acks.go answers it. What MQTT 5 adds:
// negotiate.go agrees on the limits, properties.go makes properties a part of the
// property bag, farewell.go says why a connection ends or a message is refused.
//
// The way back: presence.go puts connections on the log, courier.go brings a
// device up to its state whenever that changes, session.go is what a connection
// was given before; subscription.go, operation.go, twin.go, methods.go and
// cloudtodevice.go are what devices know of it. children.go and batch.go are for
// gateways and for many events at once.
//
// It guarantees that a PUBACK means all in-sync replicas have the record, that
// PUBACKs of a device's telemetry come in the order of their PUBLISHes, that a
// device that sends faster than the log takes is slowed at its own socket, and that
// nothing is delivered over a connection whose place another one has taken. It
// keeps no message beyond its bounded windows and never reads a payload, except
// that a batch is taken apart and one said to be UTF-8 is checked for it.
package mqtt
