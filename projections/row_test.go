package projections

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/eventlog"
)

var recordTime = time.Date(2026, 5, 4, 3, 2, 1, 42e6, time.UTC)

func goodRecord() *kgo.Record {
	return eventlog.CloudEvent("telemetry", "id-1", "/source", eventlog.TypeTelemetry, recordTime, eventlog.ContentTypeJSON,
		[]byte("default/d1"), []byte(`{"a":1}`))
}

func setHeader(r *kgo.Record, name, value string) {
	for i := range r.Headers {
		if r.Headers[i].Key == name {
			r.Headers[i].Value = []byte(value)
			return
		}
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
}

func TestRow(t *testing.T) {
	r := goodRecord()
	setHeader(r, eventlog.HeaderSubject, "thermostat1")
	setHeader(r, eventlog.HeaderSource, "/devices/d1/modules/camera")
	setHeader(r, eventlog.HeaderProperties, "a=b")
	setHeader(r, eventlog.HeaderTime, "2026-05-04T05:02:00.5+02:00")
	got, bad := toRow(r)
	require.Nil(t, bad)
	require.Equal(t, row{
		tenant: []byte("default"), device: []byte("d1"), timestamp: time.Date(2026, 5, 4, 3, 2, 0, 500e6, time.UTC).UnixMilli(),
		component: []byte("thermostat1"), module: []byte("camera"), body: []byte(`{"a":1}`), properties: []byte("a=b"), id: []byte("id-1"),
	}, got)
}

func TestModuleIsTheSourcesOfThatDevice(t *testing.T) {
	for source, want := range map[string]string{
		"/devices/d1": "", "/devices/d1/modules/m": "m", "/devices/d1/modules/$edgeHub": "$edgeHub", "/devices/d12/modules/m": "",
		"/devices/d2/modules/m": "", "/bridges/b/devices/d1/modules/m": "", "": "",
	} {
		r := goodRecord()
		setHeader(r, eventlog.HeaderSource, source)
		got, bad := toRow(r)
		require.Nil(t, bad, source)
		require.Equal(t, want, string(got.module), source)
	}
}

func TestEventTimeFallsBackToTheRecords(t *testing.T) {
	for name, header := range map[string]string{
		"missing": "", "nonsense": "yesterday", "no zone": "2026-05-04T03:02:01", "too early": "1899-12-31T23:59:59Z",
		"too late": "2300-01-01T00:00:00Z", "no such day": "2026-02-30T00:00:00Z", "long": strings.Repeat("2", 1<<16),
	} {
		r := goodRecord()
		setHeader(r, eventlog.HeaderTime, header)
		got, bad := toRow(r)
		require.Nil(t, bad, name)
		require.Equal(t, recordTime.UnixMilli(), got.timestamp, name)
	}
	r := goodRecord()
	r.Headers, r.Timestamp = nil, time.UnixMilli(-1<<60)
	_, bad := toRow(r)
	require.Nil(t, bad)
	require.Zero(t, loggedAt(r.Timestamp), "a producer may set any time")
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*kgo.Record)
		class  string
		reason string
	}{
		"no key":         {func(r *kgo.Record) { r.Key = nil }, badKey, "not tenant/device"},
		"no device":      {func(r *kgo.Record) { r.Key = []byte("default/") }, badKey, "not tenant/device"},
		"key not UTF-8":  {func(r *kgo.Record) { r.Key = []byte("default/\xff") }, badKey, "not UTF-8"},
		"long key":       {func(r *kgo.Record) { r.Key = []byte("default/" + strings.Repeat("x", 2000)) }, badKey, "2000 bytes"},
		"long subject":   {func(r *kgo.Record) { setHeader(r, eventlog.HeaderSubject, strings.Repeat("x", 2000)) }, badAttribute, "ce_subject has 2000 bytes"},
		"id not UTF-8":   {func(r *kgo.Record) { setHeader(r, eventlog.HeaderID, "\xff") }, badAttribute, "ce_id"},
		"no payload":     {func(r *kgo.Record) { r.Value = nil }, badBody, "empty"},
		"broken payload": {func(r *kgo.Record) { r.Value = []byte(`{"a"`) }, badBody, "not JSON at byte 3"},
	} {
		r := goodRecord()
		test.change(r)
		_, bad := toRow(r)
		require.NotNil(t, bad, name)
		require.Equal(t, test.class, bad.class, name)
		require.Contains(t, bad.reason, test.reason, name)
	}
}

func TestProperties(t *testing.T) {
	for bag, want := range map[string]map[string]string{
		"":                          nil,
		"a=1&b=2":                   {"a": "1", "b": "2"},
		"a%20b=c%26d&e=f%3D":        {"a b": "c&d", "e": "f="},
		"plus=a+b":                  {"plus": "a+b"},
		"a=1&a=2":                   {"a": "2"},
		"a":                         {"a": ""},
		"=v":                        {"": "v"},
		"a=b=c":                     {"a": "b=c"},
		"&&a=1&":                    {"a": "1"},
		"bad=%zz&half=%4&good=%41":  {"bad": "%zz", "half": "%4", "good": "A"},
		"notutf8=%ff&raw=\xff":      {"notutf8": "\uFFFD", "raw": "\uFFFD"},
		"%24.sub=x&emoji=%F0%9F%98": {"$.sub": "x", "emoji": "\uFFFD"},
	} {
		require.Equal(t, want, parseProperties(bag), bag)
	}
	many := parseProperties(strings.Repeat("a=1&", 10) + strings.Join(names(1000), "&"))
	require.Len(t, many, maxProperties+1)
	require.Contains(t, many[restOfBag], "n999=")
}

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "n" + strings.Repeat("0", 3-min(3, len(itoa(i)))) + itoa(i) + "="
	}
	return all
}

func itoa(i int) string { return partitionLabel(int32(i)) }

// FuzzRow: whatever stands on the topic becomes a row or a reason.
func FuzzRow(f *testing.F) {
	f.Add([]byte("default/d1"), []byte(`{"a":1}`), "2026-05-04T03:02:01Z", "thermostat1", "a=1&b=%20", "id", int64(1))
	f.Add([]byte("/"), []byte(`[`), "0000-00-00T", "\xff", "&&=%&", "", int64(-1))
	f.Fuzz(func(t *testing.T, key, value []byte, at, subject, bag, id string, timestamp int64) {
		r := &kgo.Record{Key: key, Value: value, Timestamp: time.UnixMilli(timestamp)}
		setHeader(r, eventlog.HeaderTime, at)
		setHeader(r, eventlog.HeaderSubject, subject)
		setHeader(r, eventlog.HeaderProperties, bag)
		setHeader(r, eventlog.HeaderID, id)
		b := newBlock(0, &telemetry)
		b.add(r, time.Time{})
		switch {
		case len(b.refused) == 1:
			require.Zero(t, b.rows.len())
			require.NotEmpty(t, b.refused[0].reason)
		default:
			rows := b.filler.(*telemetryRows)
			require.Equal(t, 1, b.rows.len())
			require.Equal(t, value, rows.body.of[0])
			require.True(t, representable(rows.timestamp.of[0]) && representable(b.rows.loggedAt.of[0]))
			require.LessOrEqual(t, len(rows.properties.of[0]), maxProperties+1)
		}
	})
}
