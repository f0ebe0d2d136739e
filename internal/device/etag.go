package device

import (
	"fmt"
	"strconv"
	"strings"
)

// ETag is the entity tag of a device's version, without the quotes of an HTTP
// header.
func ETag(version uint64) string { return "v" + strconv.FormatUint(version, 10) }

// ParseETag reads the version out of an entity tag that ETag made, with or
// without quotes (RFC 9110 §8.8.3).
func ParseETag(tag string) (uint64, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(tag, `"`), `"`)
	digits, ok := strings.CutPrefix(bare, "v")
	version, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || version == 0 {
		return 0, fmt.Errorf("etag %q is not one of ours: send the etag of the device as you read it, or * for any", clip(tag))
	}
	return version, nil
}
