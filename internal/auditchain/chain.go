// Package auditchain makes the log tell when it was changed: hashes over the records that
// say who changed what, each over the one before, so that no record can be changed,
// removed, put in or moved without all hashes behind it being others.
//
// In go the records of a partition in their order, out come links; a link vouches for the
// records of one tenant since its last link. The package is pure but for [Verify], which
// reads the log.
package auditchain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Topics are those whose records are vouched for.
var Topics = []eventlog.Topic{eventlog.Catalog, eventlog.Devices, eventlog.Audit}

// Chain is the chains of all tenants over one partition of a topic.
type Chain struct {
	topic     eventlog.Topic
	partition int32
	heads     map[string][]byte // by tenant: the hash after its last record
}

// New is a chain without a link.
func New(topic eventlog.Topic, partition int32) *Chain {
	return &Chain{topic: topic, partition: partition, heads: map[string][]byte{}}
}

// Load takes a link over as its tenant's newest.
func (c *Chain) Load(link *eventsv1.AuditLink) { c.heads[link.GetTenant()] = link.GetHash() }

// Add chains records, which follow those added before, and gives a link for each tenant
// that they are of.
func (c *Chain) Add(batch []*kgo.Record) []*eventsv1.AuditLink {
	links := map[string]*eventsv1.AuditLink{}
	var order []*eventsv1.AuditLink
	for _, r := range batch {
		tenant := TenantOf(r)
		link := links[tenant]
		if link == nil {
			link = &eventsv1.AuditLink{Tenant: tenant, Topic: string(c.topic), Partition: c.partition, First: r.Offset, Previous: c.heads[tenant]}
			links[tenant], order = link, append(order, link)
			link.Hash = link.GetPrevious()
		}
		link.Last, link.Hash = r.Offset, Next(link.GetHash(), r)
		link.Count++
	}
	for _, link := range order {
		c.heads[link.GetTenant()] = link.GetHash()
	}
	return order
}

// TenantOf is the tenant that a record's key names; "" for a key that names none.
func TenantOf(r *kgo.Record) string {
	tenant, _, _ := eventlog.SplitKey(r.Key)
	return string(tenant)
}

// Next is the hash after a record: SHA-256 over the hash before it and over all there is
// of the record, each part with its length before it.
func Next(before []byte, r *kgo.Record) []byte {
	h := sha256.New()
	var number [8]byte
	part := func(content []byte) {
		binary.BigEndian.PutUint64(number[:], uint64(len(content)))
		h.Write(number[:]) // a hash takes everything
		h.Write(content)
	}
	count := func(n int64) {
		binary.BigEndian.PutUint64(number[:], uint64(n))
		h.Write(number[:])
	}
	part(before)
	count(r.Offset)
	count(r.Timestamp.UnixMilli())
	part(r.Key)
	part(r.Value)
	count(int64(len(r.Headers)))
	for _, header := range r.Headers {
		part([]byte(header.Key))
		part(header.Value)
	}
	return h.Sum(nil)
}

// Record is a link as a record of the audit-chain topic, which has one partition.
func Record(topic string, link *eventsv1.AuditLink, like *kgo.Record) (*kgo.Record, error) {
	value, err := proto.Marshal(link)
	if err != nil {
		return nil, fmt.Errorf("encode audit link: %w", err)
	}
	at := link.GetTopic() + "/" + strconv.Itoa(int(link.GetPartition()))
	id := slices.Concat([]byte("chain-"), []byte(at), []byte("-"+strconv.FormatInt(link.GetLast(), 10)+"-"+link.GetTenant()))
	return eventlog.CloudEvent(topic, string(id), "/processors/audit-chain", eventlog.TypeAuditLink,
		like.Timestamp, eventlog.ContentTypeProtobuf, eventlog.Key(link.GetTenant(), at), value), nil
}
