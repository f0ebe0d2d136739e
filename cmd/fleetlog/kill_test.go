package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/stretchr/testify/require"
)

// TestKillLosesAndDoublesNothing kills the platform with -9 twenty times at
// random moments under load: every acknowledged message is in ClickHouse, none
// is there twice. With the embedded log the broker dies with it.
func TestKillLosesAndDoublesNothing(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { killUnderLoad(t) })
	if addr := os.Getenv(enginetest.KafkaEnv); addr != "" {
		t.Run("apache", func(t *testing.T) {
			log := enginetest.ApacheLog(t, addr)
			killUnderLoad(t, "--kafka", log.Addr, "--topic-prefix", log.TopicPrefix)
		})
	}
}

func killUnderLoad(t *testing.T, args ...string) {
	const senders = 8
	kills := 20
	if n, err := strconv.Atoi(os.Getenv("FLEETLOG_KILLS")); err == nil {
		kills = n
	}
	dir := t.TempDir()
	fleet := make([]*sender, senders)
	keys := map[string]string{}
	for round := range kills {
		p := startProcess(t, dir, args...)
		var sending sync.WaitGroup
		for i := range fleet {
			if fleet[i] == nil {
				id := fmt.Sprintf("killed-%d", i)
				keys[id] = p.deviceKey(id)
				fleet[i] = &sender{id: id}
			}
			sending.Go(func() { fleet[i].run(p.at.MQTT, keys[fleet[i].id]) })
		}
		moment := time.NewTimer(time.Duration(50+rand.IntN(900)) * time.Millisecond)
		<-moment.C
		p.kill()
		sending.Wait()
		t.Logf("kill %d: start took %s, %d messages acknowledged so far", round+1, p.started.Round(time.Millisecond), acked(fleet))
	}
	p := startProcess(t, dir, args...)
	total := acked(fleet)
	require.Positive(t, total)
	// Every message carries its own number; a device's acknowledged numbers are
	// the ones it knows of, and rows may exist for some it was never told about.
	for _, s := range fleet {
		table := "SELECT body.n::UInt64 AS n FROM fleetlog.telemetry WHERE tenant = 'default' AND device = '" + s.id + "'"
		require.Eventually(t, func() bool {
			last := p.sql("SELECT max(n) FROM (" + table + ")")
			n, err := strconv.ParseUint(last, 10, 64)
			return err == nil && n >= s.lastAcked
		}, time.Minute, 50*time.Millisecond, "the projection does not catch up")
		rows := strings.Fields(p.sql(table + " ORDER BY n"))
		seen := map[string]bool{}
		for _, n := range rows {
			require.False(t, seen[n], "message %s of %s is there twice", n, s.id)
			seen[n] = true
		}
		for _, n := range s.acked {
			require.True(t, seen[strconv.FormatUint(n, 10)], "acknowledged message %d of %s is missing", n, s.id)
		}
	}
	// The projection of sums was killed as often, and is ten seconds behind.
	const summed = "SELECT sum(count), sum(sum) FROM fleetlog.telemetry_%s WHERE tenant = 'default' AND path = 'n' AND startsWith(device, 'killed-')"
	rows := p.sql("SELECT count(), sum(body.n::Float64) FROM fleetlog.telemetry WHERE tenant = 'default' AND startsWith(device, 'killed-')")
	for _, interval := range []string{"1m", "10m", "1h"} {
		require.Eventually(t, func() bool { return p.sql(fmt.Sprintf(summed, interval)) == rows }, time.Minute, 100*time.Millisecond, "%s, rows are %s", interval, rows)
	}
	require.Less(t, p.terminate(), 10*time.Second)
}

func acked(fleet []*sender) (n int) {
	for _, s := range fleet {
		n += len(s.acked)
	}
	return n
}

// sender is a device that numbers its messages and never sends a number again,
// so that a message that is there twice was doubled by us.
type sender struct {
	id        string
	next      uint64
	acked     []uint64
	lastAcked uint64
}

// run sends until the connection breaks.
func (s *sender) run(addr, key string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	raw, _ := base64.StdEncoding.DecodeString(key)
	token := sas.Sign("localhost/devices/"+s.id, raw, time.Now().Add(time.Hour), "")
	body := append(mqttString("MQTT"), 4, 0xc2, 0, 60)
	body = append(append(append(body, mqttString(s.id)...), mqttString("localhost/"+s.id+"/?api-version=2021-04-12")...), mqttString(token)...)
	if _, err := conn.Write(mqttPacket(0x10, body)); err != nil {
		return
	}
	answers := bufio.NewReader(conn)
	connack := make([]byte, 4)
	if _, err := io.ReadFull(answers, connack); err != nil || connack[3] != 0 {
		return
	}
	const inflight = 32
	var mu sync.Mutex
	var sent []uint64
	places := make(chan struct{}, inflight)
	var reading sync.WaitGroup
	broken := make(chan struct{})
	reading.Go(func() {
		defer close(broken)
		ack := make([]byte, 4)
		for {
			if _, err := io.ReadFull(answers, ack); err != nil || ack[0] != 0x40 {
				return
			}
			mu.Lock()
			s.acked, s.lastAcked = append(s.acked, sent[0]), sent[0]
			sent = sent[1:]
			mu.Unlock()
			<-places
		}
	})
	defer reading.Wait()
	for {
		select {
		case places <- struct{}{}:
		case <-broken:
			return
		}
		s.next++
		packetID := uint16(s.next%65535 + 1)
		mu.Lock()
		sent = append(sent, s.next)
		mu.Unlock()
		publish := append(mqttString("devices/"+s.id+"/messages/events/"), byte(packetID>>8), byte(packetID))
		if _, err := conn.Write(mqttPacket(0x32, append(publish, fmt.Sprintf(`{"n":%d,"pad":%q}`, s.next, strings.Repeat("x", 80))...))); err != nil {
			return
		}
	}
}

func mqttString(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

func mqttPacket(first byte, body []byte) []byte {
	p := []byte{first}
	for n := len(body); ; {
		digit := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			p = append(p, digit|0x80)
			continue
		}
		return append(append(p, digit), body...)
	}
}
