package projections

import (
	"encoding/json"
	"errors"
	"fmt"
)

// offsets is a range of a partition, both ends included.
type offsets struct{ first, last int64 }

// maxPlanBytes bounds what is read as a plan.
const maxPlanBytes = 1 << 10

// planText is a plan as the offset commit's metadata holds it.
type planText struct {
	Version int   `json:"v"`
	First   int64 `json:"first"`
	Last    int64 `json:"last"`
}

const planVersion = 1

// encodePlan is the metadata of the commit that announces a block. The commit's
// offset is the block's first, which confirms everything before it.
func encodePlan(block offsets) string {
	return fmt.Sprintf(`{"v":%d,"first":%d,"last":%d}`, planVersion, block.first, block.last)
}

var errNoPlan = errors.New("no plan")

// decodePlan reads the metadata of a commit at the given offset. It returns
// errNoPlan when the commit announces no block, and another error for metadata
// that nobody like us can have written.
func decodePlan(committed int64, metadata string) (offsets, error) {
	if metadata == "" {
		return offsets{}, errNoPlan
	}
	if len(metadata) > maxPlanBytes {
		return offsets{}, fmt.Errorf("commit metadata of %d bytes is no plan", len(metadata))
	}
	var text planText
	if err := json.Unmarshal([]byte(metadata), &text); err != nil {
		return offsets{}, fmt.Errorf("commit metadata %q is no plan: %w", metadata, err)
	}
	switch {
	case text.Version != planVersion:
		return offsets{}, fmt.Errorf("plan %q has version %d, this program knows %d", metadata, text.Version, planVersion)
	case text.First != committed || text.First < 0 || text.Last < text.First:
		return offsets{}, fmt.Errorf("plan %q does not fit the offset %d it is committed at", metadata, committed)
	}
	return offsets{text.First, text.Last}, nil
}

// cutter decides which records of a partition make a block. It knows nothing of
// sizes and times: those close a block from outside, unless the block was
// announced before, when its range decides alone.
type cutter struct {
	next int64    // records below are done
	redo *offsets // the announced block that comes first
}

type verdict int

const (
	skip         verdict = iota // not wanted again
	take                        // belongs to the open block
	takeAndClose                // is its last record
	closeBefore                 // belongs to the block after it
)

// judge says what to do with the next record. The offsets must ascend; those
// that are missing were deleted from the log.
func (c *cutter) judge(offset int64) verdict {
	switch {
	case offset < c.next:
		return skip
	case c.redo == nil || offset < c.redo.last:
		c.next = offset + 1
		return take
	case offset == c.redo.last:
		c.next, c.redo = offset+1, nil
		return takeAndClose
	default: // the log begins behind the announced block
		c.next, c.redo = offset, nil
		return closeBefore
	}
}
