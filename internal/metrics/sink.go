package metrics

import "github.com/prometheus/client_golang/prometheus"

// Sink are the metrics of one sink of events. It implements events.Counter.
type Sink struct{ delivered, dropped, retries prometheus.Counter }

// Sink are the metrics of the sink with this name, which the configuration gives.
func (m *Metrics) Sink(name string) *Sink {
	return &Sink{m.delivered.WithLabelValues(name), m.dropped.WithLabelValues(name), m.retries.WithLabelValues(name)}
}

// Delivered counts events that the sink has taken.
func (s *Sink) Delivered(n uint64) { s.delivered.Add(float64(n)) }

// Dropped counts events that it will never get.
func (s *Sink) Dropped(n uint64) { s.dropped.Add(float64(n)) }

// Retried counts attempts after the first one.
func (s *Sink) Retried(n uint64) { s.retries.Add(float64(n)) }
