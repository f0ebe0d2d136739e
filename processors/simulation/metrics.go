package simulation

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	devices   *prometheus.GaugeVec
	connected prometheus.Gauge
	messages  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		devices: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fleetlog_simulated_devices",
			Help: "Simulated devices that are this node's, by whether they run (running) or why not.",
		}, []string{"state"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fleetlog_simulated_devices_connected",
			Help: "Simulated devices of this node that are connected.",
		}),
		messages: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetlog_simulated_messages_total",
			Help: "Telemetry messages that simulated devices of this node have sent.",
		}),
	}
	reg.MustRegister(m.devices, m.connected, m.messages)
	return m
}
