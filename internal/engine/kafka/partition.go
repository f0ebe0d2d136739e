package kafka

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A partition is a directory of segments: N.dat holds record batches as on the
// wire, N the first offset; N.idx holds indexEntry bytes a batch. snapshot.json
// is what kfake knows about the partition without reading its batches, valid when
// its sizes are those of the files. See kfake's persist.go.

const (
	batchHead     = 61 // record batch v2 up to its records
	batchPrefix   = 12 // offset and length, which the length does not count
	maxBatchBytes = 1 << 30
	indexEntry    = 15

	transactionalBit = 0x10
	controlBit       = 0x20
)

// openTxn is a transaction without a marker at its end.
type openTxn struct {
	producer
	first int64
}

// partition is what a scan learns.
type partition struct {
	dir         string
	segments    []snapshotSegment
	start, next int64 // offsets: of the first batch, after the last
	batches     int   // in the last segment
	leaderEpoch int32
	firstTime   int64
	maxTime     int64
	open        map[int64]openTxn // by producer id
	aborted     []snapshotAborted
}

type snapshot struct {
	Version          int               `json:"version"`
	HighWatermark    int64             `json:"high_watermark"`
	LastStableOffset int64             `json:"last_stable_offset"`
	LogStartOffset   int64             `json:"log_start_offset"`
	Epoch            int32             `json:"epoch"`
	MaxTimestamp     int64             `json:"max_timestamp"`
	CreatedAt        time.Time         `json:"created_at"`
	AbortedTxns      []snapshotAborted `json:"aborted_txns,omitempty"`
	Segments         []snapshotSegment `json:"segments"`
}

type snapshotAborted struct {
	ProducerID  int64 `json:"producer_id"`
	FirstOffset int64 `json:"first_offset"`
	LastOffset  int64 `json:"last_offset"`
}

type snapshotSegment struct {
	BaseOffset int64 `json:"base_offset"`
	Size       int64 `json:"size"`
	MinEpoch   int32 `json:"min_epoch,omitempty"`
	MaxEpoch   int32 `json:"max_epoch,omitempty"`
}

// scanPartition reads the batches' heads, cuts off a batch the killed process
// had not finished, and makes the index fit again. It is nil for a partition
// without batches.
func scanPartition(dir string) (*partition, error) {
	bases, err := segmentBases(dir)
	if err != nil {
		return nil, err
	}
	p := &partition{dir: dir, open: map[int64]openTxn{}}
	for i, base := range bases {
		// A batch is only ever unfinished at the end of the log.
		if err := p.scanSegment(base, i == len(bases)-1); err != nil {
			return nil, fmt.Errorf("segment %d: %w", base, err)
		}
	}
	if p.next == 0 {
		return nil, nil //nolint:nilnil // nothing there
	}
	return p, nil
}

