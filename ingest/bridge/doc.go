// Package bridge attaches to MQTT brokers that are already there: messages of
// their topics come in, records on the `telemetry` topic go out, and the broker
// gets its PUBACK once the log has the record.
//
// Follow one message: frames.go cuts the broker's bytes to size, session.go
// takes it off the connection, template.go and mapping.go say whose it is and
// what it holds, route.go makes it a record or a dead letter, session.go
// acknowledges it.
//
// It guarantees that what the broker delivers with QoS 1 is on the log, as
// telemetry or as a dead letter with its reason, before it is acknowledged, in
// the order the broker sent it; at least once, with the same event id when the
// broker repeats itself to the same process. It holds a bounded number of
// messages of bounded size: a log that is slow slows the broker. It never takes
// telemetry for a device that the registry does not know or that is blocked.
package bridge
