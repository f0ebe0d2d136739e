package bridge

import (
	"encoding/base64"
	"hash/maphash"
	"strconv"

	"crypto/rand"
)

// eventIDs gives each message an event id, and a message that the broker sends
// again the one it had. It remembers the last message of every packet id: the
// broker uses a packet id for nothing else before it has the acknowledgement
// (MQTT 3.1.1 §2.3.1). One megabyte a bridge.
type eventIDs struct {
	prefix string
	seed   maphash.Seed
	last   uint64
	sent   [1 << 16]seenMessage // by packet id
}

type seenMessage struct{ digest, sequence uint64 }

func newEventIDs() *eventIDs {
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return &eventIDs{prefix: base64.RawURLEncoding.EncodeToString(random[:]) + ".", seed: maphash.MakeSeed()}
}

// id is the message's event id. It is not safe for concurrent use.
func (e *eventIDs) id(m *message) string {
	sequence := e.last + 1
	if m.qos > 0 {
		seen := &e.sent[m.packetID]
		digest := e.digest(m)
		if m.duplicate && seen.sequence != 0 && seen.digest == digest {
			sequence = seen.sequence
		}
		*seen = seenMessage{digest, sequence}
	}
	e.last = max(e.last, sequence)
	return e.prefix + strconv.FormatUint(sequence, 10)
}

func (e *eventIDs) digest(m *message) uint64 {
	var h maphash.Hash
	h.SetSeed(e.seed)
	_, _ = h.WriteString(m.topic) // never fails (hash.Hash)
	_ = h.WriteByte(0)
	_, _ = h.Write(m.payload)
	return h.Sum64()
}
