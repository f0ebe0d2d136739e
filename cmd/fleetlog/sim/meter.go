package sim

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Summary is what the fleet did.
type Summary struct {
	Devices  int
	Duration time.Duration
	Sent     int64   // messages given to MQTT
	Acked    int64   // with a PUBACK; at QoS 0: written to the socket
	Failed   int64   // without, because the connection or the time ended
	Rate     float64 // acknowledged messages/s

	// From publish to acknowledgement, 0 when none came.
	P50, P95, P99, Max time.Duration

	// Connections that couldn't be made or were lost, by reason.
	ConnectionFailures map[string]int
}

// String is the summary for people, several lines.
func (s Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d devices, %s: sent %d, acknowledged %d (%.0f/s), failed %d\n",
		s.Devices, s.Duration.Round(100*time.Millisecond), s.Sent, s.Acked, s.Rate, s.Failed)
	fmt.Fprintf(&b, "acknowledgement p50 %s, p95 %s, p99 %s, max %s\n", brief(s.P50), brief(s.P95), brief(s.P99), brief(s.Max))
	reasons := make([]string, 0, len(s.ConnectionFailures))
	for reason := range s.ConnectionFailures {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		fmt.Fprintf(&b, "%d × connection failed: %s\n", s.ConnectionFailures[reason], reason)
	}
	return b.String()
}

// brief keeps three digits or so of a latency.
func brief(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	default:
		return d.Round(time.Microsecond)
	}
}

const (
	maxLatency = time.Hour
	maxReasons = 16 // reasons are foreign text: keep their number bounded
)

func newHistogram() *hdrhistogram.Histogram { // of microseconds
	return hdrhistogram.New(1, maxLatency.Microseconds(), 3)
}

// meter counts what all devices do.
type meter struct {
	devices int
	began   time.Time

	connected, sent, acked, failed atomic.Int64

	mu      sync.Mutex
	window  *hdrhistogram.Histogram // since the last progress line
	total   *hdrhistogram.Histogram // before that
	reasons map[string]int
}

func newMeter(devices int) *meter {
	return &meter{devices: devices, began: time.Now(), window: newHistogram(), total: newHistogram(), reasons: map[string]int{}}
}

func (m *meter) acknowledged(took time.Duration) {
	m.acked.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.window.RecordValue(min(max(took, time.Microsecond), maxLatency).Microseconds()) // is in range
}

func (m *meter) connectionFailed(err error) {
	reason := err.Error()
	var network *net.OpError
	if errors.As(err, &network) { // its own text has a port that differs each time
		reason = network.Op + ": " + network.Err.Error()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.reasons[reason]; !known && len(m.reasons) >= maxReasons {
		reason = "other"
	}
	m.reasons[reason]++
}

// closeWindow returns the percentiles since the last call.
func (m *meter) closeWindow() (p50, p99 time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p50, p99 = quantile(m.window, 50), quantile(m.window, 99)
	m.total.Merge(m.window)
	m.window.Reset()
	return p50, p99
}

func (m *meter) summary() Summary {
	m.closeWindow()
	m.mu.Lock()
	defer m.mu.Unlock()
	took := time.Since(m.began)
	s := Summary{
		Devices: m.devices, Duration: took,
		Sent: m.sent.Load(), Acked: m.acked.Load(), Failed: m.failed.Load(),
		P50: quantile(m.total, 50), P95: quantile(m.total, 95), P99: quantile(m.total, 99),
		Max:                time.Duration(m.total.Max()) * time.Microsecond,
		ConnectionFailures: m.reasons,
	}
	s.Rate = float64(s.Acked) / took.Seconds()
	return s
}

func quantile(h *hdrhistogram.Histogram, percent float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(percent)) * time.Microsecond
}
