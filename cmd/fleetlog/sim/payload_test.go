package sim

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSameSeedSameMeasurements(t *testing.T) {
	midnight := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(p payloads) (all []string) {
		for at := midnight; at.Before(midnight.Add(24 * time.Hour)); at = at.Add(time.Minute) {
			all = append(all, string(p.append(nil, at)))
		}
		return all
	}
	for name, profile := range profiles {
		t.Run(name, func(t *testing.T) {
			first := day(profile(1, 2))
			require.Equal(t, first, day(profile(1, 2)))
			require.NotEqual(t, first, day(profile(1, 3)), "each device is its own")
			require.NotEqual(t, first, day(profile(2, 2)), "each seed is its own")
			for _, payload := range first {
				require.True(t, json.Valid([]byte(payload)), payload)
			}
		})
	}
}

func TestMeasurementsAreWhatTheProfileSays(t *testing.T) {
	for name, fields := range map[string][]string{
		"thermostat":  {"temperature", "humidity"},
		"smart-meter": {"pulseCounter", "leakage", "batteryLevel"},
		"gps":         {"location", "speed", "heading"},
	} {
		t.Run(name, func(t *testing.T) {
			var measured map[string]any
			require.NoError(t, json.Unmarshal(profiles[name](1, 1).append(nil, time.Unix(0, 0)), &measured))
			require.Len(t, measured, len(fields))
			for _, field := range fields {
				require.Contains(t, measured, field)
			}
		})
	}
}

func TestThermostatHasDayAndNight(t *testing.T) {
	mean := func(hour int) (sum float64) {
		p := newThermostat(1, 1)
		for i := range 100 {
			var m struct{ Temperature float64 }
			require.NoError(t, json.Unmarshal(p.append(nil, time.Date(2026, 1, 1, hour, 0, i, 0, time.UTC)), &m))
			sum += m.Temperature
		}
		return sum / 100
	}
	require.Greater(t, mean(15), mean(3)+4)
}

func TestTruckStaysOnTheMap(t *testing.T) {
	p, ok := newTruck(3, 4).(*truck)
	require.True(t, ok)
	for at := time.Unix(0, 0); at.Before(time.Unix(0, 0).Add(48 * time.Hour)); at = at.Add(time.Minute) {
		p.append(nil, at)
		require.True(t, p.lat >= 47 && p.lat <= 50 && p.lon >= 7 && p.lon <= 11, "%v %v", p.lat, p.lon)
	}
}

func TestPaceIsBounded(t *testing.T) {
	require.Equal(t, 10*time.Millisecond, Options{Devices: 1, Rate: 100}.pace())
	require.Equal(t, 365*24*time.Hour, Options{Devices: 1_000_000, Rate: 1e-300}.pace())
}