func segmentBases(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".dat")
		if !ok {
			continue
		}
		if base, err := strconv.ParseInt(name, 10, 64); err == nil {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

func (p *partition) file(base int64, ext string) string {
	return filepath.Join(p.dir, strconv.FormatInt(base, 10)+ext)
}

func (p *partition) scanSegment(base int64, last bool) error {
	f, err := os.OpenFile(p.file(base, ".dat"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	seg := snapshotSegment{BaseOffset: base}
	p.batches = 0
	var index []byte
	err = eachBatch(f, info.Size(), last, func(head, records []byte) {
		index = append(index, p.see(head, records, &seg)...)
		p.batches++
	}, &seg.Size)
	if err != nil {
		return err
	}
	if seg.Size < info.Size() {
		if !last {
			return fmt.Errorf("damaged at byte %d of %d: restore the log directory from a backup", seg.Size, info.Size())
		}
		if err := f.Truncate(seg.Size); err != nil {
			return err
		}
	}
	if p.batches > 0 {
		p.segments = append(p.segments, seg)
	} else if err := errors.Join(os.Remove(f.Name()), ignoreMissing(os.Remove(p.file(base, ".idx")))); err != nil {
		return err // an empty segment would stand in the way of the snapshot
	}
	if !last || p.batches == 0 {
		return nil
	}
	return os.WriteFile(p.file(base, ".idx"), index, 0o644) //nolint:gosec // as kfake creates it
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// eachBatch calls see for each whole batch of a segment of size bytes, with the
// batch's records when check is set or it is a control batch, and adds up the
// batches' bytes in whole. With check it verifies checksums.
func eachBatch(r io.ReadSeeker, size int64, check bool, see func(head, records []byte), whole *int64) error {
	in := bufio.NewReaderSize(r, 1<<16)
	head := make([]byte, batchHead)
	for *whole+batchHead <= size {
		if _, err := io.ReadFull(in, head); err != nil {
			return err
		}
		length := batchPrefix + int64(binary.BigEndian.Uint32(head[8:]))
		if length < batchHead || length > maxBatchBytes || *whole+length > size {
			return nil
		}
		body := length - batchHead
		var records []byte
		switch {
		case check || attributes(head)&controlBit != 0:
			records = make([]byte, body)
			if _, err := io.ReadFull(in, records); err != nil {
				return err
			}
			crc := crc32.Update(crc32.Checksum(head[21:], castagnoli), castagnoli, records)
			if crc != binary.BigEndian.Uint32(head[17:]) {
				return nil
			}
		case body <= int64(in.Buffered()):
			_, _ = in.Discard(int(body)) // it is in the buffer
		default:
			if _, err := r.Seek(*whole+length, io.SeekStart); err != nil {
				return err
			}
			in.Reset(r)
		}
		*whole += length
		see(head, records)
	}
	return nil
}

func attributes(head []byte) uint16 { return binary.BigEndian.Uint16(head[21:]) }

// see takes note of a batch and gives its index entry.
func (p *partition) see(head, records []byte, seg *snapshotSegment) []byte {
	offset := int64(binary.BigEndian.Uint64(head))
	if len(p.segments) == 0 && p.batches == 0 {
		p.start, p.firstTime = offset, int64(binary.BigEndian.Uint64(head[27:]))
		p.maxTime = p.firstTime
	}
	p.leaderEpoch = int32(binary.BigEndian.Uint32(head[12:]))
	if seg.MinEpoch == 0 {
		seg.MinEpoch = p.leaderEpoch
	}
	seg.MaxEpoch = max(seg.MaxEpoch, p.leaderEpoch)
	p.next = offset + int64(int32(binary.BigEndian.Uint32(head[23:]))) + 1
	p.maxTime = max(p.maxTime, int64(binary.BigEndian.Uint64(head[35:])))
	from := producer{int64(binary.BigEndian.Uint64(head[43:])), int16(binary.BigEndian.Uint16(head[51:]))}
	inTxn := false
	switch a := attributes(head); {
	case a&controlBit != 0:
		p.close(from, offset, isCommit(records))
	case a&transactionalBit != 0:
		inTxn = true
		if _, ok := p.open[from.ID]; !ok {
			p.open[from.ID] = openTxn{producer: from, first: offset}
		}
	}
	return p.indexEntry(inTxn)
}

func (p *partition) close(from producer, marker int64, commit bool) {
	txn, ok := p.open[from.ID]
	if ok && !commit {
		p.aborted = append(p.aborted, snapshotAborted{from.ID, txn.first, marker})
	}
	delete(p.open, from.ID)
}

func isCommit(records []byte) bool {
	var r kmsg.Record
	var key kmsg.ControlRecordKey
	return r.ReadFrom(records) == nil && key.ReadFrom(r.Key) == nil && key.Type == kmsg.ControlRecordKeyTypeCommit
}

func (p *partition) indexEntry(inTxn bool) []byte {
	e := make([]byte, indexEntry)
	e[0] = frameVersion
	binary.LittleEndian.PutUint32(e[2:], uint32(p.leaderEpoch))
	binary.LittleEndian.PutUint64(e[6:], uint64(p.maxTime))
	if inTxn {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], castagnoli))
	return e
}

// end writes the marker of each open transaction: a commit for the one of the
// intent, an abort for the others.
func (p *partition) end(intent *commitIntent) error {
	if len(p.open) == 0 {
		return nil
	}
	var batches, index []byte
	for _, txn := range p.open {
		commit := intent != nil && intent.producer == txn.producer
		marker := p.next
		batches = append(batches, markerBatch(txn.producer, commit, marker, p.leaderEpoch, p.maxTime)...)
		p.next++
		p.close(txn.producer, marker, commit)
		index = append(index, p.indexEntry(false)...)
	}
	last := &p.segments[len(p.segments)-1]
	if err := appendAt(p.file(last.BaseOffset, ".dat"), batches, last.Size); err != nil {
		return err
	}
	last.Size += int64(len(batches))
	return appendAt(p.file(last.BaseOffset, ".idx"), index, int64(p.batches)*indexEntry)
}

func appendAt(path string, b []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // as kfake creates it
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Sync(), f.Close())
}

// markerBatch is the control batch that ends a transaction, at the time of the
// last record before it.
func markerBatch(p producer, commit bool, offset int64, leaderEpoch int32, at int64) []byte {
	key := kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}
	if commit {
		key.Type = kmsg.ControlRecordKeyTypeCommit
	}
	marker := kmsg.EndTxnMarker{}
	rec := kmsg.Record{Key: key.AppendTo(nil), Value: marker.AppendTo(nil)}
	rec.Length = int32(len(rec.AppendTo(nil)) - 1) // the length itself takes one byte
	b := kmsg.RecordBatch{
		FirstOffset: offset, PartitionLeaderEpoch: leaderEpoch, Magic: 2, Attributes: controlBit | transactionalBit,
		FirstTimestamp: at, MaxTimestamp: at, ProducerID: p.ID, ProducerEpoch: p.Epoch, FirstSequence: -1,
		NumRecords: 1, Records: rec.AppendTo(nil),
	}
	b.Length = int32(len(b.AppendTo(nil)) - batchPrefix)
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[21:], castagnoli))
	return b.AppendTo(nil)
}

// writeSnapshot spares kfake a replay, which would hold the whole log in memory.
func (p *partition) writeSnapshot() error {
	path := filepath.Join(p.dir, "snapshot.json")
	var before snapshot
	if raw, err := os.ReadFile(path); err == nil && json.Unmarshal(raw, &before) != nil {
		before = snapshot{} // of no use, and about to be replaced
	}
	slices.SortFunc(p.aborted, func(a, b snapshotAborted) int { return int(a.LastOffset - b.LastOffset) })
	text, err := json.Marshal(snapshot{
		Version:          frameVersion,
		HighWatermark:    p.next,
		LastStableOffset: p.next,
		LogStartOffset:   min(max(p.start, before.LogStartOffset), p.next),
		Epoch:            p.leaderEpoch,
		MaxTimestamp:     p.maxTime,
		CreatedAt:        time.UnixMilli(p.firstTime),
		AbortedTxns:      p.aborted,
		Segments:         p.segments,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // as kfake creates it
}
