package query

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPlans compares the statements with the golden file that people review.
func TestPlans(t *testing.T) {
	hour := func() *apiv1.ListTelemetryRequest {
		return &apiv1.ListTelemetryRequest{DeviceId: "d", From: timestamppb.New(noon.Add(-time.Hour)), To: timestamppb.New(noon)}
	}
	var text strings.Builder
	write := func(name string, p plan, err error) {
		require.NoError(t, err, name)
		fmt.Fprintf(&text, "-- %s\n%s\n", name, p.sql)
		for _, key := range slices.Sorted(maps.Keys(p.parameters)) {
			fmt.Fprintf(&text, "-- %s = %s\n", key, p.parameters[key])
		}
		text.WriteString("\n")
	}
	list := func(name string, req *apiv1.ListTelemetryRequest) {
		p, _, err := planList("acme", req, noon)
		write(name, p, err)
	}
	p, err := planLatest("acme", &apiv1.GetLatestTelemetryRequest{DeviceId: "d", Name: "location.lat", Component: "gps"})
	write("latest value", p, err)
	list("whole messages of the last day", &apiv1.ListTelemetryRequest{DeviceId: "d"})
	req := hour()
	req.Names, req.Maxpagesize = []string{"temperature", "location.lat"}, 10
	list("two names", req)
	req.PageToken = encodeToken(telemetryToken{To: noon.UnixMilli(), Before: noon.UnixMilli() - 5, Partition: 1, Offset: 7})
	list("two names, next page", req)
	req = hour()
	req.Names, req.Interval = []string{"n"}, "PT5M"
	list("windows, the usual aggregate", req)
	for a := range aggregates {
		req.Aggregates = append(req.Aggregates, a)
	}
	slices.Sort(req.Aggregates)
	req.PageToken = encodeToken(telemetryToken{To: noon.UnixMilli(), Before: noon.UnixMilli()})
	list("windows, every aggregate, next page", req)

	const golden = "testdata/plans.sql"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(text.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err, "go test ./query -run TestPlans -update writes it")
	require.Equal(t, string(want), text.String(), "go test ./query -run TestPlans -update, when the change is meant")
}

func TestSpan(t *testing.T) {
	at := func(s string) *timestamppb.Timestamp {
		parsed, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		return timestamppb.New(parsed)
	}
	day := int64(24 * time.Hour / time.Millisecond)
	for _, tc := range []struct {
		name     string
		from, to *timestamppb.Timestamp
		token    telemetryToken
		wantFrom int64
		wantTo   int64
		says     string
	}{
		{name: "a day until now", wantFrom: noon.UnixMilli() - day, wantTo: noon.UnixMilli()},
		{name: "now stays the first page's", token: telemetryToken{To: 2 * day}, wantFrom: day, wantTo: 2 * day},
		{name: "end between milliseconds", from: at("2026-01-01T00:00:00Z"), to: at("2026-01-01T00:00:00.0015Z"), wantFrom: 1767225600000, wantTo: 1767225600002},
		{name: "before ClickHouse's times", from: at("0001-01-01T00:00:00Z"), to: at("2026-01-01T00:00:00Z"), wantFrom: minMillis, wantTo: 1767225600000},
		{name: "all before ClickHouse's times", from: at("0001-01-01T00:00:00Z"), to: at("0002-01-01T00:00:00Z"), wantFrom: minMillis, wantTo: minMillis},
		{name: "nothing", from: at("2026-01-01T00:00:00Z"), to: at("2026-01-01T00:00:00Z"), says: "not before"},
		{name: "from no time", from: &timestamppb.Timestamp{Seconds: 1 << 60}, says: "from is not a time"},
		{name: "to no time", to: &timestamppb.Timestamp{Nanos: -1}, says: "to is not a time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from, to, err := span(&apiv1.ListTelemetryRequest{From: tc.from, To: tc.to}, tc.token, noon)
			if tc.says != "" {
				require.ErrorContains(t, err, tc.says)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.wantFrom, from)
			require.Equal(t, tc.wantTo, to)
		})
	}
}

// FuzzDecodeToken wants no foreign token to be taken for more than a position.
func FuzzDecodeToken(f *testing.F) {
	f.Add("")
	f.Add(encodeToken(telemetryToken{To: 1, Before: 2, Partition: 3, Offset: 4}))
	f.Add("e30")
	f.Add(strings.Repeat("A", 2000))
	f.Fuzz(func(t *testing.T, token string) {
		at, err := decodeToken[telemetryToken](token)
		if err != nil {
			return
		}
		again, err := decodeToken[telemetryToken](encodeToken(at))
		require.NoError(t, err)
		require.Equal(t, at, again)
	})
}

// FuzzInterval wants every interval that is taken to be within the bounds.
func FuzzInterval(f *testing.F) {
	for _, seed := range []string{"PT1M", "P1D", "P1W", "P2DT12H", "PT0S", "P99999W", "PT99999999S", "P"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if width, err := parseInterval(text); err == nil && (width < time.Second || width > 366*24*time.Hour) {
			t.Fatalf("%q is %s", text, width)
		}
	})
}
