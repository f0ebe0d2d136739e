package auditchain

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Verification is what a verification found of one tenant in one partition.
type Verification struct {
	Tenant    string
	Topic     eventlog.Topic
	Partition int32
	// Links and Records were checked; Unchained records are newer than the last link.
	Links, Records, Unchained uint64
	// Gone are links over records that the log no longer keeps; what they vouched for
	// cannot be checked any more.
	Gone uint64
	// Head is the hash of the last link: who notes it down can later tell that nothing
	// before it has changed, even by somebody who can write all topics.
	Head string
	// Broken says what is wrong and where; empty when nothing is.
	Broken string
}

// Verify reads the log once more and compares it with its chains: those of one tenant,
// or, "", of all. It also gives the hashes of all links, in hex: a head that was noted
// down earlier is among them. Progress is called for each partition with the records
// read; it may be nil.
func Verify(ctx context.Context, log *eventlog.Log, tenant string, progress func(topic eventlog.Topic, partition int32, records uint64)) (found []*Verification, heads map[string]bool, err error) {
	chains, err := readChains(ctx, log, tenant)
	if err != nil {
		return nil, nil, err
	}
	heads = map[string]bool{}
	for _, topic := range Topics {
		starts, err := log.Admin().ListStartOffsets(ctx, log.Name(topic))
		if err == nil {
			err = starts.Error()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look up the beginning of %s: %w", topic, err)
		}
		for partition := range log.Partitions(topic) {
			start, _ := starts.Lookup(log.Name(topic), partition)
			c := &check{topic: topic, partition: partition, start: start.Offset, chains: map[string]*walk{}}
			for tenant, links := range chains[place{topic, partition}] {
				c.chains[tenant] = newWalk(links)
				for _, link := range links {
					heads[hex.EncodeToString(link.GetHash())] = true
				}
			}
			var n uint64
			err := log.ReadPartition(ctx, topic, partition, func(r *kgo.Record) {
				if n++; tenant == "" || TenantOf(r) == tenant {
					c.record(r)
				}
			})
			if err != nil {
				return nil, nil, fmt.Errorf("verify partition %d of %s: %w", partition, topic, err)
			}
			if progress != nil {
				progress(topic, partition, n)
			}
			found = append(found, c.ended()...)
		}
	}
	slices.SortFunc(found, func(a, b *Verification) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return found, heads, nil
}

type place struct {
	topic     eventlog.Topic
	partition int32
}

// readChains reads all links, in their order.
func readChains(ctx context.Context, log *eventlog.Log, tenant string) (map[place]map[string][]*eventsv1.AuditLink, error) {
	chains := map[place]map[string][]*eventsv1.AuditLink{}
	var bad error
	err := log.ReadPartition(ctx, eventlog.AuditChain, 0, func(r *kgo.Record) {
		link := new(eventsv1.AuditLink)
		if err := proto.Unmarshal(r.Value, link); err != nil {
			bad = fmt.Errorf("the link at offset %d of %s cannot be read: %w", r.Offset, r.Topic, err)
			return
		}
		if tenant != "" && link.GetTenant() != tenant {
			return
		}
		at := place{eventlog.Topic(link.GetTopic()), link.GetPartition()}
		if chains[at] == nil {
			chains[at] = map[string][]*eventsv1.AuditLink{}
		}
		chains[at][link.GetTenant()] = append(chains[at][link.GetTenant()], link)
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("read the chains: %w", err)
	}
	return chains, nil
}

// check compares the records of a partition with its chains.
type check struct {
	topic     eventlog.Topic
	partition int32
	start     int64 // of the partition on the log
	chains    map[string]*walk
}

// walk is how far a tenant's chain has been compared.
type walk struct {
	links                     []*eventsv1.AuditLink // the rest
	hash                      []byte                // after the last record
	in                        uint64                // records of the link that has begun
	verified, records, behind uint64
	gone                      uint64
	head                      []byte
	broken                    string
}

// newWalk is the walk along links, which must be a chain themselves.
func newWalk(links []*eventsv1.AuditLink) *walk {
	w := &walk{links: links}
	for i, link := range links {
		var before []byte
		if i > 0 {
			before = links[i-1].GetHash()
		}
		if !bytes.Equal(link.GetPrevious(), before) && w.broken == "" {
			w.broken = fmt.Sprintf("the link over offsets %d to %d does not follow the one before: links were removed, put in or changed", link.GetFirst(), link.GetLast())
		}
		w.head = link.GetHash()
	}
	return w
}

func (c *check) record(r *kgo.Record) {
	tenant := TenantOf(r)
	w := c.chains[tenant]
	if w == nil {
		w = &walk{}
		c.chains[tenant] = w
	}
	w.record(r, c.start)
}

func (w *walk) record(r *kgo.Record, start int64) {
	if w.broken != "" || w.skipGone(start, r.Offset) {
		return
	}
	if len(w.links) == 0 {
		w.behind++
		return
	}
	link := w.links[0]
	if w.in == 0 && r.Offset != link.GetFirst() {
		w.broken = fmt.Sprintf("the record at offset %d is not what the chain has next, which is at %d: a record was put in or removed", r.Offset, link.GetFirst())
		return
	}
	w.hash = Next(w.hash, r)
	w.in++
	w.records++
	switch {
	case r.Offset > link.GetLast():
		w.broken = fmt.Sprintf("the record at offset %d stands where the chain has ended: the one at %d was removed", r.Offset, link.GetLast())
	case r.Offset == link.GetLast() && (!bytes.Equal(w.hash, link.GetHash()) || w.in != link.GetCount()):
		w.broken = fmt.Sprintf("the %d records of offsets %d to %d are not those that were written: one of them was changed, removed, put in or moved", link.GetCount(), link.GetFirst(), link.GetLast())
	case r.Offset == link.GetLast():
		w.verified++
		w.links, w.in = w.links[1:], 0
	}
}

// skipGone leaves out links over records before the log's start, whole or in part, and
// reports whether the record is of such a link. They are at the beginning.
func (w *walk) skipGone(start, next int64) bool {
	for len(w.links) > 0 && w.links[0].GetFirst() < start {
		if next <= w.links[0].GetLast() {
			return true
		}
		w.gone++
		w.hash = w.links[0].GetHash()
		w.links = w.links[1:]
	}
	return false
}

func (c *check) ended() (found []*Verification) {
	for tenant, w := range c.chains {
		w.skipGone(c.start, math.MaxInt64)
		if w.broken == "" && w.gone > 0 && c.topic != eventlog.Audit {
			w.broken = fmt.Sprintf("the log begins at offset %d, but this topic is kept for ever: records were deleted", c.start)
		}
		if w.broken == "" && len(w.links) > 0 {
			w.broken = fmt.Sprintf("the records of offsets %d to %d are gone", w.links[0].GetFirst(), w.links[len(w.links)-1].GetLast())
		}
		found = append(found, &Verification{
			Tenant: tenant, Topic: c.topic, Partition: c.partition, Links: w.verified, Records: w.records, Unchained: w.behind, Gone: w.gone,
			Head: hex.EncodeToString(w.head), Broken: w.broken,
		})
	}
	return found
}
