// Package sim is a fleet of simulated devices: each connects to Fleetlog over
// real MQTT as a device in the field would, with its own key, and publishes
// measurements at its own pace.
//
// In goes an address and the size of the fleet; out come messages, a progress
// line and a Summary. Devices are registered by the API when they aren't yet,
// never changed when they are. The same seed gives the same measurements at the
// same times. It keeps no more than a window of unacknowledged messages a device,
// so a slow platform slows the fleet instead of filling its memory.
package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/fleetlog/fleetlog/internal/deviceclient"
)

// Options say which fleet to simulate and where. All but Duration, Progress and
// CAFile must be given.
type Options struct {
	API   string // base URL of the REST API, http://127.0.0.1:8080
	Token string // administrator token, as the Authorization header takes it

	MQTT   string // tcp://host:port, or ssl://host:port for TLS
	CAFile string // PEM file with the CA to trust for ssl://; empty: the system's

	Devices int     // how many
	Prefix  string  // of the device ids: prefix-0001, prefix-0002, …
	Rate    float64 // messages/s of the whole fleet
	Profile string  // one of Profiles
	QoS     byte    // 0 or 1
	Seed    uint64  // of the measurements and of the devices' pace

	Duration time.Duration // how long to publish; 0: until the context ends
	Progress io.Writer     // gets a line on how it goes; nil: no progress
}

const (
	maxDevices = 1_000_000
	maxRate    = 10_000_000

	connecting  = 64              // devices that connect at the same time
	lastAcks    = 5 * time.Second // for what is in flight at the end
	phaseStream = 0x70686173      // random stream of the devices' phases
)

// Run simulates the fleet until the duration is over or ctx ends, waits a moment
// for the last acknowledgements and disconnects. It fails when the options are
// wrong or a device can't be registered; that devices can't connect or lose their
// connection is no failure but a number in the Summary.
func Run(ctx context.Context, o Options) (Summary, error) {
	profile, broker, err := o.check()
	if err != nil {
		return Summary{}, err
	}
	var trust *tls.Config
	if o.CAFile != "" {
		if trust, err = deviceclient.TrustFile(o.CAFile); err != nil {
			return Summary{}, err
		}
	}
	ids := make([]string, o.Devices)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%04d", o.Prefix, i+1)
	}
	keys, err := Register(ctx, o.API, o.Token, ids)
	if err != nil {
		return Summary{}, err
	}

	m := newMeter(o.Devices)
	defer m.report(o.Progress)()

	running, cancel := ctx, context.CancelFunc(func() {})
	if o.Duration > 0 {
		running, cancel = context.WithTimeout(ctx, o.Duration)
	}
	defer cancel()
	doors := make(chan struct{}, connecting)
	phases := rand.New(rand.NewPCG(o.Seed, phaseStream)) //nolint:gosec // a simulation, not a secret
	var fleet sync.WaitGroup
	for i, id := range ids {
		d := &device{
			client: deviceclient.Device{ID: id, Key: keys[i], Broker: broker, Trust: trust}, qos: o.QoS,
			payloads: profile(o.Seed, uint64(i)),
			every:    o.pace(),
			phase:    phases.Float64(),
			doors:    doors, meter: m,
		}
		fleet.Go(func() { d.run(running) })
	}
	fleet.Wait()
	return m.summary(), nil
}

func (o Options) check() (newPayloads, *url.URL, error) {
	profile, known := profiles[o.Profile]
	switch {
	case o.Devices < 1 || o.Devices > maxDevices:
		return nil, nil, fmt.Errorf("cannot simulate %d devices: use 1 to %d", o.Devices, maxDevices)
	case !(o.Rate > 0 && o.Rate <= maxRate): // also not a number
		return nil, nil, fmt.Errorf("cannot send %v messages/s: use more than 0 and at most %d", o.Rate, maxRate)
	case o.QoS > 1:
		return nil, nil, fmt.Errorf("QoS %d is not supported: use 0 or 1", o.QoS)
	case !known:
		return nil, nil, fmt.Errorf("unknown payload profile %q: use one of %s", o.Profile, strings.Join(Profiles(), ", "))
	case o.API == "" || o.Token == "":
		return nil, nil, errors.New("the API's address or the administrator token is missing: both are needed to register the devices")
	}
	broker, err := deviceclient.ParseBroker(o.MQTT)
	return profile, broker, err
}

// pace is the time between two messages of one device, at most a year.
func (o Options) pace() time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(min(float64(o.Devices)/o.Rate*float64(time.Second), float64(year)))
}
