package sample

import (
	"bytes"
	"fmt"
)

// wishes are properties that people set, facts what devices report of themselves:
// those before the slash are of a component.
var (
	wishes = []string{"targetTemperature", "reportInterval", "fanSpeed", "brightness", "hysteresis"}
	facts  = []string{
		"batteryLevel", "deviceInfo/manufacturer", "deviceInfo/model", "deviceInfo/osName", "deviceInfo/processorArchitecture",
		"deviceInfo/swVersion", "deviceInfo/totalMemory", "firmware", "humidity", "ipAddress", "lastError", "location", "maxTempSinceLastReboot",
		"relayClosed", "rssi", "serialNumber", "uptime",
	}
)

// properties is a patch of some of the names that begins at a random one.
func (f *Fleet) properties(names []string, n int) []byte {
	var own, component bytes.Buffer
	first := 0
	if n < len(names) {
		first = f.random.IntN(len(names) - n + 1)
	}
	for _, name := range names[first : first+n] {
		if inner, ok := bytes.CutPrefix([]byte(name), []byte("deviceInfo/")); ok {
			fmt.Fprintf(&component, ",%q:%s", inner, f.value(name))
			continue
		}
		fmt.Fprintf(&own, ",%q:%s", name, f.value(name))
	}
	if component.Len() > 0 {
		fmt.Fprintf(&own, `,"deviceInfo":{"__t":"c"%s}`, component.Bytes())
	}
	return append(append([]byte{'{'}, own.Bytes()[1:]...), '}')
}

func (f *Fleet) value(name string) string {
	switch name {
	case "relayClosed":
		return []string{"true", "false"}[f.random.IntN(2)]
	case "location":
		return fmt.Sprintf(`{"lat":%.6f,"lon":%.6f,"alt":519}`, 48+f.random.Float64(), 11+f.random.Float64())
	case "ipAddress":
		return fmt.Sprintf(`"10.0.%d.%d"`, f.random.IntN(256), f.random.IntN(256))
	case "lastError":
		return `"sensor 3 did not answer within 250 ms"`
	case "batteryLevel", "humidity", "maxTempSinceLastReboot", "targetTemperature":
		return fmt.Sprintf("%.1f", f.random.Float64()*100)
	case "uptime", "rssi", "reportInterval", "fanSpeed", "brightness", "hysteresis", "deviceInfo/totalMemory":
		return fmt.Sprint(f.random.IntN(100_000))
	}
	return fmt.Sprintf(`"%s %d"`, name[len(name)/2:], f.random.IntN(1000))
}
