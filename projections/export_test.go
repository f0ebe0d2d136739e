package projections

import "time"

// SetGrace changes how long a stop waits for the block in hand. Without grace a
// stop leaves the ledger and ClickHouse as a crash would.
func (p *Projection) SetGrace(grace time.Duration) { p.grace = grace }
