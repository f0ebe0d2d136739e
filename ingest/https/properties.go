package https

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
)

// appPrefix marks an application property in a header, or in a batch's entry.
const appPrefix = "iothub-app-"

// systemProperties are the headers of IoT Hub's device API that carry what a
// property bag has under another name (FEATURES.md MQTT-10).
var systemProperties = map[string]string{
	"iothub-messageid":       "$.mid",
	"iothub-correlationid":   "$.cid",
	"iothub-userid":          "$.uid",
	"iothub-to":              "$.to",
	"iothub-expiry":          "$.exp",
	"iothub-contenttype":     telemetry.ContentType,
	"iothub-contentencoding": "$.ce",
	"iothub-interface-id":    "$.ifid",
	"iothub-creationtimeutc": "$.ctime",
	"dt-subject":             telemetry.Component,
}

// propertiesOf makes a property bag of a request's headers. The names of headers
// have no case: those of application properties come out in lower case. The
// SDKs' iothub-to that only repeats the request's path is left out.
func propertiesOf(header http.Header, path string) ([]telemetry.Property, error) {
	var bag []telemetry.Property
	for key, values := range header {
		name, known := propertyName(strings.ToLower(key))
		value := text(strings.Join(values, ", "))
		if !known || name == "$.to" && strings.EqualFold(value, path) {
			continue
		}
		if name == "" {
			return nil, fmt.Errorf("%w: a header %s lacks a property's name", telemetry.ErrProperties, appPrefix)
		}
		bag = append(bag, telemetry.Property{Name: name, Value: value})
	}
	sortBag(bag)
	return bag, nil
}

// propertyName is a header's name in the bag.
func propertyName(key string) (name string, known bool) {
	if name, known = strings.CutPrefix(key, appPrefix); known {
		return strings.TrimPrefix(name, "$."), true // no system property by the back door
	}
	name, known = systemProperties[key]
	return name, known
}

// sortBag puts system properties first, and the same properties always in the
// same order.
func sortBag(bag []telemetry.Property) {
	slices.SortFunc(bag, func(a, b telemetry.Property) int { return strings.Compare(a.Name, b.Name) })
}

// text is a header's value as UTF-8: what is not UTF-8 is Latin-1, as Node.js
// sends it (RFC 9110 §5.5).
func text(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	runes := make([]rune, 0, len(value))
	for i := range len(value) {
		runes = append(runes, rune(value[i]))
	}
	return string(runes)
}
