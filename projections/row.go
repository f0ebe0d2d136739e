package projections

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// row is one message as the table telemetry holds it. Its slices alias the
// record.
type row struct {
	tenant, device []byte
	timestamp      int64 // event time, Unix milliseconds
	component      []byte
	module         []byte // empty: the device itself
	body           []byte
	properties     []byte // the bag, encoded
	id             []byte
}

// refusal says why a record is no row. The class is a label of few values for
// metrics, the reason is for the person who looks into the dead letter.
type refusal struct{ class, reason string }

// Classes of refusals.
const (
	badKey       = "key"
	badBody      = "body"
	badAttribute = "attribute"
	notInserted  = "clickhouse" // ClickHouse would not take the row
)

const (
	maxTenantBytes    = 256
	maxDeviceBytes    = 1024
	maxAttributeBytes = 1024 // ce_subject, ce_id and the module in ce_source
)

// toRow maps a telemetry record to its row, or says why there is none.
func toRow(r *kgo.Record) (row, *refusal) {
	tenant, device, ok := eventlog.SplitKey(r.Key)
	switch {
	case !ok:
		return row{}, &refusal{badKey, fmt.Sprintf("record key %.100q is not tenant/device", r.Key)}
	case len(tenant) > maxTenantBytes || len(device) > maxDeviceBytes:
		return row{}, &refusal{badKey, fmt.Sprintf("record key has a tenant of %d bytes and a device of %d bytes, allowed are %d and %d", len(tenant), len(device), maxTenantBytes, maxDeviceBytes)}
	case !utf8.Valid(r.Key):
		return row{}, &refusal{badKey, fmt.Sprintf("record key %.100q is not UTF-8", r.Key)}
	}
	component, id := eventlog.Header(r, eventlog.HeaderSubject), eventlog.Header(r, eventlog.HeaderID)
	if bad := checkAttribute(eventlog.HeaderSubject, component); bad != nil {
		return row{}, bad
	}
	if bad := checkAttribute(eventlog.HeaderID, id); bad != nil {
		return row{}, bad
	}
	module := moduleOf(eventlog.Header(r, eventlog.HeaderSource), device)
	if bad := checkAttribute(eventlog.HeaderSource, module); bad != nil {
		return row{}, bad
	}
	if err := checkBody(r.Value); err != nil {
		return row{}, &refusal{badBody, err.Error()}
	}
	return row{
		tenant: tenant, device: device,
		timestamp:  eventTime(eventlog.Header(r, eventlog.HeaderTime), loggedAt(r.Timestamp)),
		component:  component,
		module:     module,
		body:       r.Value,
		properties: eventlog.Header(r, eventlog.HeaderProperties),
		id:         id,
	}, nil
}

// moduleOf is the module in `/devices/{device}/modules/{module}`, the source of what
// a module of the device sent; nil for any other source.
func moduleOf(source, device []byte) []byte {
	rest, ok := bytes.CutPrefix(source, []byte("/devices/"))
	if ok {
		rest, ok = bytes.CutPrefix(rest, device)
	}
	if ok {
		rest, ok = bytes.CutPrefix(rest, []byte("/modules/"))
	}
	if !ok {
		return nil
	}
	return rest
}

func checkAttribute(name string, value []byte) *refusal {
	switch {
	case len(value) > maxAttributeBytes:
		return &refusal{badAttribute, fmt.Sprintf("header %s has %d bytes, allowed are %d", name, len(value), maxAttributeBytes)}
	case !utf8.Valid(value):
		return &refusal{badAttribute, fmt.Sprintf("header %s %.100q is not UTF-8", name, value)}
	}
	return nil
}

// What a DateTime64(3) holds, in Unix milliseconds.
var (
	earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	latest   = time.Date(2299, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()
)

func representable(ms int64) bool { return ms >= earliest && ms <= latest }

// eventTime is the time of the header, RFC 3339, or the record's when the header
// is missing, is something else, or is a time ClickHouse cannot hold.
func eventTime(header []byte, logged int64) int64 {
	var t time.Time
	if len(header) == 0 || len(header) > 64 || t.UnmarshalText(header) != nil || !representable(t.UnixMilli()) {
		return logged
	}
	return t.UnixMilli()
}

// loggedAt is the record's timestamp, Unix milliseconds; a producer may have set any.
func loggedAt(t time.Time) int64 {
	if ms := t.UnixMilli(); representable(ms) {
		return ms
	}
	return 0
}
