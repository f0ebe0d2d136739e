package projections_test

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
)

// TestADeadLetterIsOneRow: with where it came from, however often it was put aside.
func TestADeadLetterIsOneRow(t *testing.T) {
	eachSite(t, func(s *site) {
		origin := &kgo.Record{
			Topic: "fleetlog.telemetry", Partition: 2, Offset: 77, Key: []byte("a/d1"), Value: bytes.Repeat([]byte("x"), 100_000), Timestamp: s.began,
			Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("m1")}, {Key: "ce_id", Value: []byte("m2\xff")}},
		}
		elsewhere := &kgo.Record{Topic: "fleetlog.devices", Partition: 1, Offset: 77, Key: []byte("\xff nobody's"), Timestamp: s.began}
		for range 3 {
			require.NoError(t, s.log.DeadLetter(t.Context(), origin, "project-telemetry", "payload is not JSON"))
			require.NoError(t, s.log.DeadLetter(t.Context(), elsewhere, "fold", "no key"))
		}
		again := s.log.DeadLetterRecord(origin, "first", "x")
		require.NoError(t, s.log.DeadLetter(t.Context(), again, "second", "redriven, and refused again"))
		s.startOf(projections.NewDeadLetter, s.conn, projections.Options{BlockRows: 2})
		s.wantLines(`SELECT formatRow('TSV', tenant, stage, reason, source_topic, source_partition, source_offset, length(headers), length(payload), payload_bytes, logged_at = fromUnixTimestamp64Milli(`+strconv.FormatInt(s.began.UnixMilli(), 10)+`))
			FROM dead_letter FINAL WHERE stage != 'second' ORDER BY tenant, stage`,
			"\tfold\tno key\tfleetlog.devices\t1\t77\t0\t0\t0\t1",
			"a\tproject-telemetry\tpayload is not JSON\tfleetlog.telemetry\t2\t77\t1\t65536\t100000\t1",
		)
		s.wantLines("SELECT formatRow('TSV', reason, source_topic, length(headers)) FROM dead_letter FINAL WHERE stage = 'second'",
			"redriven, and refused again\t"+s.log.Name(eventlog.DeadLetter)+"\t1")
	})
}

// TestAnythingIsADeadLetter: what stands on the topic without our headers is a row too,
// and never one more dead letter.
func TestAnythingIsADeadLetter(t *testing.T) {
	eachSite(t, func(s *site) {
		long := bytes.Repeat([]byte("k"), 9000)
		records := []*kgo.Record{
			{Key: nil, Value: nil},
			{Key: long, Value: []byte("\xff\x00")},
			{Key: append(long, "/x"...), Headers: []kgo.RecordHeader{{Key: string(long), Value: long}, {Key: eventlog.HeaderDeadOffset, Value: []byte("-")}, {Key: eventlog.HeaderDeadPartition, Value: []byte("99999999999")}}},
		}
		for n, r := range records {
			r.Topic, r.Timestamp = s.log.Name(eventlog.DeadLetter), s.began.AddDate(0, 0, -n)
			require.NoError(t, s.log.AppendSync(t.Context(), r))
		}
		s.startOf(projections.NewDeadLetter, s.conn, projections.Options{})
		s.wantLines("SELECT formatRow('TSV', tenant, length(key), source_partition, source_offset) FROM dead_letter ORDER BY logged_at DESC",
			"\t0\t-1\t-1", "\t4096\t-1\t-1", "\t4096\t-1\t-1")
	})
}
