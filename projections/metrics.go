package projections

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	rows, blocks, retries, repaired, deleted prometheus.Counter
	blockRows, insertSeconds                 prometheus.Histogram
	deadLetters                              *prometheus.CounterVec
	lag, freshness                           *prometheus.GaugeVec
}

// newMetrics makes the metrics and registers them all, or fails.
func newMetrics(registerer prometheus.Registerer, projection string) (*metrics, error) {
	labels := prometheus.Labels{"projection": projection}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fleetlog", Subsystem: "projection", Name: name, Help: help, ConstLabels: labels})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "fleetlog", Subsystem: "projection", Name: name, Help: help, ConstLabels: labels}, []string{"partition"})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "fleetlog", Subsystem: "projection", Name: name, Help: help, ConstLabels: labels, Buckets: buckets})
	}
	m := &metrics{
		rows:          counter("rows_total", "Rows inserted."),
		blocks:        counter("blocks_total", "Blocks of rows inserted."),
		retries:       counter("retries_total", "Failed attempts at anything, each followed by another one."),
		repaired:      counter("repaired_rows_total", "Rows of an inserted block that were missing and were inserted again."),
		deleted:       counter("deleted_records_total", "Records that the log's retention deleted before they became rows."),
		blockRows:     histogram("block_rows", "Rows of a block.", prometheus.ExponentialBuckets(1, 4, 10)),
		insertSeconds: histogram("insert_seconds", "Time to insert a block, retries included.", prometheus.ExponentialBuckets(0.002, 2.5, 12)),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fleetlog", Subsystem: "projection",
			Name: "dead_letters_total", Help: "Records that are no row, by class of reason.", ConstLabels: labels}, []string{"reason"}),
		lag:       gauge("lag_records", "Records of the partition that are not rows yet."),
		freshness: gauge("freshness_seconds", "Age of the newest row when it became visible."),
	}
	for _, c := range []prometheus.Collector{m.rows, m.blocks, m.retries, m.repaired, m.deleted, m.blockRows, m.insertSeconds, m.deadLetters, m.lag, m.freshness} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of %s: %w", projection, err)
		}
	}
	return m, nil
}

// noMetrics are those that nobody sees.
func noMetrics(projection string) *metrics {
	m, err := newMetrics(prometheus.NewRegistry(), projection)
	if err != nil { // only of names that are not valid
		panic(err)
	}
	return m
}

// blockDone counts a block all of whose rows are visible.
func (m *metrics) blockDone(b *block, insert time.Duration) {
	m.blocks.Inc()
	m.rows.Add(float64(b.rows.len()))
	m.blockRows.Observe(float64(b.rows.len()))
	m.insertSeconds.Observe(insert.Seconds())
	if n := b.rows.len(); n > 0 {
		age := time.Since(time.UnixMilli(b.rows.loggedAt.of[n-1]))
		m.freshness.WithLabelValues(partitionLabel(b.partition)).Set(age.Seconds())
	}
}

// forget drops the gauges of a partition that others have now.
func (m *metrics) forget(partition int32) {
	m.lag.DeleteLabelValues(partitionLabel(partition))
	m.freshness.DeleteLabelValues(partitionLabel(partition))
}

func partitionLabel(partition int32) string { return strconv.Itoa(int(partition)) }
