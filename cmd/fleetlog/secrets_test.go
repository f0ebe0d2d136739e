package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestNoSecretIsInTheClear plants secrets of every kind and looks for them, in any of the
// ways they could be written, in all topics, all tables and all files.
func TestNoSecretIsInTheClear(t *testing.T) {
	p := startProcess(t, t.TempDir())
	const role = "ae2c9854-393b-4f97-8c42-479d70ce626e"
	key := func(fill byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill, 7}, 32)) }
	keys := func(a, b byte) map[string]any {
		return map[string]any{"type": "symmetricKey", "symmetricKey": map[string]any{"primaryKey": key(a), "secondaryKey": key(b)}}
	}
	signature := func(token string) string {
		_, rest, _ := strings.Cut(token, "sig=")
		sig, _, _ := strings.Cut(rest, "&")
		return strings.NewReplacer("%2B", "+", "%2F", "/", "%3D", "=").Replace(sig)
	}
	planted := map[string]string{
		"a device's own primary key": key(1), "a device's own secondary key": key(2), "a group's primary key": key(3), "a group's secondary key": key(4), "the administrator's token": signature(p.token),
	}
	p.ok(http.MethodPut, "/api/devices/d", map[string]any{})
	p.ok(http.MethodPut, "/api/devices/d/attestation", keys(1, 2))
	p.ok(http.MethodPut, "/api/enrollmentGroups/g", map[string]any{"displayName": "G", "enabled": true, "type": "iot", "attestation": keys(3, 4)})
	planted["an API token"] = signature(p.ok(http.MethodPut, "/api/apiTokens/planted", map[string]any{"roles": []any{map[string]any{"role": role}}})["token"].(string))
	credentials := p.ok(http.MethodGet, "/api/devices/d/credentials", nil)
	planted["a key that the API tells"] = credentials["symmetricKey"].(map[string]any)["primaryKey"].(string)
	for _, table := range []string{"catalog_events", "device_events"} {
		require.Eventually(t, func() bool { return p.sql("SELECT count() >= 2 FROM fleetlog."+table) == "1" }, 30*time.Second, 50*time.Millisecond)
	}

	places := map[string][]byte{}
	p.dumpTopics(places)
	p.dumpTables(places)
	p.terminate()
	p.dumpFiles(places)
	require.Greater(t, len(places), 40)
	require.Contains(t, string(slices.Concat(places["topic fleetlog.catalog"])), "enrollmentGroups", "the dump has what was written")
	for what, secret := range planted {
		for how, form := range formsOf(t, secret) {
			for place, content := range places {
				require.False(t, bytes.Contains(content, form), "%s is in %s, %s", what, place, how)
			}
		}
	}
}

// formsOf are the ways a secret may be written.
func formsOf(t *testing.T, encoded string) map[string][]byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(raw), 16)
	return map[string][]byte{
		"as it is": raw, "in base64": []byte(strings.TrimRight(encoded, "=")), "in base64 for URLs": []byte(base64.RawURLEncoding.EncodeToString(raw)),
		"in hex": []byte(hex.EncodeToString(raw)), "in HEX": []byte(strings.ToUpper(hex.EncodeToString(raw))),
	}
}

// dumpTopics gathers all records of all topics.
func (p *process) dumpTopics(places map[string][]byte) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.at.Kafka), kgo.ConsumeRegex(), kgo.ConsumeTopics(".*"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(p.t, err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(p.t.Context())
	require.NoError(p.t, err)
	type partition struct {
		topic string
		id    int32
	}
	left := map[partition]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[partition{o.Topic, o.Partition}] = o.Offset
		}
	})
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		require.NoError(p.t, ctx.Err(), "%v", left)
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			at := "topic " + f.Topic
			for _, r := range f.Records {
				places[at] = slices.Concat(places[at], r.Key, []byte("\n"), r.Value, []byte("\n"))
				for _, h := range r.Headers {
					places[at] = append(append(places[at], h.Key...), h.Value...)
				}
				left[partition{f.Topic, f.Partition}] = ends[f.Topic][f.Partition].Offset - 1 - r.Offset
			}
			// Behind the last record there may be a transaction's mark.
			if left[partition{f.Topic, f.Partition}] <= 1 {
				delete(left, partition{f.Topic, f.Partition})
			}
		})
	}
}

// dumpTables gathers all rows of all tables, as text and as bytes.
func (p *process) dumpTables(places map[string][]byte) {
	p.t.Helper()
	for _, name := range strings.Fields(p.sql("SELECT database || '.' || name FROM system.tables WHERE database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema') AND engine LIKE '%MergeTree'")) {
		places["table "+name] = []byte(p.sql("SELECT * FROM " + name + " FORMAT JSONEachRow"))
		places["table "+name+", as bytes"] = []byte(p.sql("SELECT * FROM " + name + " FORMAT RowBinary"))
	}
}

// dumpFiles gathers all files but those that are the keys.
func (p *process) dumpFiles(places map[string][]byte) {
	p.t.Helper()
	require.NoError(p.t, filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		switch relative, _ := filepath.Rel(p.dir, path); relative {
		case "admin-token", "master.key":
			return nil
		}
		content, err := os.ReadFile(path)
		places["file "+path] = content
		return err
	}))
	places["the log that people read"] = p.stderr.Bytes()
	places["what it prints"] = p.stdout.Bytes()
}
