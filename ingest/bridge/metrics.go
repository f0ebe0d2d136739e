package bridge

import "github.com/prometheus/client_golang/prometheus"

// metrics of all bridges, by bridge.
type metrics struct {
	received, appended, skipped, appendErrors, registered, reconnects *prometheus.CounterVec
	deadLettered                                                      *prometheus.CounterVec
	inflight, connected                                               *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetlog_bridge_" + name, Help: help}, append([]string{"bridge"}, labels...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fleetlog_bridge_" + name, Help: help}, []string{"bridge"})
	}
	m := &metrics{
		received:     counter("received_total", "Messages the broker delivered, repeated ones included."),
		appended:     counter("appended_total", "Messages the log has acknowledged as telemetry."),
		deadLettered: counter("dead_lettered_total", "Messages the log has acknowledged as dead letters, by reason.", "reason"),
		skipped:      counter("skipped_total", "Messages that the mapping left out."),
		appendErrors: counter("append_errors_total", "Messages the log did not take; the broker sends those of QoS 1 again."),
		registered:   counter("registered_total", "Devices the bridge registered."),
		reconnects:   counter("reconnects_total", "Attempts to connect after the first one."),
		inflight:     gauge("inflight", "Messages received and not yet on the log."),
		connected:    gauge("connected", "1 while the bridge is connected and subscribed."),
	}
	reg.MustRegister(m.received, m.appended, m.deadLettered, m.skipped, m.appendErrors, m.registered, m.reconnects, m.inflight, m.connected)
	return m
}

// bridgeMetrics are those of one bridge, looked up once.
type bridgeMetrics struct {
	received, appended, skipped, appendErrors, registered, reconnects prometheus.Counter
	deadLettered                                                      *prometheus.CounterVec
	inflight, connected                                               prometheus.Gauge
}

func (m *metrics) of(bridge string) *bridgeMetrics {
	return &bridgeMetrics{
		received: m.received.WithLabelValues(bridge), appended: m.appended.WithLabelValues(bridge),
		skipped: m.skipped.WithLabelValues(bridge), appendErrors: m.appendErrors.WithLabelValues(bridge),
		registered: m.registered.WithLabelValues(bridge), reconnects: m.reconnects.WithLabelValues(bridge),
		deadLettered: m.deadLettered.MustCurryWith(prometheus.Labels{"bridge": bridge}),
		inflight:     m.inflight.WithLabelValues(bridge), connected: m.connected.WithLabelValues(bridge),
	}
}
