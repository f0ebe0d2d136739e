package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/stretchr/testify/require"
)

// cluster is a platform of one node a role and two gateways, on one log.
type cluster struct {
	t        *testing.T
	shared   []string // flags all nodes have
	analysis []string // flags of nodes with ClickHouse
	query    *process
	gateways []*process
}

func startCluster(t *testing.T, log enginetest.Log) *cluster {
	t.Helper()
	address, database := enginetest.ClickHouse(t)
	c := &cluster{
		t:        t,
		shared:   []string{"--kafka", log.Addr, "--topic-prefix", log.TopicPrefix, "--partitions", "2", "--master-key", filepath.Join(t.TempDir(), "master.key")},
		analysis: []string{"--clickhouse", address, "--database", database},
	}
	operations := []string{"--ops-addr", "127.0.0.1:0"}
	c.query = c.start("query", t.TempDir(), c.analysis, []string{"--api-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"})
	token, err := os.ReadFile(filepath.Join(c.query.dir, "admin-token"))
	require.NoError(t, err)
	c.query.token = string(token)
	c.start("process", t.TempDir(), operations)
	c.start("project", t.TempDir(), c.analysis, operations)
	for range 2 {
		c.gateways = append(c.gateways, c.startGateway(t.TempDir()))
	}
	return c
}

func (c *cluster) startGateway(dir string) *process {
	return c.start("ingest", dir, []string{"--ops-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0", "--mqtts-addr", "127.0.0.1:0", "--https-addr", "127.0.0.1:0"})
}

func (c *cluster) start(role, dir string, more ...[]string) *process {
	args := append([]string{role, "--data-dir", dir}, c.shared...)
	for _, flags := range more {
		args = append(args, flags...)
	}
	return startNode(c.t, dir, args...)
}

// TestRolesAsProcessesOfTheirOwn has a message go through every role in another
// process.
func TestRolesAsProcessesOfTheirOwn(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, log enginetest.Log) {
		c := startCluster(t, log)
		for i, gateway := range c.gateways {
			s := &sender{id: fmt.Sprintf("d-%d", i)}
			key := c.query.deviceKey(s.id)
			stopped, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for { // until the gateway has heard of the device, and then until it ends
					s.run(gateway.at.MQTT, key)
					select {
					case <-stopped:
						return
					default:
					}
				}
			}()
			require.Eventually(t, func() bool {
				status, _, _ := c.query.call(http.MethodGet, "/api/devices/"+s.id+"/telemetry/n", nil)
				return status == http.StatusOK
			}, 30*time.Second, 50*time.Millisecond, "gateway %d", i)
			resp, err := http.Get(gateway.at.Operations + "/readyz")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode)
			close(stopped)
			require.Less(t, gateway.terminate(), 10*time.Second)
			<-done
		}
	})
}
