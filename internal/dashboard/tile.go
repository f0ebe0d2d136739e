package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
)

// Shows is what a kind of tile shows.
type Shows int

// What tiles show.
const (
	Nothing     Shows = iota // of devices
	Curves                   // aggregates by intervals
	Total                    // aggregates over the whole time
	Latest                   // last known values
	Values                   // values as they were sent
	Counts                   // how many values there were by intervals
	Positions                // where devices were
	Properties               // properties as they are
	DeviceCount              // how many devices there are
	Saved                    // the answer of a saved query
)

// types are IoT Central's kinds of tiles (FEATURES.md DASH-04).
var types = map[string]Shows{
	"lineChart": Curves, "barChart": Curves, "pieChart": Total, "heatMapChart": Curves, "kpi": Total, "lkv": Latest,
	"eventChart": Counts, "eventHistoryChart": Values, "stateChart": Values, "stateHistoryChart": Values,
	"mapTelemetry": Positions, "mapProperty": Properties, "property": Properties, "deviceCount": DeviceCount, "dataExplorer": Saved,
	"command": Nothing, "markdown": Nothing, "label": Nothing, "image": Nothing, "externalContent": Nothing,
}

// Capability is a value that devices send or have, and what is made of it.
type Capability struct {
	// Path is the capability's name, with the component's and a dot before it, or with
	// the members of an object behind it.
	Path string `json:"capability"`
	// Aggregate is sum, count, max, min or avg.
	Aggregate string `json:"aggregateFunction"`
}

// Tile is what a tile asks.
type Tile struct {
	Type         string       `json:"type"`
	Shows        Shows        `json:"-"`
	Group        string       `json:"group"`
	Devices      []string     `json:"devices"`
	Capabilities []Capability `json:"capabilities"`
	QueryRange   *Range       `json:"queryRange"`
	// Query is the saved query of a data explorer tile.
	Query string `json:"query"`
	// SplitBy is `$id` or a property, of a saved query.
	SplitBy string `json:"splitBy"`
	// ShowTrend asks for the value before the last one, too.
	ShowTrend *bool `json:"showTrend"`

	SourceURL string `json:"sourceUrl"`
	Href      string `json:"href"`
}

// Range is how much a tile shows.
type Range struct {
	Type       string `json:"type"`
	Duration   string `json:"duration"`
	Resolution string `json:"resolution"`
	Count      int    `json:"count"`
}

// Durations and resolutions of charts (FEATURES.md DASH-06), longest last.
var (
	durations = map[string]time.Duration{
		"PT30M": 30 * time.Minute, "PT1H": time.Hour, "PT12H": 12 * time.Hour, "P1D": 24 * time.Hour, "P1W": 7 * 24 * time.Hour, "P30D": 30 * 24 * time.Hour,
	}
	resolutions = []struct {
		Name string
		Of   time.Duration
	}{
		{"PT1M", time.Minute}, {"PT5M", 5 * time.Minute}, {"PT10M", 10 * time.Minute}, {"PT30M", 30 * time.Minute},
		{"PT1H", time.Hour}, {"PT12H", 12 * time.Hour}, {"P1D", 24 * time.Hour}, {"P1W", 7 * 24 * time.Hour},
	}
)

const (
	// defaultDuration is that of a chart that does not say one (FEATURES.md ANA-04).
	defaultDuration = 24 * time.Hour
	// buckets is into how many intervals a chart without a resolution is cut
	// (FEATURES.md DASH-07).
	buckets = 50
	// lastValues is how many values as they were sent a chart shows.
	lastValues      = 100
	maxDevices      = 100
	maxCapabilities = 20
)

// Span is how much time the tile shows, and the interval that a point of it stands
// for, with its name.
func (t *Tile) Span() (duration, resolution time.Duration, name string) {
	duration = defaultDuration
	if t.QueryRange != nil && t.QueryRange.Duration != "" {
		duration = durations[t.QueryRange.Duration]
	}
	for _, r := range resolutions {
		if t.QueryRange != nil && t.QueryRange.Resolution == r.Name || (t.QueryRange == nil || t.QueryRange.Resolution == "") && r.Of >= duration/buckets {
			return duration, r.Of, r.Name
		}
	}
	last := resolutions[len(resolutions)-1]
	return duration, last.Of, last.Name
}

// Window is how far back a tile of values as they were sent looks.
func (t *Tile) Window() time.Duration {
	if t.QueryRange != nil && t.QueryRange.Type == "count" {
		return durations["P30D"]
	}
	duration, _, _ := t.Span()
	return duration
}

