package kafka

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
)

// kfake's state logs (groups.log, pids.log) are frames of JSON:
// length (4 bytes, counts version and JSON), CRC-32C of version and JSON (4),
// version (2), JSON; little-endian. See kfake's persist.go.
const (
	frameHead    = 10
	frameVersion = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendFrame(to, text []byte) []byte {
	body := binary.LittleEndian.AppendUint16(nil, frameVersion)
	body = append(body, text...)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(body)))
	to = binary.LittleEndian.AppendUint32(to, crc32.Checksum(body, castagnoli))
	return append(to, body...)
}

// splitFrames gives the JSON of the whole frames at the head of raw, and how many
// bytes they take; behind that a write was cut off.
func splitFrames(raw []byte) (texts [][]byte, whole int) {
	for len(raw)-whole >= frameHead {
		rest := raw[whole:]
		length := int64(binary.LittleEndian.Uint32(rest))
		if length < 2 || 8+length > int64(len(rest)) {
			break
		}
		body := rest[8 : 8+length]
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		texts = append(texts, body[2:])
		whole += 8 + int(length)
	}
	return texts, whole
}

// appendEntries cuts a state log off where a write was cut off and appends what
// entries makes of the whole frames.
func appendEntries(path string, entries func(texts [][]byte) ([]any, error)) error {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	texts, whole := splitFrames(raw)
	added, err := entries(texts)
	if err != nil || len(added) == 0 {
		return err
	}
	var frames []byte
	for _, e := range added {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		frames = appendFrame(frames, text)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // as kfake creates it
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(whole)); err != nil {
		return errors.Join(fmt.Errorf("cut off torn end: %w", err), f.Close())
	}
	_, err = f.WriteAt(frames, int64(whole))
	return errors.Join(err, f.Sync(), f.Close())
}
