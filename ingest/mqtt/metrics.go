package mqtt

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	connections          prometheus.Gauge
	accepted             prometheus.Counter
	ended                *prometheus.CounterVec
	messages             prometheus.Counter
	appendErrors         prometheus.Counter
	refused              *prometheus.CounterVec
	refusedSubscriptions prometheus.Counter
	delivered            *prometheus.CounterVec
	slowed               prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		connections:          prometheus.NewGauge(prometheus.GaugeOpts{Name: "fleetlog_mqtt_connections", Help: "Open device connections."}),
		accepted:             prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_mqtt_connects_accepted_total", Help: "Devices that were let in."}),
		ended:                prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetlog_mqtt_connections_ended_total", Help: "Connections that ended, refused ones included, by reason."}, []string{"reason"}),
		messages:             prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_mqtt_messages_total", Help: "Messages the log has acknowledged."}),
		appendErrors:         prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_mqtt_append_errors_total", Help: "Messages the log did not take; their devices send them again."}),
		refused:              prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetlog_mqtt_messages_refused_total", Help: "Messages refused with an MQTT 5 reason code while the connection went on, by reason."}, []string{"reason"}),
		refusedSubscriptions: prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_mqtt_subscriptions_refused_total", Help: "Topic filters refused."}),
		delivered:            prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetlog_mqtt_deliveries_total", Help: "Desired property changes, commands and messages sent to devices, by kind."}, []string{"kind"}),
		slowed:               prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_mqtt_messages_slowed_total", Help: "Messages that waited because their device or tenant sends more than it may."}),
	}
	reg.MustRegister(m.slowed, m.connections, m.accepted, m.ended, m.messages, m.appendErrors, m.refused, m.refusedSubscriptions, m.delivered)
	return m
}
