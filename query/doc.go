// Package query is the API: gRPC services, the same calls as REST in IoT
// Central's shapes by grpc-gateway, and the pages around them.
//
// In come requests with a token; out go reads from the node's device registry
// and from ClickHouse, and changes as events on the log. Every call has a
// principal and reads or changes that principal's tenant only. The package never
// writes a table, and no value from a request becomes SQL text: values travel as
// query parameters, names are checked against a pattern and quoted.
//
// Follow one call: server.go listens, rest.go turns HTTP into gRPC, auth.go says
// who calls, devices.go or telemetry.go answers, errors.go says what went wrong.
package query
