package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/stretchr/testify/require"
)

// roamer is a device that goes from one gateway node to another.
type roamer struct {
	t       *testing.T
	id      string
	key     []byte
	methods chan string // topics of the commands it was given
	desired chan map[string]any
}

// connect connects to a gateway and subscribes to what devices subscribe to.
func (r *roamer) connect(gateway *process) paho.Client {
	r.t.Helper()
	token := sas.Sign("localhost/devices/"+r.id, r.key, time.Now().Add(time.Hour), "")
	options := paho.NewClientOptions().AddBroker("tcp://" + gateway.at.MQTT).SetClientID(r.id).
		SetUsername("localhost/" + r.id + "/?api-version=2021-04-12").SetPassword(token).
		SetAutoReconnect(false).SetConnectTimeout(5 * time.Second).SetOrderMatters(true)
	client := paho.NewClient(options)
	require.Eventually(r.t, func() bool { // the gateway may not have heard of the device yet
		token := client.Connect()
		return token.WaitTimeout(5*time.Second) && token.Error() == nil
	}, 20*time.Second, 50*time.Millisecond)
	for filter, handle := range map[string]paho.MessageHandler{
		"$iothub/methods/POST/#": func(_ paho.Client, m paho.Message) { r.methods <- m.Topic() },
		"$iothub/twin/PATCH/properties/desired/#": func(_ paho.Client, m paho.Message) {
			patch := map[string]any{}
			if json.Unmarshal(m.Payload(), &patch) == nil {
				r.desired <- patch
			}
		},
	} {
		token := client.Subscribe(filter, 0, handle)
		require.True(r.t, token.WaitTimeout(10*time.Second))
		require.NoError(r.t, token.Error())
	}
	return client
}

func (r *roamer) answer(client paho.Client, method string) {
	r.t.Helper()
	_, rid, _ := strings.Cut(method, "$rid=")
	token := client.Publish("$iothub/methods/res/200/?$rid="+rid, 0, false, `{"by":"roamer"}`)
	require.True(r.t, token.WaitTimeout(10*time.Second))
	require.NoError(r.t, token.Error())
}

func (r *roamer) method() string {
	r.t.Helper()
	select {
	case topic := <-r.methods:
		return topic
	case <-time.After(20 * time.Second):
		require.FailNow(r.t, "no command came")
		return ""
	}
}

// TestAKilledGatewayLosesNoCommand kills the node a device is connected to with
// -9 while a command waits for its answer, and changes a desired property while
// the device is nowhere: on the other node it gets both.
func TestAKilledGatewayLosesNoCommand(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, log enginetest.Log) {
		c := startCluster(t, log)
		for round := range 3 {
			id := fmt.Sprintf("roamer-%d", round)
			key, err := base64.StdEncoding.DecodeString(c.query.deviceKey(id))
			require.NoError(t, err)
			r := &roamer{t: t, id: id, key: key, methods: make(chan string, 16), desired: make(chan map[string]any, 16)}
			first := r.connect(c.gateways[0])
			device := "/api/devices/" + id
			require.Eventually(t, func() bool { // the API has heard that it is connected
				status, _ := c.query.json(http.MethodPost, device+"/commands/ping", map[string]any{"responseTimeout": 5})
				return status != http.StatusNotFound
			}, 20*time.Second, 20*time.Millisecond)
			for len(r.methods) > 0 {
				<-r.methods
			}
			type result struct {
				status int
				answer map[string]any
			}
			results := make(chan result, 1)
			go func() {
				status, answer := c.query.json(http.MethodPost, device+"/commands/open", map[string]any{"connectionTimeout": 30, "responseTimeout": 30})
				results <- result{status, answer}
			}()
			require.Contains(t, r.method(), "/open/")
			c.gateways[0].kill()
			first.Disconnect(0)
			status, _ := c.query.json(http.MethodPatch, device+"/properties", map[string]any{"round": round})
			require.Equal(t, http.StatusAccepted, status)

			second := r.connect(c.gateways[1])
			again := r.method()
			require.Contains(t, again, "/open/", "it waits for the device on any node")
			r.answer(second, again)
			got := <-results
			require.Equal(t, http.StatusCreated, got.status, got.answer)
			require.Equal(t, map[string]any{"by": "roamer"}, got.answer["response"])
			select {
			case patch := <-r.desired:
				require.InDelta(t, round, patch["round"], 0)
			case <-time.After(20 * time.Second):
				require.Fail(t, "no desired property came")
			}
			second.Disconnect(100)
			c.gateways[0] = c.startGateway(c.gateways[0].dir)
		}
	})
}
