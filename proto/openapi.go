// Package proto carries the OpenAPI document generated from the API contracts,
// so that the binary can serve it.
package proto

import _ "embed"

// OpenAPI is the OpenAPI 2.0 document of the REST API, in JSON.
//
//go:embed openapi.swagger.json
var OpenAPI []byte
