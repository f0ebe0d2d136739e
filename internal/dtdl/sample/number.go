package sample

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/fleetlog/fleetlog/internal/dtdl"
)

// span is where a number wanders: about its middle, and never out of its limits.
type span struct {
	least, usual, most float64
	// step is how far it goes at a time.
	step float64
}

// number goes on from the one before, and is drawn back to what is usual.
func (m *maker) number(kind dtdl.SchemaKind, of measure, previous any) any {
	s := spanOf(kind, of)
	before, ok := number(previous)
	if !ok || before < s.least || before > s.most {
		before = s.usual + m.rng.NormFloat64()*s.step
	}
	next := before + m.rng.NormFloat64()*s.step + (s.usual-before)*0.05
	if kind == dtdl.Double || kind == dtdl.Float {
		return clamp(round(next), s.least, s.most)
	}
	// The limits need not be whole numbers themselves; when there is none between
	// them, nothing fits.
	return int64(clamp(math.Round(next), math.Ceil(s.least), math.Floor(s.most)))
}

func clamp(x, least, most float64) float64 { return max(least, min(x, most)) }

// round keeps what a sensor tells: four digits after the point, or four in all.
func round(x float64) float64 {
	if math.Abs(x) > 1e11 {
		return x
	}
	if math.Abs(x) >= 1 {
		return math.Round(x*1e4) / 1e4
	}
	short, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64)
	if err != nil {
		return x
	}
	return short
}

// spanOf is where values of that semantic type are, in their unit, within the limits
// of the model and the schema.
func spanOf(kind dtdl.SchemaKind, of measure) span {
	s, known := spans[of.semantic]
	if !known {
		s = named(of.name)
	}
	s = s.in(of.semantic, of.unit)
	least, most := limits(kind)
	s = s.within(of.least, of.most)
	s.least, s.most = max(s.least, least), min(s.most, most)
	if s.usual < s.least || s.usual > s.most {
		s.usual = s.least/2 + s.most/2
	}
	s.step = min(s.step, s.most/50-s.least/50)
	return s
}

// limits of the numbers of a schema.
func limits(kind dtdl.SchemaKind) (least, most float64) {
	switch kind {
	case dtdl.Integer:
		return math.MinInt32, math.MaxInt32
	case dtdl.Long: // 2^63 is none of them, and the float64 below it is well within
		return -(1 << 62), 1 << 62
	case dtdl.Float:
		return -math.MaxFloat32, math.MaxFloat32
	}
	return -math.MaxFloat64, math.MaxFloat64
}

// within moves the span into the model's limits, which count for more than what is
// usual.
func (s span) within(least, most *float64) span {
	wide := s.most - s.least
	if least != nil {
		s.least = *least
		if most == nil && s.most < s.least+1 {
			s.most = s.least + wide
		}
	}
	if most != nil {
		s.most = *most
		if least == nil && s.least > s.most-1 {
			s.least = s.most - wide
		}
	}
	return s
}

// spans of the semantic types that people often have, each in the first unit below or
// without one (units).
var spans = map[string]span{
	"Temperature":      {-40, 21, 80, 0.3},     // degreeCelsius
	"RelativeHumidity": {0, 45, 100, 1},        // percent
	"Concentration":    {0, 0.045, 100, 0.001}, // percent
	"Pressure":         {90_000, 101_325, 110_000, 40},
	"Latitude":         {-90, 47.37, 90, 0.001}, // degreeOfArc
	"Longitude":        {-180, 8.54, 180, 0.001},
	"Angle":            {0, 180, 360, 5},
	"Velocity":         {0, 13, 60, 1},      // metrePerSecond
	"Voltage":          {0, 230, 400, 1},    // volt
	"Current":          {0, 5, 32, 0.2},     // ampere
	"Power":            {0, 1150, 20e3, 30}, // watt
	"Energy":           {0, 5e6, 1e12, 1e4},
	"Illuminance":      {0, 400, 100e3, 20},
	"SoundPressure":    {20, 45, 130, 1}, // decibel
	"DataSize":         {0, 64 << 20, 1 << 40, 1 << 18},
	"Frequency":        {0, 50, 1e10, 0.02},
	"Acceleration":     {-50, 0, 50, 0.2},
	"Mass":             {0, 75, 40e3, 0.5}, // kilogram
	"Volume":           {0, 100, 1e6, 1},   // litre
	"TimeSpan":         {0, 3600, 1e9, 30}, // second
	"Distance":         {0, 100, 1e9, 1},   // metre
	"Length":           {0, 2, 1e6, 0.01},
}

