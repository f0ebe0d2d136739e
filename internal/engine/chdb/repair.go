package chdb

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A MergeTree table with non_replicated_deduplication_window writes an insert's
// token to its deduplication log and only then renames the part into place
// (seen with strace in 26.7.3: the rename is the next system call). A process
// killed between the two leaves a token that is taken by a part that does not
// exist: the rows are gone, and sending them again under the same token is
// answered with success and ignored. ClickHouse does not check this when it
// starts, so it is put right here, before the storage is opened.
//
// Both steps are done under the table's parts lock, so only the last part in a
// table's log can be affected. It may have several records, one for each token.

// repairDeduplicationLogs releases the tokens of parts that were never put in
// place, for every table under dir.
func repairDeduplicationLogs(dir string) error {
	// DatabaseAtomic: store/<3 characters>/<table's UUID>/.
	tables, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "deduplication_logs"))
	if err != nil {
		return fmt.Errorf("find deduplication logs: %w", err)
	}
	for _, logs := range tables {
		if err := repairDeduplicationLog(logs); err != nil {
			return fmt.Errorf("repair ClickHouse's deduplication log %s: %w", logs, err)
		}
	}
	return nil
}

func repairDeduplicationLog(logs string) error {
	names, err := logFiles(logs)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range slices.Backward(names) {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		// A record cut off by a power failure would spoil the ones after it.
		whole := content[:bytes.LastIndexByte(content, '\n')+1]
		if len(whole) < len(content) {
			if err := os.Truncate(name, int64(len(whole))); err != nil {
				return err
			}
		}
		if len(whole) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSuffix(string(whole), "\n"), "\n")
		return releaseOrphan(lines, filepath.Dir(logs), names[len(names)-1])
	}
	return nil
}

// logFiles lists deduplication_log_<n>.txt in the order they were written.
func logFiles(logs string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(logs, "deduplication_log_*.txt"))
	if err != nil {
		return nil, err
	}
	number := func(name string) int {
		digits := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "deduplication_log_"), ".txt")
		n, _ := strconv.Atoi(digits)
		return n
	}
	slices.SortFunc(names, func(a, b string) int { return number(a) - number(b) })
	return names, nil
}

// releaseOrphan appends to log the records that drop the tokens of the last
// part in records, when that part is not in the table's directory. A record is
// operation TAB part TAB token; operation 1 adds, 2 drops
// (MergeTreeDeduplicationLog.cpp).
func releaseOrphan(records []string, table, log string) error {
	var name, drops string
	for _, record := range slices.Backward(records) {
		fields := strings.SplitN(record, "\t", 3)
		if len(fields) != 3 || fields[0] != "1" || name != "" && fields[1] != name {
			break
		}
		name = fields[1]
		drops += "2\t" + name + "\t" + fields[2] + "\n"
	}
	last, ok := parsePart(name)
	if !ok {
		return nil
	}
	if present, err := last.present(table); err != nil || present {
		return err
	}
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(drops)
	return errors.Join(err, file.Close())
}

// part is a range of blocks: the name of a part is
// partition_min_max_level[_mutation].
type part struct {
	partition string
	min, max  int64
}

func parsePart(name string) (part, bool) {
	fields := strings.Split(name, "_")
	if len(fields) != 4 && len(fields) != 5 {
		return part{}, false
	}
	var numbers [4]int64
	for i, field := range fields[1:] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return part{}, false
		}
		numbers[i] = n
	}
	return part{fields[0], numbers[0], numbers[1]}, true
}

// present says that the part, or one it was merged into, is in the table's
// directory.
func (p part) present(table string) (bool, error) {
	entries, err := os.ReadDir(table)
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if other, ok := parsePart(entry.Name()); ok && other.covers(p) {
			return true, nil
		}
	}
	return false, nil
}

// covers says that the other part is this one or was merged into it.
func (p part) covers(other part) bool {
	return p.partition == other.partition && p.min <= other.min && other.max <= p.max
}
