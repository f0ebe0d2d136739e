package query

import (
	"regexp"
	"strconv"
	"time"
)

// intervalPattern is the part of ISO 8601 durations that has one length: no
// years and no months.
var intervalPattern = regexp.MustCompile(`^P(?:(\d{1,5})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,8})S)?)?$`)

// parseInterval reads the width of a window, such as PT1M, PT12H or P1D.
func parseInterval(s string) (time.Duration, error) {
	parts := intervalPattern.FindStringSubmatch(s)
	var total time.Duration
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if len(parts) > i+1 && parts[i+1] != "" {
			n, _ := strconv.Atoi(parts[i+1]) // the pattern bounds the digits
			total += time.Duration(n) * unit
		}
	}
	const most = 366 * 24 * time.Hour
	if total <= 0 || total > most {
		return 0, badField("interval", "interval %q is not an ISO 8601 duration between PT1S and P366D: write PT1M, PT12H or P1D", s[:min(len(s), 64)])
	}
	return total, nil
}
