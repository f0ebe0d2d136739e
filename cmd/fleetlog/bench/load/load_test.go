package load_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger counts what a broker received, by topic and payload.
type ledger struct {
	mochi.HookBase
	mu   sync.Mutex
	seen map[string]int
}

func (l *ledger) ID() string           { return "ledger" }
func (l *ledger) Provides(b byte) bool { return b == mochi.OnPublish }
func (l *ledger) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[pk.TopicName+" "+string(pk.Payload)]++
	return pk, nil
}

func startBroker(t *testing.T) (address string, received *ledger) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	broker := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	received = &ledger{seen: map[string]int{}}
	require.NoError(t, broker.AddHook(received, nil))
	require.NoError(t, broker.AddHook(new(auth.AllowHook), nil))
	require.NoError(t, broker.AddListener(listeners.NewNet("tcp", listener)))
	require.NoError(t, broker.Serve())
	t.Cleanup(func() { _ = broker.Close() })
	return listener.Addr().String(), received
}

func devices(n int) (all []load.Device) {
	for i := range n {
		all = append(all, load.Device{ID: fmt.Sprint("d", i), User: "u", Password: "p", Topic: fmt.Sprint("t/", i)})
	}
	return all
}

func TestCountsAreWhatTheBrokerReceived(t *testing.T) {
	for name, c := range map[string]struct {
		connections, inflight int
		rate                  float64
	}{
		"as fast as it goes":       {10, 64, 0},
		"one at a time":            {10, 1, 0},
		"paced":                    {7, 4, 500},
		"paced, one connection":    {1, 64, 500},
		"more than the broker can": {2, 1, 1e9},
	} {
		t.Run(name, func(t *testing.T) {
			address, received := startBroker(t)
			fleet, err := load.Connect(t.Context(), load.Options{
				Address: address, Devices: devices(c.connections),
				Payload: `{"n":` + load.Counter + `}`, Inflight: c.inflight,
			})
			require.NoError(t, err)
			for range 2 { // a fleet can publish again
				result, err := fleet.Publish(t.Context(), load.Pace{Rate: c.rate, Warmup: 50 * time.Millisecond, Duration: 200 * time.Millisecond})
				require.NoError(t, err)
				require.Zero(t, result.Lost)
				require.Equal(t, result.Sent, result.Acked)
				require.Positive(t, result.Rate)
				require.Positive(t, result.Latency.P50)
				require.GreaterOrEqual(t, result.Latency.Max, result.Latency.P99)
			}
			require.NoError(t, fleet.Close())
			require.Len(t, received.seen, int(fleet.Acked()), "each message is another one")
			for message := range received.seen {
				require.Regexp(t, `^t/\d \{"n":1\d{8}\}$`, message)
			}
		})
	}
}

func TestPaceIsKept(t *testing.T) {
	address, _ := startBroker(t)
	fleet, err := load.Connect(t.Context(), load.Options{Address: address, Devices: devices(5), Payload: "x", Inflight: 8})
	require.NoError(t, err)
	result, err := fleet.Publish(t.Context(), load.Pace{Rate: 400, Duration: time.Second})
	require.NoError(t, err)
	require.LessOrEqual(t, result.Sent, int64(1.5*400))
	require.NoError(t, fleet.Close())
}

// fakeBroker answers each connection with the given bytes after its CONNECT and
// keeps it open until the client goes.
func fakeBroker(t *testing.T, answer string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			socket, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = socket.Close() }()
				_, _ = io.WriteString(socket, answer)
				if answer != "" {
					_, _ = io.Copy(io.Discard, socket)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return listener.Addr().String()
}

func TestConnectSaysWhyNot(t *testing.T) {
	for name, c := range map[string]struct{ answer, says string }{
		"refused":    {"\x20\x02\x00\x05", "with code 5"},
		"not MQTT":   {"HTTP/1.1 400 Bad", "instead of a CONNACK"},
		"hangs up":   {"", "read CONNACK"},
		"other size": {"\x20\x03\x00\x00", "instead of a CONNACK"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load.Connect(t.Context(), load.Options{Address: fakeBroker(t, c.answer), Devices: devices(3)})
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "connect d")
		})
	}
	_, err := load.Connect(t.Context(), load.Options{Payload: "x"})
	require.ErrorContains(t, err, "1 to 65535")
}

func TestWrongAcknowledgementsAreNoAcknowledgements(t *testing.T) {
	const accepted = "\x20\x02\x00\x00"
	for name, c := range map[string]struct{ answer, says string }{
		"out of order":  {accepted + "\x40\x02\x00\x02", "acknowledged 2 before 1"},
		"other packet":  {accepted + "\x30\x02\x00\x01", "instead of a PUBACK"},
		"too many":      {accepted + strings.Repeat("\x40\x02\x00\x01", 100), "acknowledged"},
		"broken packet": {accepted + "\x40\x02\x00\x01\x40\x03\x00\x02", "instead of a PUBACK"},
	} {
		t.Run(name, func(t *testing.T) {
			fleet, err := load.Connect(t.Context(), load.Options{Address: fakeBroker(t, c.answer), Devices: devices(2), Payload: "x", Inflight: 2})
			require.NoError(t, err)
			result, err := fleet.Publish(t.Context(), load.Pace{Duration: 100 * time.Millisecond})
			require.ErrorContains(t, err, c.says)
			require.Equal(t, 2, result.Lost)
			require.NoError(t, fleet.Close())
		})
	}
}
