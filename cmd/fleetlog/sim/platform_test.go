package sim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/fleetlog/fleetlog/internal/sas"
)

const adminToken = "SharedAccessSignature sr=fleetlog&sig=test&se=1"

// platform is what the simulator needs of Fleetlog: the device API and an MQTT
// broker that lets devices in by their tokens and refuses all else.
type platform struct {
	t   *testing.T
	api *httptest.Server
	dir string // data directory as `fleetlog run` leaves it

	busy atomic.Int64 // how many API calls to answer 503 first

	mu       sync.Mutex
	devices  map[string]bool
	created  int
	payloads map[string][]string // by topic

	broker  *mochi.Server
	address string
}

func startPlatform(t *testing.T) *platform {
	p := &platform{t: t, dir: t.TempDir(), devices: map[string]bool{}, payloads: map[string][]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /api/devices/{id}", p.put)
	mux.HandleFunc("GET /api/devices/{id}/credentials", p.credentials)
	p.api = httptest.NewServer(p.guard(mux))
	t.Cleanup(p.api.Close)
	p.startBroker("127.0.0.1:0")
	t.Cleanup(func() { _ = p.broker.Close() })

	endpoints, err := json.Marshal(map[string]string{"api": p.api.URL, "mqtt": "tcp://" + p.address, "mqtts": "ssl://" + p.address})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "endpoints.json"), endpoints, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "admin-token"), []byte(adminToken+"\n"), 0o600))
	return p
}

func (p *platform) startBroker(address string) {
	listener, err := net.Listen("tcp", address)
	require.NoError(p.t, err)
	p.address = listener.Addr().String()
	p.broker = mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(p.t, p.broker.AddHook(&door{platform: p}, nil))
	require.NoError(p.t, p.broker.AddListener(listeners.NewNet("tcp", listener)))
	require.NoError(p.t, p.broker.Serve())
}

func key(id string) []byte { return sas.DeviceKey([]byte("group key"), id) }

func (p *platform) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case p.busy.Add(-1) >= 0:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		case r.Header.Get("Authorization") != adminToken:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"code":"Unauthorized","message":"the token is not valid"}}`)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (p *platform) put(w http.ResponseWriter, r *http.Request) {
	var device struct {
		DisplayName string `json:"displayName"`
	}
	if json.NewDecoder(r.Body).Decode(&device) != nil || device.DisplayName == "" {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices[r.PathValue("id")] = true
	p.created++
	_, _ = io.WriteString(w, "{}")
}

func (p *platform) credentials(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := r.PathValue("id")
	if !p.devices[id] {
		http.Error(w, "not here", http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"idScope": "0ne", "symmetricKey": map[string]any{"primaryKey": key(id), "secondaryKey": key(id)}})
}

func (p *platform) messages() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string][]string{}
	for topic, payloads := range p.payloads {
		all[topic] = append([]string(nil), payloads...)
	}
	return all
}

// door is the broker's side of the device wire.
type door struct {
	mochi.HookBase
	platform *platform
}

func (d *door) ID() string { return "door" }

func (d *door) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck || b == mochi.OnPublish
}

func (d *door) OnConnectAuthenticate(client *mochi.Client, pk packets.Packet) bool {
	id := client.ID
	token, err := sas.Parse(string(pk.Connect.Password))
	return err == nil && token.Verify(key(id), time.Now()) == nil && token.Covers("127.0.0.1", id) &&
		string(pk.Connect.Username) == "127.0.0.1/"+id+"/?api-version=2021-04-12"
}

func (d *door) OnACLCheck(client *mochi.Client, topic string, write bool) bool {
	return write && strings.HasPrefix(topic, fmt.Sprintf("devices/%s/messages/events/", client.ID))
}

func (d *door) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	d.platform.mu.Lock()
	defer d.platform.mu.Unlock()
	d.platform.payloads[pk.TopicName] = append(d.platform.payloads[pk.TopicName], string(pk.Payload))
	return pk, nil
}
