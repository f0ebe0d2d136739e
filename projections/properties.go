package projections

import (
	"net/url"
	"strings"
)

// maxProperties bounds how many pairs of one bag become entries. An MQTT topic,
// where bags come from, holds 64 KiB, but others may write to the log too.
const maxProperties = 256

// restOfBag is the entry under which the pairs beyond maxProperties are kept, as
// they came.
const restOfBag = "$rest"

// parseProperties takes apart a device's property bag, `k=v&k2=v2` with names
// and values percent-encoded (IoT Hub's form: a plus sign is a plus sign). It
// never fails: what is not well encoded is kept as it came, a name without a
// value has an empty one, and of a name that comes twice the last counts.
func parseProperties(bag string) map[string]string {
	if bag == "" {
		return nil
	}
	properties := make(map[string]string, min(maxProperties, strings.Count(bag, "&")+1))
	for bag != "" {
		if len(properties) >= maxProperties {
			properties[restOfBag] = strings.ToValidUTF8(bag, "\uFFFD")
			break
		}
		var pair string
		pair, bag, _ = strings.Cut(bag, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		properties[unescape(name)] = unescape(value)
	}
	return properties
}

// unescape makes text that ClickHouse's clients can show: valid UTF-8.
func unescape(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		s = plain
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
