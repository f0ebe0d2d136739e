package fleetql

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// durationPattern is the part of ISO 8601 durations that has one length: no years
// and no months.
var durationPattern = regexp.MustCompile(`^P(?:(\d{1,5})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,8})S)?)?$`)

const longestDuration = 3660 * 24 * time.Hour

// Duration reads a duration from PT1S to P3660D, such as PT10M, P2DT12H or P1W.
func Duration(s string) (total time.Duration, ok bool) {
	parts := durationPattern.FindStringSubmatch(s)
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if len(parts) > i+1 && parts[i+1] != "" {
			n, _ := strconv.Atoi(parts[i+1]) // the pattern bounds the digits
			total += time.Duration(n) * unit
		}
	}
	return total, total > 0 && total <= longestDuration && !strings.HasSuffix(s, "T")
}
