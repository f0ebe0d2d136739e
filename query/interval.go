package query

import (
	"time"

	"github.com/fleetlog/fleetlog/query/fleetql"
)

// parseInterval reads the width of a window, such as PT1M, PT12H or P1D.
func parseInterval(s string) (time.Duration, error) {
	width, ok := fleetql.Duration(s)
	if longest := 366 * 24 * time.Hour; !ok || width > longest {
		return 0, badField("interval", "interval %q is not an ISO 8601 duration between PT1S and P366D: write PT1M, PT12H or P1D", s[:min(len(s), 64)])
	}
	return width, nil
}
