// Package https is the door for devices that speak HTTP: Azure IoT Hub's device
// API (telemetry, cloud-to-device messages, file uploads), and MQTT over
// WebSocket, which it hands on to the MQTT gateway as a listener.
//
// Follow one request: listen.go accepts the connection, door.go routes, limit.go
// bounds, authenticate.go lets the device in, and one file does each thing:
// events.go (telemetry), devicebound.go (messages to the device), uploads.go and
// blob.go (files), websocket.go (MQTT). failure.go answers what went wrong.
//
// It guarantees that a telemetry request answered 204 is on the log, acknowledged
// by all in-sync replicas, and that nothing is read into memory for a stranger
// beyond bounded headers.
package https
