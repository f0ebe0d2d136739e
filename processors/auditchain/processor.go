// Package auditchain hosts the chains of internal/auditchain: it reads the topics that
// say who changed what and appends links to the topic `audit-chain`, links and offsets in
// one Kafka transaction, so that each record is vouched for once, whatever crashes.
package auditchain

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/auditchain"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Processor is the host on one node.
type Processor struct {
	log  *eventlog.Log
	node string
}

// New makes a processor. The node id must be stable over restarts and unlike any other
// node's.
func New(log *eventlog.Log, node string) *Processor {
	return &Processor{log: log, node: node}
}

// Run chains until ctx ends; nil is its answer then.
func (p *Processor) Run(ctx context.Context) error {
	var stages errgroup.Group
	for _, topic := range auditchain.Topics {
		s := &stage{log: p.log, topic: topic, chains: map[int32]*auditchain.Chain{}}
		stages.Go(func() error {
			return p.log.Transact(ctx, p.node, eventlog.Stage{Name: "process-audit-chain-" + string(topic), Topic: topic, Load: s.load, Handle: s.handle})
		})
	}
	return stages.Wait()
}

// stage chains one topic. It is touched by one goroutine only.
type stage struct {
	log    *eventlog.Log
	topic  eventlog.Topic
	chains map[int32]*auditchain.Chain
}

// load takes over where the links end.
func (s *stage) load(ctx context.Context, partition int32) error {
	chain := auditchain.New(s.topic, partition)
	var bad error
	err := s.log.ReadPartition(ctx, eventlog.AuditChain, 0, func(r *kgo.Record) {
		link := new(eventsv1.AuditLink)
		if err := proto.Unmarshal(r.Value, link); err != nil {
			bad = fmt.Errorf("the link at offset %d of %s cannot be read: %w", r.Offset, r.Topic, err)
			return
		}
		if eventlog.Topic(link.GetTopic()) == s.topic && link.GetPartition() == partition {
			chain.Load(link)
		}
	})
	if err := errors.Join(err, bad); err != nil {
		return err
	}
	s.chains[partition] = chain
	return nil
}

func (s *stage) handle(_ context.Context, partition int32, batch []*kgo.Record) (out []*kgo.Record, err error) {
	topic := s.log.Name(eventlog.AuditChain)
	for _, link := range s.chains[partition].Add(batch) {
		record, err := auditchain.Record(topic, link, batch[len(batch)-1])
		if err != nil {
			return nil, err
		}
		out = append(out, record)
	}
	return out, nil
}
