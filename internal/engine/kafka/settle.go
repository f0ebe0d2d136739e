package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"
)

// cleanFile is there while the log is as an orderly Close left it.
const cleanFile = "clean"

// settle makes a log whole that its broker did not close: a batch that was not
// finished is cut off, a transaction whose commit had begun is committed
// everywhere, any other that was open is aborted, with markers, so that no later
// restart can take it for committed.
func settle(opts Options) error {
	dir := opts.DataDir
	if err := os.Remove(filepath.Join(dir, cleanFile)); err == nil {
		return syncDir(dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take up log: %w", err)
	}
	// What kfake knew about producers' sequences, and about transactions that were
	// open, at its last orderly close is out of date; not knowing lets them go on.
	for _, name := range []string{"seq_windows.json", "session_state.json"} {
		if err := ignoreMissing(os.Remove(filepath.Join(dir, logDir, name))); err != nil {
			return fmt.Errorf("remove old producer state: %w", err)
		}
	}
	began := time.Now()
	intent, err := readIntent(dir)
	if err != nil {
		return err
	}
	parts, err := filepath.Glob(filepath.Join(dir, logDir, partitionsDir, "*"))
	if err != nil {
		return err
	}
	aborted := map[producer]bool{}
	for _, part := range parts {
		if err := settlePartition(part, intent, aborted); err != nil {
			return fmt.Errorf("repair log %s: %w", part, err)
		}
	}
	if err := settleGroups(filepath.Join(dir, logDir, "groups.log"), intent); err != nil {
		return fmt.Errorf("repair consumer offsets of log %s: %w", dir, err)
	}
	if err := settleProducers(filepath.Join(dir, logDir, "pids.log"), intent, aborted); err != nil {
		return fmt.Errorf("repair producers of log %s: %w", dir, err)
	}
	if len(parts) > 0 {
		opts.Logger.Info("embedded log was not closed in order; repaired", "partitions", len(parts),
			"transactions_aborted", len(aborted), "commit_finished", intent != nil, "took", time.Since(began))
	}
	return nil
}

func settlePartition(dir string, intent *commitIntent, aborted map[producer]bool) error {
	p, err := scanPartition(dir)
	if err != nil || p == nil {
		return err
	}
	for _, txn := range p.open {
		if intent == nil || intent.producer != txn.producer {
			aborted[txn.producer] = true
		}
	}
	if err := p.end(intent); err != nil {
		return err
	}
	return p.writeSnapshot()
}

// groupEntry is kfake's record of a committed offset in groups.log.
type groupEntry struct {
	Type       string  `json:"type"`
	Group      string  `json:"g"`
	Topic      string  `json:"t,omitempty"`
	Partition  int32   `json:"p,omitempty"`
	Offset     int64   `json:"o,omitempty"`
	Epoch      int32   `json:"e,omitempty"`
	Metadata   *string `json:"m,omitempty"`
	LastCommit *int64  `json:"lc,omitempty"`
}

// settleGroups commits the intent's offsets, forwards only: behind a power cut
// the intent may be an old one.
func settleGroups(path string, intent *commitIntent) error {
	return appendEntries(path, func(texts [][]byte) ([]any, error) {
		if intent == nil {
			return nil, nil
		}
		type key struct {
			group, topic string
			partition    int32
		}
		at := map[key]int64{}
		for _, text := range texts {
			var e groupEntry
			if json.Unmarshal(text, &e) != nil {
				continue // kfake passes it over too
			}
			switch e.Type {
			case "commit":
				at[key{e.Group, e.Topic, e.Partition}] = e.Offset
			case "delete":
				delete(at, key{e.Group, e.Topic, e.Partition})
			}
		}
		now := time.Now().UnixMilli()
		var added []any
		for _, o := range intent.Offsets {
			if before, ok := at[key{o.Group, o.Topic, o.Partition}]; ok && before >= o.Offset {
				continue
			}
			added = append(added, groupEntry{"commit", o.Group, o.Topic, o.Partition, o.Offset, o.LeaderEpoch, o.Metadata, &now})
		}
		return added, nil
	})
}

// producerEntry is kfake's record of how a transaction ended in pids.log.
type producerEntry struct {
	Type   string `json:"type"`
	ID     int64  `json:"pid"`
	Epoch  int16  `json:"epoch"`
	Commit *bool  `json:"commit,omitempty"`
}

// settleProducers fences the producers of aborted transactions, should they
// still live and go on with them, and lets the one of the intent learn that it
// has committed.
func settleProducers(path string, intent *commitIntent, aborted map[producer]bool) error {
	return appendEntries(path, func(texts [][]byte) ([]any, error) {
		epochs := map[int64]int16{}
		for _, text := range texts {
			var e producerEntry
			if json.Unmarshal(text, &e) == nil {
				epochs[e.ID] = e.Epoch
			}
		}
		var added []any
		if intent != nil && epochs[intent.ID] == intent.Epoch {
			epoch, commit := intent.Epoch, true
			if intent.Bump {
				epoch = nextEpoch(epoch)
			}
			added = append(added, producerEntry{"endtx", intent.ID, epoch, &commit})
		}
		for p := range aborted {
			if epoch, known := epochs[p.ID]; known && epoch == p.Epoch {
				added = append(added, producerEntry{"timeout", p.ID, nextEpoch(epoch), nil})
			}
		}
		return added, nil
	})
}

func nextEpoch(epoch int16) int16 {
	if epoch == math.MaxInt16 {
		return epoch
	}
	return epoch + 1
}
