package https

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
	"github.com/fleetlog/fleetlog/internal/files"
)

func FuzzBatch(f *testing.F) {
	f.Add([]byte(`[{"body":"e30=","properties":{"iothub-app-a":"b","dt-subject":"c"}},{"body":"text","base64Encoded":false}]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"body":"e30="}] x`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := parseBatch(body)
		if err != nil {
			return
		}
		if len(messages) == 0 || len(messages) > maxBatch {
			t.Fatalf("%d messages", len(messages))
		}
		size := 0
		for _, m := range messages {
			size += m.Size()
			m.Tenant, m.Device, m.Arrived = "t", "d", time.Unix(0, 0)
			checkBag(t, m.Properties)
			if _, err := m.Record("topic"); err != nil && len(m.Properties) == 0 {
				t.Fatal(err)
			}
		}
		if size > telemetry.MaxBytes {
			t.Fatalf("%d bytes", size)
		}
	})
}

// checkBag wants the bag to be read again as it was written.
func checkBag(t *testing.T, properties []telemetry.Property) {
	t.Helper()
	bag := telemetry.EncodeBag(properties)
	if bag == "" && len(properties) > 0 {
		t.Fatal("properties are lost")
	}
	if bag == "" {
		return
	}
	for i, pair := range strings.Split(bag, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(name)
		if err != nil {
			t.Fatal(err)
		}
		value, err = url.PathUnescape(value)
		if err != nil {
			t.Fatal(err)
		}
		if name != properties[i].Name || value != properties[i].Value {
			t.Fatalf("%q=%q became %q=%q", properties[i].Name, properties[i].Value, name, value)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("iothub-app-room", "b 2", "dt-subject", "c")
	f.Add("Iothub-App-", "x", "IoTHub-MessageId", "\xe9")
	f.Add("iothub-app-$.sub", "x", "iothub-to", "/devices/d/messages/events")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		bag, err := propertiesOf(http.Header{name1: {value1}, name2: {value2, value1}}, "/devices/d/messages/events")
		if err != nil {
			return
		}
		checkBag(t, bag)
		for _, p := range bag {
			if !utf8.ValidString(p.Value) {
				t.Fatalf("%q is not UTF-8", p.Value)
			}
			known := false
			for _, system := range systemProperties {
				known = known || system == p.Name
			}
			if strings.HasPrefix(p.Name, "$.") && !known {
				t.Fatalf("%q claims to be a system property", p.Name)
			}
		}
	})
}

// FuzzUploadToken changes what was signed, and wants nothing else to be taken.
func FuzzUploadToken(f *testing.F) {
	s := signer{key: []byte("key")}
	now := time.Unix(1_800_000_000, 0)
	u := upload{expires: now.Add(time.Hour)}
	u.name, _ = files.ParseName("default", "d", "a/b.txt")
	token, correlation := strings.TrimPrefix(s.token(u), "?"), s.correlation(u)
	f.Add(token, "default", "d/a/b.txt", correlation)
	f.Add(token+"&comp=block", "default", "d/../b.txt", correlation+"A")
	f.Add("se=&sig=&scid=", "", "", "")
	f.Fuzz(func(t *testing.T, token, container, blob, correlation string) {
		query, err := url.ParseQuery(token)
		if err != nil {
			return
		}
		if got, err := s.parseToken(query, container, blob, now); err == nil && (got.name != u.name || !got.expires.Equal(u.expires) || got.id != u.id || blob != u.name.Blob()) {
			t.Fatalf("taken: %v", got)
		}
		if got, err := s.parseCorrelation(correlation, caller{tenant: "default", device: "d"}, now); err == nil && got.name != u.name {
			t.Fatalf("taken: %v", got)
		}
		ids, err := parseBlockList([]byte(correlation))
		if err == nil && len(ids) > maxBlocks {
			t.Fatal("too many blocks")
		}
	})
}
