package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Command is `fleetlog sim`. Without flags it simulates a fleet against the
// `fleetlog run` of the same directory.
type Command struct {
	DataDir string `help:"Data directory of a local 'fleetlog run', to learn its addresses and administrator token from." type:"path" default:"./fleetlog-data" placeholder:"DIR"`
	API     string `name:"api" help:"Address of the REST API instead of the local one." placeholder:"URL"`
	MQTT    string `name:"mqtt" help:"Address of the MQTT gateway instead of the local one: tcp://HOST:PORT or ssl://HOST:PORT." placeholder:"URL"`
	TLS     bool   `name:"tls" help:"Use the local TLS port."`
	CA      string `name:"ca" help:"PEM file with the CA to trust for ssl://; the local one by default." type:"path" placeholder:"FILE"`
	Token   string `help:"File with the administrator token; the local one by default." name:"token-file" type:"path" placeholder:"FILE"`

	Devices    int           `help:"How many devices." default:"20"`
	Prefix     string        `help:"Beginning of the device ids: PREFIX-0001 and so on; the profile's name by default."`
	Rate       float64       `help:"Messages a second of the whole fleet; one a device by default." xor:"rate"`
	DeviceRate float64       `help:"Messages a second of each device." xor:"rate"`
	Profile    string        `help:"What the devices measure: thermostat, smart-meter or gps." enum:"thermostat,smart-meter,gps" default:"thermostat"`
	QoS        int           `name:"qos" help:"MQTT quality of service: 1 waits for acknowledgements, 0 doesn't." default:"1"`
	Seed       uint64        `help:"Seed of the measurements: the same one gives the same values." default:"1"`
	Duration   time.Duration `help:"How long, like 30s or 5m; 0 is until Ctrl-C." default:"0"`
	Quiet      bool          `help:"No progress line, only the summary."`
}

// Run simulates the fleet and prints the progress and the summary. It fails when
// not a single message was acknowledged, so that scripts notice.
func (c *Command) Run(ctx context.Context) error {
	return c.RunTo(ctx, os.Stdout, os.Stderr)
}

// RunTo is Run with other places for the summary and the progress.
func (c *Command) RunTo(ctx context.Context, out, progress io.Writer) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	if !c.Quiet {
		options.Progress = progress
	}
	summary, err := Run(ctx, options)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(out, summary); err != nil {
		return err
	}
	if summary.Acked == 0 && summary.Failed+int64(len(summary.ConnectionFailures)) > 0 {
		return errors.New("no message was acknowledged")
	}
	return nil
}

// options completes the flags with what the local `fleetlog run` has written.
func (c *Command) options() (Options, error) {
	o := Options{
		API: c.API, MQTT: c.MQTT, CAFile: c.CA,
		Devices: c.Devices, Prefix: c.Prefix, Rate: c.Rate, Profile: c.Profile,
		Seed: c.Seed, Duration: c.Duration,
	}
	if c.QoS != 0 && c.QoS != 1 {
		return o, fmt.Errorf("QoS %d is not supported: use 0 or 1", c.QoS)
	}
	o.QoS = byte(c.QoS)
	if o.Prefix == "" {
		o.Prefix = o.Profile
	}
	if o.Rate == 0 {
		o.Rate = float64(o.Devices)
		if c.DeviceRate != 0 {
			o.Rate *= c.DeviceRate
		}
	}
	if o.API == "" || o.MQTT == "" {
		local, err := readEndpoints(c.DataDir)
		if err != nil {
			return o, err
		}
		if o.API == "" {
			o.API = local.API
		}
		if o.MQTT == "" {
			o.MQTT = local.MQTT
			if c.TLS || o.MQTT == "" { // no plain port
				o.MQTT = "ssl://" + stripScheme(local.MQTTS)
				if o.CAFile == "" {
					o.CAFile = filepath.Join(c.DataDir, "tls", "ca.pem")
				}
			}
		}
	}
	tokenFile := c.Token
	if tokenFile == "" {
		tokenFile = filepath.Join(c.DataDir, "admin-token")
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return o, fmt.Errorf("read the administrator token: %w; name its file with --token-file", err)
	}
	o.Token = string(token)
	return o, nil
}

func stripScheme(address string) string {
	if _, rest, found := strings.Cut(address, "://"); found {
		return rest
	}
	return address
}

// endpoints are the addresses `fleetlog run` writes for others to find.
type endpoints struct {
	API   string `json:"api"`
	MQTT  string `json:"mqtt"`
	MQTTS string `json:"mqtts"`
}

func readEndpoints(dir string) (endpoints, error) {
	var e endpoints
	path := filepath.Join(dir, "endpoints.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return e, fmt.Errorf("%s doesn't exist: start 'fleetlog run' here first, name its directory with --data-dir, or give --api, --mqtt and --token-file", path)
	}
	if err != nil {
		return e, fmt.Errorf("read the platform's addresses: %w", err)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, fmt.Errorf("read the platform's addresses from %s: %w", path, err)
	}
	return e, nil
}
