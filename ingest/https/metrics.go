package https

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	connections prometheus.Gauge
	refused     prometheus.Counter
	messages    prometheus.Counter
	uploaded    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetlog_https_requests_total", Help: "Devices' HTTPS requests by operation and error code; ok when there was none."}, []string{"operation", "code"}),
		seconds:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fleetlog_https_request_seconds", Help: "Time a device's HTTPS request took.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}}, []string{"operation"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fleetlog_https_connections", Help: "Open HTTPS connections of devices, WebSockets among them."}),
		refused:     prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_https_connections_refused_total", Help: "Connections closed at once because their address makes too many."}),
		messages:    prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_https_messages_total", Help: "Messages from HTTPS that the log has acknowledged."}),
		uploaded:    prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetlog_https_uploaded_bytes_total", Help: "Bytes of files and blocks taken in."}),
	}
	reg.MustRegister(m.requests, m.seconds, m.connections, m.refused, m.messages, m.uploaded)
	return m
}
