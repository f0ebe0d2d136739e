// Package trucks makes up what the IoT use case of the Time Series Benchmark Suite
// measures (github.com/timescale/tsbs): a fleet of trucks that send readings and
// diagnostics every ten seconds, a tenth of which never arrives and a third of which
// comes late.
//
// In goes a seed, out come entries in the order in which they arrive; the same seed
// gives the same entries.
package trucks

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

const (
	// Interval is how often a truck sends.
	Interval = 10 * time.Second

	lost   = 0.1
	late   = 0.3
	latest = 360 // intervals
)

// Truck is what does not change about one.
type Truck struct {
	Name, Fleet, Driver, Model                             string
	LoadCapacity, FuelCapacity, NominalFuelConsumption     float64
	latitude, longitude, velocity, fuel, load, consumption float64
	pause, broken                                          int // intervals left
}

// Entry is one message: a reading or a diagnosis.
type Entry struct {
	Truck int
	At    time.Time
	// Diagnosis tells which of the values the entry has.
	Diagnosis                                                                 bool
	Latitude, Longitude, Elevation, Velocity, Heading, Grade, FuelConsumption float64
	FuelState, CurrentLoad                                                    float64
	Status                                                                    int
}

// Fleets are the fleets that trucks belong to.
var Fleets = []string{"East", "West", "North", "South"}

var models = []struct {
	name                string
	load, fuel, nominal float64
}{{"F-150", 2000, 200, 15}, {"G-2000", 5000, 300, 19}, {"H-2", 1500, 150, 12}}

// Fleet is a fleet of trucks on their way.
type Fleet struct {
	Trucks  []Truck
	random  *rand.Rand
	pending [latest + 1][]Entry // by the interval they arrive in
}

// New makes a fleet.
func New(seed uint64, trucks int) *Fleet {
	f := &Fleet{random: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // not for secrets
	for i := range trucks {
		m := models[f.random.IntN(len(models))]
		f.Trucks = append(f.Trucks, Truck{
			Name: fmt.Sprintf("truck_%d", i), Fleet: Fleets[f.random.IntN(len(Fleets))], Driver: fmt.Sprintf("driver-%d", f.random.IntN(20)), Model: m.name,
			LoadCapacity: m.load, FuelCapacity: m.fuel, NominalFuelConsumption: m.nominal,
			latitude: f.random.Float64()*180 - 90, longitude: f.random.Float64()*360 - 180, fuel: f.random.Float64(), load: f.random.Float64(), consumption: m.nominal,
		})
	}
	return f
}

// Entries are what arrives in so many intervals, from the given time on. What would
// arrive later is lost.
func (f *Fleet) Entries(from time.Time, intervals int) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for step := range intervals {
			at := from.Add(time.Duration(step) * Interval)
			for i := range f.Trucks {
				f.Trucks[i].move(f.random)
				for _, diagnosis := range []bool{false, true} {
					if f.random.Float64() < lost {
						continue
					}
					arrives := step
					if f.random.Float64() < late {
						arrives += 1 + f.random.IntN(latest)
					}
					slot := arrives % len(f.pending)
					f.pending[slot] = append(f.pending[slot], f.Trucks[i].entry(f.random, i, at, diagnosis))
				}
			}
			slot := step % len(f.pending)
			for _, e := range f.pending[slot] {
				if !yield(e) {
					return
				}
			}
			f.pending[slot] = f.pending[slot][:0]
		}
	}
}

func walk(r *rand.Rand, v, step, low, high float64) float64 {
	return min(max(v+(r.Float64()*2-1)*step, low), high)
}

func round(v, to float64) float64 { return math.Round(v*to) / to }

func (t *Truck) move(r *rand.Rand) {
	switch {
	case t.pause > 0:
		t.pause--
		t.velocity = 0
	case r.IntN(1500) == 0:
		t.pause = 30 + r.IntN(3000)
	default:
		t.velocity = walk(r, t.velocity+0.5, 10, 0, 100)
	}
	if t.broken > 0 {
		t.broken--
	} else if r.IntN(4000) == 0 {
		t.broken = 30 + r.IntN(500)
	}
	t.latitude, t.longitude = walk(r, t.latitude, 0.005, -90, 90), walk(r, t.longitude, 0.005, -180, 180)
	if t.fuel -= t.velocity * 2e-6; t.fuel < 0.02 {
		t.fuel = 1
	}
	t.consumption = walk(r, t.consumption, 1, 0, 50)
	if r.IntN(2000) == 0 {
		t.load = r.Float64()
	}
}

func (t *Truck) entry(r *rand.Rand, truck int, at time.Time, diagnosis bool) Entry {
	e := Entry{Truck: truck, At: at, Diagnosis: diagnosis}
	if diagnosis {
		e.FuelState, e.CurrentLoad, e.Status = round(t.fuel, 1e4), round(t.load*t.LoadCapacity, 10), 1+r.IntN(5)
		if t.broken > 0 && r.IntN(4) > 0 {
			e.Status = 0
		}
		return e
	}
	e.Latitude, e.Longitude = round(t.latitude, 1e5), round(t.longitude, 1e5)
	e.Velocity, e.FuelConsumption = round(t.velocity, 1e2), round(t.consumption, 1e2)
	e.Elevation, e.Heading, e.Grade = float64(r.IntN(500)), float64(r.IntN(360)), float64(r.IntN(100))
	return e
}

// JSON appends the entry as a device sends it.
func (e *Entry) JSON(b []byte) []byte {
	if e.Diagnosis {
		return fmt.Appendf(b, `{"fuel_state":%v,"current_load":%v,"status":%d}`, e.FuelState, e.CurrentLoad, e.Status)
	}
	return fmt.Appendf(b, `{"latitude":%v,"longitude":%v,"elevation":%v,"velocity":%v,"heading":%v,"grade":%v,"fuel_consumption":%v}`,
		e.Latitude, e.Longitude, e.Elevation, e.Velocity, e.Heading, e.Grade, e.FuelConsumption)
}
