package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kfake commits a transaction by writing one marker per partition and then the
// group's offsets, one after the other: killed in between it leaves half a
// transaction. So what is about to be committed is written down first, and the
// next start finishes it (settle.go). One intent is enough: kfake ends one
// transaction at a time, in the goroutine that calls the hooks below.

// intentFile is empty unless a transaction is being committed, or was the last
// thing that was.
const intentFile = "commit-intent"

// commitIntent is a transaction that is to be committed whatever happens.
type commitIntent struct {
	producer
	// Bump: the producer gets its next epoch with the commit (EndTxn v5, KIP-890).
	Bump    bool           `json:"bump"`
	Offsets []offsetCommit `json:"offsets,omitempty"`
}

// producer is one epoch of a producer id.
type producer struct {
	ID    int64 `json:"pid"`
	Epoch int16 `json:"epoch"`
}

type offsetCommit struct {
	Group       string  `json:"group"`
	Topic       string  `json:"topic"`
	Partition   int32   `json:"partition"`
	Offset      int64   `json:"offset"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Metadata    *string `json:"metadata,omitempty"`
}

// intents writes them down. Its methods run in kfake's one goroutine.
type intents struct {
	file    *os.File
	sync    bool
	written bool
	// pending are offsets that transactions under way will commit. What an
	// aborted or fenced one leaves goes with its producer's next end.
	pending map[producer][]offsetCommit
	logger  *slog.Logger
}

// openIntents truncates the file: settle has dealt with what was in it.
func openIntents(opts Options) (*intents, error) {
	f, err := os.OpenFile(filepath.Join(opts.DataDir, intentFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open file of commit intents: %w", err)
	}
	return &intents{file: f, sync: opts.SyncWrites, pending: map[producer][]offsetCommit{}, logger: opts.Logger}, nil
}

// watch hooks the intents into the requests that begin or end a transaction, and
// those that change offsets after one.
func (i *intents) watch(cluster *kfake.Cluster) {
	observe := func(key kmsg.Key, see func(kmsg.Request)) {
		cluster.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			see(req)
			return nil, nil, false
		})
	}
	// The commit of an earlier intent is complete once another request is
	// handled. Done again it would undo what these requests do.
	for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.OffsetCommit, kmsg.OffsetDelete, kmsg.DeleteGroups} {
		observe(key, func(kmsg.Request) { i.clear() })
	}
	topicName := func(t kmsg.TxnOffsetCommitRequestTopic) string {
		if info := cluster.TopicIDInfo(t.TopicID); t.Topic == "" && info != nil {
			return info.Topic // version 6 names topics by id (KIP-1319)
		}
		return t.Topic
	}
	observe(kmsg.TxnOffsetCommit, func(req kmsg.Request) { i.addOffsets(req.(*kmsg.TxnOffsetCommitRequest), topicName) })
	cluster.ControlKey(kmsg.EndTxn.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.EndTxnRequest)
		if err := i.end(req); err != nil {
			i.logger.Error("transaction not committed: its intent could not be written to disk", "transactional_id", req.TransactionalID, "error", err)
			resp := req.ResponseKind().(*kmsg.EndTxnResponse)
			resp.ErrorCode = kerr.CoordinatorNotAvailable.Code // the client tries again
			cluster.KeepControl()
			return resp, nil, true
		}
		return nil, nil, false
	})
}

func (i *intents) addOffsets(req *kmsg.TxnOffsetCommitRequest, name func(kmsg.TxnOffsetCommitRequestTopic) string) {
	i.clear()
	p := producer{req.ProducerID, req.ProducerEpoch}
	for _, t := range req.Topics {
		for _, o := range t.Partitions {
			i.pending[p] = append(i.pending[p], offsetCommit{req.Group, name(t), o.Partition, o.Offset, o.LeaderEpoch, o.Metadata})
		}
	}
}

func (i *intents) end(req *kmsg.EndTxnRequest) error {
	p := producer{req.ProducerID, req.ProducerEpoch}
	if req.Commit {
		intent := commitIntent{producer: p, Bump: req.Version >= 5, Offsets: i.pending[p]}
		if err := i.write(intent); err != nil {
			return err
		}
	} else {
		i.clear()
	}
	for old := range i.pending {
		if old.ID == p.ID && old.Epoch <= p.Epoch {
			delete(i.pending, old)
		}
	}
	return nil
}

// write replaces the intent. The frame's checksum tells a torn one from a whole one.
func (i *intents) write(intent commitIntent) error {
	text, err := json.Marshal(intent)
	if err != nil {
		return err
	}
	i.clear()
	if _, err := i.file.WriteAt(appendFrame(nil, text), 0); err != nil {
		return err
	}
	i.written = true
	if !i.sync {
		return nil
	}
	return i.file.Sync()
}

func (i *intents) clear() {
	if !i.written {
		return
	}
	if err := i.file.Truncate(0); err != nil {
		i.logger.Error("commit intent was not cleared", "error", err)
		return
	}
	i.written = false
}

// readIntent gives the intent a killed broker left, nil when there is none or it
// was torn: then nothing of its transaction was committed.
func readIntent(dir string) (*commitIntent, error) {
	raw, err := os.ReadFile(filepath.Join(dir, intentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no intent is the usual case
	} else if err != nil {
		return nil, fmt.Errorf("read commit intent: %w", err)
	}
	frames, _ := splitFrames(raw)
	if len(frames) == 0 {
		return nil, nil //nolint:nilnil // as above
	}
	var intent commitIntent
	if err := json.Unmarshal(frames[0], &intent); err != nil {
		return nil, fmt.Errorf("read commit intent: %w", err)
	}
	return &intent, nil
}
