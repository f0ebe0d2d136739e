package telemetry

import (
	"encoding/json"
	"testing"
)

func FuzzBatch(f *testing.F) {
	f.Add([]byte(`[{"ts":"2026-01-02T03:04:05Z","body":{"a":1}},{"body":[]}]`))
	f.Add([]byte(`[{"body":1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		events, err := SplitBatch(payload)
		if err != nil {
			return
		}
		if len(events) == 0 || len(events) > MaxBatch {
			t.Fatalf("%d events", len(events))
		}
		for _, e := range events {
			if !json.Valid(e.Body) || len(e.Body) > len(payload) {
				t.Fatalf("body %q", e.Body)
			}
			if !e.At.IsZero() && (e.At.Before(Earliest) || e.At.After(Latest)) {
				t.Fatalf("time %s", e.At)
			}
		}
	})
}
