package sim

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// payloads are the measurements of one device, one JSON object after the other.
type payloads interface {
	// append adds the device's next message, measured at the given time, to b.
	append(b []byte, at time.Time) []byte
}

// newPayloads makes a device's measurements: the same seed and device give the
// same ones at the same times.
type newPayloads func(seed, device uint64) payloads

var profiles = map[string]newPayloads{
	"thermostat":  newThermostat,
	"smart-meter": newSmartMeter,
	"gps":         newTruck,
}

// Profiles are the names of the payload profiles.
func Profiles() []string { return slices.Sorted(maps.Keys(profiles)) }

func random(seed, device uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, device)) //nolint:gosec // a simulation, not a secret
}

// dayCycle goes from -1 in the night to 1 in the afternoon (15:00 UTC).
func dayCycle(at time.Time) float64 {
	hours := at.Sub(at.Truncate(24 * time.Hour)).Hours()
	return math.Cos((hours - 15) / 24 * 2 * math.Pi)
}

func appendNumber(b []byte, name string, value float64, decimals int) []byte {
	b = append(b, name...)
	return strconv.AppendFloat(b, value, 'f', decimals, 64)
}

// thermostat is a room: {"temperature":21.4,"humidity":47.2}, °C and %.
type thermostat struct {
	random                *rand.Rand
	temperature, humidity float64 // without the time of day
}

func newThermostat(seed, device uint64) payloads {
	r := random(seed, device)
	return &thermostat{random: r, temperature: 18 + 6*r.Float64(), humidity: 40 + 20*r.Float64()}
}

func (t *thermostat) append(b []byte, at time.Time) []byte {
	t.temperature = walk(t.random, t.temperature, 0.1, 15, 28)
	t.humidity = walk(t.random, t.humidity, 0.3, 25, 75)
	day := dayCycle(at)
	b = appendNumber(b, `{"temperature":`, t.temperature+3*day, 1)
	b = appendNumber(b, `,"humidity":`, t.humidity-5*day, 1)
	return append(b, '}')
}

// walk takes a step of a random walk that stays between two walls.
func walk(r *rand.Rand, value, step, low, high float64) float64 {
	return min(max(value+step*r.NormFloat64(), low), high)
}

// smartMeter is a water meter:
// {"pulseCounter":1042,"leakage":false,"batteryLevel":97}.
type smartMeter struct {
	random  *rand.Rand
	pulses  uint64
	battery float64
}

func newSmartMeter(seed, device uint64) payloads {
	r := random(seed, device)
	return &smartMeter{random: r, pulses: r.Uint64N(100_000), battery: 60 + 40*r.Float64()}
}

func (m *smartMeter) append(b []byte, _ time.Time) []byte {
	m.pulses += m.random.Uint64N(5)
	m.battery = max(m.battery-0.001*m.random.Float64(), 1)
	b = append(b, `{"pulseCounter":`...)
	b = strconv.AppendUint(b, m.pulses, 10)
	b = append(b, `,"leakage":`...)
	b = strconv.AppendBool(b, m.random.IntN(10_000) == 0)
	b = append(b, `,"batteryLevel":`...)
	b = strconv.AppendInt(b, int64(m.battery), 10)
	return append(b, '}')
}

// truck is on the road somewhere around Stuttgart:
// {"location":{"lon":9.18,"lat":48.77,"alt":247.0},"speed":62.5,"heading":41}, in
// degrees, metres and km/h; the location is a DTDL geopoint.
type truck struct {
	random                       *rand.Rand
	lat, lon, alt, speed, headed float64
	last                         time.Time
}

func newTruck(seed, device uint64) payloads {
	r := random(seed, device)
	return &truck{
		random: r, lat: 48.3 + r.Float64(), lon: 8.7 + r.Float64(), alt: 250 + 200*r.Float64(),
		speed: 80 * r.Float64(), headed: 360 * r.Float64(),
	}
}

func (t *truck) append(b []byte, at time.Time) []byte {
	if !t.last.IsZero() {
		t.drive(at.Sub(t.last))
	}
	t.last = at
	b = appendNumber(b, `{"location":{"lon":`, t.lon, 6)
	b = appendNumber(b, `,"lat":`, t.lat, 6)
	b = appendNumber(b, `,"alt":`, t.alt, 1)
	b = appendNumber(b, `},"speed":`, t.speed, 1)
	b = appendNumber(b, `,"heading":`, math.Floor(t.headed), 0)
	return append(b, '}')
}

// drive moves the truck on; it turns back before it leaves the map.
func (t *truck) drive(took time.Duration) {
	const kmPerDegree = 111.2
	t.speed = walk(t.random, t.speed, 2, 0, 90)
	t.headed = math.Mod(t.headed+8*t.random.NormFloat64()+360, 360)
	t.alt = walk(t.random, t.alt, 1, 100, 900)
	km := t.speed * min(took, time.Minute).Hours()
	north, east := math.Cos(t.headed*math.Pi/180), math.Sin(t.headed*math.Pi/180)
	t.lat += km * north / kmPerDegree
	t.lon += km * east / (kmPerDegree * math.Cos(t.lat*math.Pi/180))
	if t.lat < 47 || t.lat > 50 || t.lon < 7 || t.lon > 11 {
		t.headed = math.Mod(t.headed+180, 360)
		t.lat, t.lon = min(max(t.lat, 47), 50), min(max(t.lon, 7), 11)
	}
}
