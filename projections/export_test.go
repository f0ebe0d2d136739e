package projections

import "time"

// SetGrace changes how long a stop waits for the block in hand. Without grace a
// stop leaves the ledger and ClickHouse as a crash would.
func (t *Telemetry) SetGrace(grace time.Duration) { t.grace = grace }