// units are how many of the span's own unit one of that unit is.
var units = map[string]float64{
	"unity": 100, "bar": 1e5, "millibar": 100, "hectopascal": 100, "kilopascal": 1000, "decapascal": 10,
	"inchesOfMercury": 3386.39, "inchesOfWater": 249.089, "millimetresOfMercury": 133.322, "poundPerSquareInch": 6894.76,
	"radian": 180 / math.Pi, "turn": 360, "minuteOfArc": 1.0 / 60, "secondOfArc": 1.0 / 3600,
	"kilometrePerHour": 1 / 3.6, "milePerHour": 0.44704, "knot": 0.514444, "centimetrePerSecond": 0.01,
	"kilometrePerSecond": 1000, "metrePerHour": 1.0 / 3600, "milePerSecond": 1609.344,
	"kilovolt": 1000, "megavolt": 1e6, "millivolt": 1e-3, "microvolt": 1e-6,
	"kiloampere": 1000, "milliampere": 1e-3, "microampere": 1e-6,
	"kilowatt": 1000, "megawatt": 1e6, "gigawatt": 1e9, "milliwatt": 1e-3, "microwatt": 1e-6, "horsepower": 745.7,
	"kilowattHour": 3.6e6, "wattHour": 3600, "kilojoule": 1000, "megajoule": 1e6, "gigajoule": 1e9,
	"footcandle": 10.764, "bel": 10,
	"bit": 0.125, "kibibyte": 1 << 10, "mebibyte": 1 << 20, "gibibyte": 1 << 30, "tebibyte": 1 << 40,
	"kibibit": 1 << 7, "mebibit": 1 << 17, "gibibit": 1 << 27,
	"kilohertz": 1e3, "megahertz": 1e6, "gigahertz": 1e9, "gForce": 9.80665, "centimetrePerSecondSquared": 0.01,
	"gram": 1e-3, "milligram": 1e-6, "microgram": 1e-9, "tonne": 1000,
	"millilitre": 1e-3, "cubicMetre": 1000, "cubicCentimetre": 1e-3, "gallon": 3.78541,
	"minute": 60, "hour": 3600, "day": 86400, "year": 31557600, "millisecond": 1e-3, "microsecond": 1e-6, "nanosecond": 1e-9,
	"kilometre": 1000, "centimetre": 0.01, "millimetre": 1e-3, "micrometre": 1e-6, "nanometre": 1e-9,
	"mile": 1609.344, "foot": 0.3048, "inch": 0.0254, "nauticalMile": 1852,
	"partsPerMillion": 1e-4, "partsPerBillion": 1e-7,
}

// in is the span in that unit.
func (s span) in(semantic, unit string) span {
	switch {
	case semantic == "Temperature" && unit == "kelvin":
		return span{s.least + 273.15, s.usual + 273.15, s.most + 273.15, s.step}
	case semantic == "Temperature" && unit == "degreeFahrenheit":
		return span{s.least*1.8 + 32, s.usual*1.8 + 32, s.most*1.8 + 32, s.step * 1.8}
	}
	if per := units[unit]; per != 0 {
		return span{s.least / per, s.usual / per, s.most / per, s.step / per}
	}
	return s
}

// named guesses by the name where a number without semantic type wanders.
func named(name string) span {
	name = strings.ToLower(name)
	for _, guess := range []struct {
		part     string
		semantic string
	}{
		{"temp", "Temperature"}, {"humid", "RelativeHumidity"}, {"press", "Pressure"}, {"latitude", "Latitude"},
		{"longitude", "Longitude"}, {"speed", "Velocity"}, {"voltage", "Voltage"}, {"current", "Current"}, {"power", "Power"},
	} {
		if strings.Contains(name, guess.part) {
			return spans[guess.semantic]
		}
	}
	if strings.Contains(name, "battery") || strings.Contains(name, "percent") || strings.Contains(name, "level") {
		return span{0, 80, 100, 0.5}
	}
	return span{0, 50, 100, 2}
}

// number is a value that was a number before, be it from here or from JSON.
func number(value any) (float64, bool) {
	switch n := value.(type) {
	case float64:
		return n, !math.IsNaN(n)
	case int64:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

// plain is a value of an Enum as the model has it: whole numbers are int64.
func plain(value any) any {
	switch n := value.(type) {
	case int64, string:
		return n
	case json.Number, float64:
		if f, ok := number(n); ok && f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
			return int64(f)
		}
	}
	return nil
}