// ReadTile reads the configuration of a tile.
func ReadTile(configuration *structpb.Struct) (*Tile, error) {
	t, err := read(configuration)
	if err != nil {
		return nil, err
	}
	shows, ok := types[t.Type]
	if !ok {
		return nil, fmt.Errorf("type %.40q is not one: use %s", t.Type, strings.Join(typeNames(), ", "))
	}
	t.Shows = shows
	if t.QueryRange != nil && t.QueryRange.Type == "count" && shows == Curves {
		t.Shows = Values
	}
	return t, t.check()
}

// ReadQuery reads the configuration of a saved query.
func ReadQuery(configuration *structpb.Struct) (*Tile, error) {
	t, err := read(configuration)
	if err != nil {
		return nil, err
	}
	if t.Type != "" && types[t.Type] != Curves {
		return nil, fmt.Errorf("type %.40q is not one of a query: leave it out, or use lineChart or barChart", t.Type)
	}
	t.Shows = Curves
	if t.SplitBy != "" && t.SplitBy != "$id" && !pathPattern.MatchString(t.SplitBy) {
		return nil, fmt.Errorf("splitBy %.60q is not valid: use $id or the name of a property", t.SplitBy)
	}
	return t, t.check()
}

func read(configuration *structpb.Struct) (*Tile, error) {
	text, err := configuration.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	t := new(Tile)
	var wrong *json.UnmarshalTypeError
	if err := json.Unmarshal(text, t); errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s is a %s where a %s belongs", wrong.Field, wrong.Value, wrong.Type)
	} else if err != nil {
		return nil, fmt.Errorf("not readable: %w", err)
	}
	return t, nil
}

func typeNames() (names []string) {
	for name := range types {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// pathPattern is a name of the modeling language, or several with dots between them.
var pathPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,7}$`)

func (t *Tile) check() error {
	switch {
	case len(t.Devices) > maxDevices:
		return fmt.Errorf("devices has %d entries: use at most %d", len(t.Devices), maxDevices)
	case len(t.Capabilities) > maxCapabilities:
		return fmt.Errorf("capabilities has %d entries: use at most %d", len(t.Capabilities), maxCapabilities)
	case len(t.Capabilities) == 0 && t.Shows != Nothing && t.Shows != DeviceCount && t.Shows != Saved:
		return errors.New("capabilities is empty: say what to show, like [{\"capability\": \"temperature\", \"aggregateFunction\": \"avg\"}]")
	case len(t.Group) > 255:
		return errors.New("group is not the id of a device group")
	}
	for i, c := range t.Capabilities {
		if !pathPattern.MatchString(c.Path) {
			return fmt.Errorf("capabilities[%d].capability %.60q is not a name, or names with dots between them", i, c.Path)
		}
		if !slices.Contains([]string{"sum", "count", "max", "min", "avg"}, c.Aggregate) && (t.Shows == Curves || t.Shows == Total || c.Aggregate != "") {
			return fmt.Errorf("capabilities[%d].aggregateFunction %.20q is not one: use sum, count, max, min or avg", i, c.Aggregate)
		}
	}
	if err := t.checkRange(); err != nil {
		return err
	}
	if t.SourceURL != "" || t.Type == "externalContent" {
		if err := validateLink(t.SourceURL, true); err != nil {
			return fmt.Errorf("sourceUrl is %w", err)
		}
	}
	if err := validateLink(t.Href, false); err != nil {
		return fmt.Errorf("href is %w", err)
	}
	return nil
}

func (t *Tile) checkRange() error {
	r := t.QueryRange
	switch {
	case r == nil:
		return nil
	case r.Type == "count":
		if r.Count != 0 && r.Count != lastValues {
			return fmt.Errorf("queryRange.count is %d: it can only be %d", r.Count, lastValues)
		}
		return nil
	case r.Type != "time":
		return fmt.Errorf("queryRange.type %.20q is not one: use time or count", r.Type)
	case durations[r.Duration] == 0:
		return fmt.Errorf("queryRange.duration %.20q is not one: use PT30M, PT1H, PT12H, P1D, P1W or P30D", r.Duration)
	case r.Resolution == "":
		return nil
	}
	for _, known := range resolutions {
		if known.Name == r.Resolution {
			if known.Of > durations[r.Duration] || durations[r.Duration]/known.Of > 10_000 {
				return fmt.Errorf("queryRange.resolution %s does not suit a duration of %s: use a finer one", r.Resolution, r.Duration)
			}
			return nil
		}
	}
	return fmt.Errorf("queryRange.resolution %.20q is not one: use PT1M, PT5M, PT10M, PT30M, PT1H, PT12H, P1D or P1W", r.Resolution)
}
