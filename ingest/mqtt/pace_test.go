package mqtt

import (
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/stretchr/testify/require"
)

func TestADeviceBeyondItsRateIsSlowedDown(t *testing.T) {
	s := newSite(t, enginetest.EmbeddedLog(t), Config{Rates: Rates{Device: 20}})
	s.put("d", true)
	s.put("other", true)
	c := s.connected("d")
	const n = 20*burstSeconds + 20 // a second more than may come at once
	var frames []byte
	for id := range uint16(n) {
		frames = append(frames, publishPacket("devices/d/messages/events/", id+1, "{}")...)
	}
	began := time.Now()
	c.write(frames)
	acks := c.read(4 * n)
	require.Equal(t, []byte{0x40, 2, byte(n >> 8), n & 0xff}, acks[len(acks)-4:])
	require.Greater(t, time.Since(began), 900*time.Millisecond)
	other := s.connected("other")
	began = time.Now()
	other.write(publishPacket("devices/other/messages/events/", 1, "{}"))
	require.Equal(t, []byte{0x40, 2, 0, 1}, other.read(4))
	require.Less(t, time.Since(began), 5*time.Second, "its neighbour does not wait")
}

func TestMQTT5IsToldThatItsTenantSendsTooMuch(t *testing.T) {
	p := &pace{tenant: limiter(10)}
	at := time.Now()
	allowed := 0
	for range 200 {
		if p.allow(at) {
			allowed++
		}
	}
	require.LessOrEqual(t, allowed, 10*burstSeconds)
	require.Positive(t, allowed)
	require.True(t, p.allow(at.Add(20*time.Second)), "the bucket fills again")
	require.Equal(t, byte(0x97), endThrottled.puback)
}

// TestTheTenantsShareIsNotExceeded has connections take from one bucket in turns.
func TestTheTenantsShareIsNotExceeded(t *testing.T) {
	bucket := limiter(100)
	paces := []*pace{{tenant: bucket}, {tenant: bucket}, {tenant: bucket}}
	at := time.Now()
	allowed := 0
	for i := range 3000 {
		if paces[i%len(paces)].allow(at) {
			allowed++
		}
	}
	require.LessOrEqual(t, allowed, 100*burstSeconds)
	require.Greater(t, allowed, 100*burstSeconds-len(paces)*maxShare)
}

func TestHalfAPacketDoesNotStayForEver(t *testing.T) {
	c := &connection{}
	_, err := c.partial()
	require.NoError(t, err)
	c.begun = now().Add(-2 * packetTime)
	_, err = c.partial()
	require.ErrorIs(t, err, endSlowSender)
}
