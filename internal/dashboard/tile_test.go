package dashboard

import (
	"testing"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/structpb"
)

func configuration(t testing.TB, text string) *structpb.Struct {
	t.Helper()
	s := new(structpb.Struct)
	require.NoError(t, s.UnmarshalJSON([]byte(text)))
	return s
}

const capability = `"capabilities":[{"capability":"temperature","aggregateFunction":"avg"}]`

func TestWhatTilesAsk(t *testing.T) {
	for text, want := range map[string]Shows{
		`{"type":"lineChart",` + capability + `}`:                                             Curves,
		`{"type":"lineChart",` + capability + `,"queryRange":{"type":"count","count":100}}`:   Values,
		`{"type":"kpi",` + capability + `}`:                                                   Total,
		`{"type":"lkv","capabilities":[{"capability":"c.temperature.x"}],"devices":["d"]}`:    Latest,
		`{"type":"deviceCount","group":"g"}`:                                                  DeviceCount,
		`{"type":"dataExplorer","query":"q"}`:                                                 Saved,
		`{"type":"markdown","description":"# x","href":"https://example.com/x"}`:              Nothing,
		`{"type":"externalContent","sourceUrl":"https://example.com","unknown":{"a":[1,{}]}}`: Nothing,
	} {
		tile, err := ReadTile(configuration(t, text))
		require.NoError(t, err, text)
		require.Equal(t, want, tile.Shows, text)
	}
	for text, says := range map[string]string{
		`{}`:             "type",
		`{"type":5}`:     "type is a number where a string belongs",
		`{"type":"kpi"}`: "capabilities is empty",
		`{"type":"kpi","capabilities":[{"capability":"a b","aggregateFunction":"avg"}]}`:                        "capability",
		`{"type":"kpi","capabilities":[{"capability":"a"}]}`:                                                    "aggregateFunction",
		`{"type":"kpi",` + capability + `,"queryRange":{"type":"time"}}`:                                        "duration",
		`{"type":"kpi",` + capability + `,"queryRange":{"type":"time","duration":"PT30M","resolution":"P1W"}}`:  "resolution P1W does not suit",
		`{"type":"kpi",` + capability + `,"queryRange":{"type":"time","duration":"PT30M","resolution":"PT2M"}}`: "use PT1M",
		`{"type":"kpi",` + capability + `,"queryRange":{"type":"count","count":7}}`:                             "can only be 100",
		`{"type":"image","href":"javascript:alert(1)"}`:                                                         "href",
		`{"type":"externalContent"}`: "sourceUrl",
	} {
		_, err := ReadTile(configuration(t, text))
		require.ErrorContains(t, err, says, text)
	}
	_, err := ReadQuery(configuration(t, `{"type":"kpi",`+capability+`}`))
	require.ErrorContains(t, err, "type")
}

func TestSpans(t *testing.T) {
	for text, want := range map[string]struct {
		duration, resolution time.Duration
		name                 string
	}{
		`{"type":"lineChart",` + capability + `}`:                                                                    {24 * time.Hour, 30 * time.Minute, "PT30M"},
		`{"type":"lineChart",` + capability + `,"queryRange":{"type":"time","duration":"PT30M"}}`:                    {30 * time.Minute, time.Minute, "PT1M"},
		`{"type":"lineChart",` + capability + `,"queryRange":{"type":"time","duration":"P30D"}}`:                     {720 * time.Hour, 24 * time.Hour, "P1D"},
		`{"type":"lineChart",` + capability + `,"queryRange":{"type":"time","duration":"P1W","resolution":"PT12H"}}`: {168 * time.Hour, 12 * time.Hour, "PT12H"},
	} {
		tile, err := ReadTile(configuration(t, text))
		require.NoError(t, err)
		duration, resolution, name := tile.Span()
		require.Equal(t, want.duration, duration, text)
		require.Equal(t, want.resolution, resolution, text)
		require.Equal(t, want.name, name, text)
	}
}

// FuzzTile has any configuration end in a tile whose span and window are sound, or in an
// error.
func FuzzTile(f *testing.F) {
	f.Add(`{"type":"lineChart",` + capability + `,"queryRange":{"type":"time","duration":"PT1H","resolution":"PT1M"}}`)
	f.Add(`{"type":"externalContent","sourceUrl":"https://x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		s := new(structpb.Struct)
		if s.UnmarshalJSON([]byte(text)) != nil {
			return
		}
		_ = validateTile(&eventsv1.DashboardTile{Id: "t", DisplayName: "t", Width: 1, Height: 1, Configuration: s})
		tile, err := ReadTile(s)
		if err != nil {
			return
		}
		duration, resolution, _ := tile.Span()
		require.Positive(t, duration)
		require.Positive(t, resolution)
		require.LessOrEqual(t, duration/resolution, time.Duration(10_000))
		require.Positive(t, tile.Window())
	})
}
