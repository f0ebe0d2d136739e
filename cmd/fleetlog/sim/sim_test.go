package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/sim"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func options(p *platform) sim.Options {
	return sim.Options{
		API: p.api.URL, Token: adminToken, MQTT: "tcp://" + p.address,
		Devices: 3, Prefix: "dev", Rate: 300, Profile: "thermostat", QoS: 1, Seed: 7,
		Duration: time.Second,
	}
}

func TestFleetPublishesWhatItCounts(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		p := startPlatform(t)
		p.busy.Store(2) // an API that is still starting is waited for
		o := options(p)
		o.QoS = qos
		s, err := sim.Run(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, s.ConnectionFailures)
		require.Zero(t, s.Failed)
		require.Equal(t, s.Sent, s.Acked)
		require.Positive(t, s.P50)
		require.GreaterOrEqual(t, s.Max, s.P99)
		require.LessOrEqual(t, s.Sent, int64(400), "three devices at 300 messages/s for a second")

		received := 0
		for _, id := range []string{"dev-0001", "dev-0002", "dev-0003"} {
			payloads := p.messages()["devices/"+id+"/messages/events/$.ct=application%2Fjson&$.ce=utf-8"]
			require.NotEmpty(t, payloads, id)
			received += len(payloads)
		}
		if qos == 1 {
			require.EqualValues(t, s.Acked, received)
		}
	}
}

func TestDevicesAreCreatedOnce(t *testing.T) {
	p := startPlatform(t)
	o := options(p)
	o.Duration = 100 * time.Millisecond
	for range 2 {
		_, err := sim.Run(t.Context(), o)
		require.NoError(t, err)
	}
	require.Equal(t, 3, p.created)
}

// TestFleetComesBack takes the broker away while devices are connected.
func TestFleetComesBack(t *testing.T) {
	p := startPlatform(t)
	o := options(p)
	o.Duration = 0
	ctx, cancel := context.WithCancel(t.Context())
	type end struct {
		sim.Summary
		error
	}
	ended := make(chan end)
	go func() {
		s, err := sim.Run(ctx, o)
		ended <- end{s, err}
	}()
	arrived := func() int {
		n := 0
		for _, payloads := range p.messages() {
			n += len(payloads)
		}
		return n
	}
	wait := func(more int) {
		require.Eventually(t, func() bool { return arrived() >= more }, 20*time.Second, 10*time.Millisecond)
	}
	wait(10)
	require.NoError(t, p.broker.Close())
	before := arrived()
	p.startBroker(p.address)
	wait(before + 10)
	cancel()
	s := <-ended
	require.NoError(t, s.error)
	require.NotEmpty(t, s.ConnectionFailures)
	require.Positive(t, s.Acked)
	require.Equal(t, s.Sent, s.Acked+s.Failed)
}

func TestRunRefuses(t *testing.T) {
	p := startPlatform(t)
	for name, c := range map[string]struct {
		change func(*sim.Options)
		says   string
	}{
		"no devices":    {func(o *sim.Options) { o.Devices = 0 }, "use 1 to"},
		"no rate":       {func(o *sim.Options) { o.Rate = 0 }, "use more than 0"},
		"QoS 2":         {func(o *sim.Options) { o.QoS = 2 }, "use 0 or 1"},
		"profile":       {func(o *sim.Options) { o.Profile = "toaster" }, "gps, smart-meter, thermostat"},
		"address":       {func(o *sim.Options) { o.MQTT = "localhost" }, "write it like"},
		"scheme":        {func(o *sim.Options) { o.MQTT = "http://localhost:1" }, "unknown scheme"},
		"no token":      {func(o *sim.Options) { o.Token = "" }, "administrator token"},
		"wrong token":   {func(o *sim.Options) { o.Token = "wrong" }, "401 Unauthorized: the token is not valid"},
		"no CA":         {func(o *sim.Options) { o.CAFile = "/nowhere" }, "read the CA"},
		"CA of no form": {func(o *sim.Options) { o.CAFile = filepath.Join(p.dir, "endpoints.json") }, "no PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(p)
			c.change(&o)
			_, err := sim.Run(t.Context(), o)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), adminToken)
		})
	}
}

func parse(t *testing.T, args ...string) *sim.Command {
	var c sim.Command
	parser, err := kong.New(&c, kong.Exit(func(int) { t.Fatal("kong exits") }))
	require.NoError(t, err)
	_, err = parser.Parse(args)
	require.NoError(t, err)
	return &c
}

func TestCommandFindsTheLocalPlatform(t *testing.T) {
	p := startPlatform(t)
	var out, progress bytes.Buffer
	c := parse(t, "--data-dir", p.dir, "--device-rate", "50", "--devices", "2", "--duration", "300ms", "--profile", "smart-meter")
	require.NoError(t, c.RunTo(t.Context(), &out, &progress))
	require.Contains(t, out.String(), "2 devices")
	require.Len(t, p.messages(), 2)
	for _, payload := range p.messages()["devices/smart-meter-0001/messages/events/$.ct=application%2Fjson&$.ce=utf-8"] {
		require.True(t, json.Valid([]byte(payload)))
	}
}

func TestCommandSaysWhatToDo(t *testing.T) {
	p := startPlatform(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no platform":        {[]string{"--data-dir", t.TempDir()}, "start 'fleetlog run' here first"},
		"no token":           {[]string{"--token-file", "/nowhere", "--data-dir", p.dir}, "--token-file"},
		"QoS":                {[]string{"--qos", "3", "--data-dir", p.dir}, "use 0 or 1"},
		"nobody to talk to":  {[]string{"--data-dir", p.dir, "--mqtt", "127.0.0.1:1", "--duration", "200ms"}, "no message was acknowledged"},
		"plain port for TLS": {[]string{"--data-dir", p.dir, "--tls"}, "read the CA"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.ErrorContains(t, parse(t, c.args...).RunTo(t.Context(), &out, &out), c.says)
		})
	}
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "endpoints.json"), []byte("{"), 0o600))
	require.ErrorContains(t, parse(t, "--data-dir", p.dir).Run(t.Context()), "endpoints.json")
}
